//! Simulated hosts for tests and demonstrations: TPMs with maker-signed certificates and a measured boot.
//!
//! The binary `touchmark-sim` gives a command the devices that it asks for and takes them away when the
//! command ends. Nothing here is shared with the code that appraises evidence: TPM commands, certificates'
//! extensions and event logs are written by hand from the TCG specifications, so that a mistake in a parser
//! cannot hide behind the same mistake in the simulator.
//!
//! From the outside in:
//!
//! * [`cli`] and [`run`]: the command line, and one run from set-up to clean-up.
//! * [`dev`]: a whole small system around the devices: service, agents, a registration.
//! * [`simulation`]: all devices of a run; [`tpm`]: one TPM, made and booted.
//! * [`fault`]: what can be made wrong on purpose.
//! * [`boot`], [`ima`], [`ek`], [`nv`], [`pcr`], [`maker`]: what is put into a TPM, and who vouches for it.
//! * [`command`], [`swtpm`]: how a TPM is spoken to, and the program that plays it.
//! * [`hsm`]: tokens in SoftHSM.
//! * [`bus`], [`broker`], [`proxy`]: how several programs come to share one TPM.
//! * [`child`], [`folder`], [`janitor`], [`signals`]: processes and files that never outlive the run.

pub mod ak;
pub mod boot;
pub mod broker;
pub mod bus;
pub mod child;
pub mod cli;
pub mod command;
pub mod count;
pub mod describe;
pub mod dev;
pub mod ek;
pub mod error;
pub mod fault;
pub mod folder;
pub mod hsm;
pub mod ima;
pub mod janitor;
pub mod maker;
pub mod nv;
pub mod pcr;
pub mod ports;
pub mod primary;
pub mod programs;
pub mod proxy;
pub mod run;
pub mod signals;
pub mod simulation;
pub mod swtpm;
pub mod tpm;

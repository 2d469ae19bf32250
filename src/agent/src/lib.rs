//! The host daemon: attests, serves workloads, signs with held keys.
//!
//! [`run`] attests at start, with back-off, and again before the host's certificate ends. Workloads connect to a Unix
//! socket, are identified as far as the kernel allows ([`caller`]), matched to the registrations that the service has for
//! this host, and get credentials for keys made and certified in the TPM ([`local`]).

mod attestation;
pub mod caller;
mod channel;
mod collected;
mod config;
mod follow;
mod host_identity;
mod identities;
mod issue;
mod keeper;
mod kept;
mod key_files;
pub mod local;
mod passport;
mod proof;
mod reattestation;
mod renewal;
mod reported;
mod run;
mod session;
mod trust;
mod workload_key;
mod workloads;

pub use attestation::AttestationError;
pub use channel::ChannelError;
pub use config::{Config, ConfigError};
pub use host_identity::HostIdentity;
pub use local::SocketError;
pub use run::{AgentError, run};

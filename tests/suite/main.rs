//! The one test binary of this crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod addresses;
mod architecture;
mod authority;
mod bus;
mod calls;
mod clouds;
mod daemons;
mod device;
mod documents;
mod evidence;
mod hosts;
mod hsm_hosts;
mod interposer;
mod lives;
mod memory;
mod naming;
mod offline;
mod operators;
mod policy;
mod protocol;
mod reboot;
mod references;
mod relabelled;
mod relay;
mod requirements;
mod results;
mod runtime;
mod standing;
mod tokens;
mod trust;
mod vectors;
mod verifiers;
mod workloads;

//! What the tests stand on: simulated hosts, forged evidence, running services.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support fails loudly"
)]

pub mod calls;
pub mod clock;
pub mod count;
pub mod dev;
pub mod modules;
pub mod ports;
pub mod power;
pub mod search;
pub mod sim;
pub mod subject;
pub mod verifier;
pub mod wire;

//! The socket that workloads connect to, and the service behind it (`touchmark.agent.v1.WorkloadIdentity`).
//!
//! Any user of the host may connect: what a caller gets follows from what it is ([`crate::caller`]), looked at anew for
//! each request. [`LocalSocket`] takes a path that nobody else can hold or swap. [`serve`] answers there, within
//! [`Limits`] that keep one user from crowding out the others, with what [`Identities`] decides.

mod activity;
mod admission;
mod held;
mod identities;
mod limits;
mod serve;
mod service;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

pub use identities::{
    BundleHeld, Denied, HostState, Identities, KeyInfo, Proof, ProofFor, Status, WitHeld, X509Held,
};
pub use limits::Limits;
pub use serve::{serve, serve_within};
pub use socket::{LocalSocket, SocketError};

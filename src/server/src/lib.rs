//! The credential service: judges hosts, issues to them and their workloads, and answers its operators.
//!
//! Three listeners and a socket: `listen.attest` for hosts without a certificate, `listen.hosts` for mutual TLS,
//! `listen.bundle` for anybody who wants the trust bundle, and a local socket for operators. All of them share one
//! [`Service`]; what has to last is in the store before an answer leaves.

mod admin;
mod allowlist_admin;
mod attempt;
mod attest;
pub mod ca;
mod capacity;
mod config;
mod error;
mod greet;
mod holders;
mod host;
mod issue;
mod keys;
mod labels;
mod limits;
mod listen;
mod message;
mod operator;
mod own;
mod policy;
mod policy_admin;
mod reattest;
mod reference_admin;
mod refuse;
mod result_admin;
mod run;
mod runtime;
mod service;
mod standing;
mod stream;
mod verifiers;

pub use config::{Config, MakerConfig};
pub use error::ServerError;
pub use holders::{Holder, Holders};
pub use run::run;
pub use service::Service;
pub use verifiers::OtherVerifier;

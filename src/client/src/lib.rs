//! Workload identity for Rust programs: mutual TLS and proofs in HTTP requests, with private keys that stay in the host's TPM,
//! HSM or confidential VM.
//!
//! A program asks the agent on its host who it is, and goes on hearing of it: a [`Source`] holds the identity as it is now.
//! [`Listener`] and [`Connector`] speak TLS 1.3 under it and judge peers by identifier ([`Peers`]); their connections end when
//! the identity is withdrawn, and when the peer's no longer holds. [`Proving`] and [`Proved`] are tower layers that put a
//! Workload Identity Token with its proof into HTTP requests and verify them on the other side. [`client_config`] and
//! [`server_config`] are for whoever brings connections of their own.
//!
//! ```no_run
//! # async fn serve(app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! use touchmark_client::{Listener, Peers, Source};
//!
//! let source = Source::connect().await?;
//! let peers = Peers::only(["spiffe://example.org/payments/web"])?;
//! let listener = Listener::bind("0.0.0.0:8443", &source, peers).await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The specifications behind it: draft-ietf-wimse-mutual-tls (checks of peers), draft-ietf-wimse-workload-creds and
//! draft-ietf-wimse-wpt (tokens and proofs).

pub mod agent;
mod background;
mod client;
mod connection;
mod connector;
mod handshake;
mod identity;
mod key;
mod listener;
mod peers;
mod proved;
mod proving;
mod source;
mod tls;
mod trust;

pub use client::{CallError, Client};
pub use connection::Connection;
pub use connector::Connector;
pub use identity::{Identity, Wit, X509};
pub use listener::Listener;
pub use peers::{NotAccepted, Peer, Peers};
pub use proved::{Caller, Proved, ProvedService};
pub use proving::{Proving, ProvingError, ProvingService};
pub use source::{Builder, Proof, ProofError, Source, SourceError, State};
pub use tls::{client_config, server_config};
pub use touchmark_custody::Class;
pub use touchmark_identity::{TrustDomain, WorkloadId};
pub use touchmark_wimse::{TokenError, wpt::Profile};
pub use trust::Trust;

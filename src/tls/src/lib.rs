//! TLS 1.3 for Touchmark's channels: peers judged by identifier, held keys as signers, and what a daemon
//! needs of the operating system before anything else: a clock, and files that nobody else could have changed.
//!
//! Between our own parts only TLS 1.3 is spoken, X25519MLKEM768 is preferred, sessions are never resumed and early data
//! never accepted: whoever connects is judged anew.

pub mod clock;
mod config;
mod current;
pub mod files;
mod held;
mod pinned;
mod signatures;
mod verifier;

pub use config::{ConfigError, host_client, provider, server, web_client};
pub use current::Current;
pub use held::identity;
pub use pinned::{Pins, Seen};
pub use signatures::Signatures;
pub use verifier::{PeerError, Role, peer};

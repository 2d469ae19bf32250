//! Credentials of the WIMSE drafts: what goes into them, minted over one JOSE and one X.509.
//!
//! [`wic`]: workload identity certificates (draft-ietf-wimse-workload-creds; usable as X509-SVIDs as well). [`wit`]:
//! workload identity tokens. [`wpt`]: the proofs that go with them (draft-ietf-wimse-wpt). [`bundle`]: the trust domain's
//! keys as others take them. Times are arguments; keys are [`touchmark_crypto::Signer`]s.

pub mod bundle;
mod claims;
mod issuers;
mod refusal;
pub mod wic;
pub mod wit;
pub mod wpt;

pub use issuers::{Issuer, Issuers};
pub use refusal::TokenError;

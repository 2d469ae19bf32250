//! The vocabulary of attestation (RFC 9334), shared by both ends of the protocol and by every platform.
//!
//! Evidence arrives in a conceptual message wrapper ([`cmw`]); everything that carries or signs freshness does so over
//! one [`Binding`]; an [`Appraiser`] turns evidence of one platform into named [`Check`]s and [`Claims`]; what could not
//! be believed becomes a [`Refusal`] with a stable [`Reason`]; what was concluded travels as an EAR ([`ear`]).
//!
//! Nothing here reads a clock, a file or a socket.

mod appraiser;
mod binding;
pub mod cbor;
mod check;
mod claims;
pub mod cmw;
pub mod corim;
pub mod ear;
pub mod eat;
mod measurement;
pub mod possession;
mod reason;
pub mod token;
pub mod tpm;

pub use appraiser::{
    Appraisal, Appraiser, Assurance, AttestedKey, BootCounters, Candidate, CertifiedKey, Expected,
    KeyCertificate, KnownFiles, MakerKind, Opening, RuntimeList, RuntimeState, Sealed, Voucher,
};
pub use binding::{BIND_LABEL, Binding, Purpose, message_mac_key, pop_message, rest_digest};
pub use check::{Check, Outcome, Refusal, Retry};
pub use claims::{ClaimValue, Claims};
pub use measurement::{MeasuredEvent, PcrBank, PcrSelection, RUNTIME_REGISTER};
pub use reason::Reason;

//! Other verifiers (RFC 9334, section 5): evidence is given to one over the challenge-response API of Veraison's services, as [`Endpoint`], and
//! a signed result comes back. Whoever asked judges it: `touchmark_rats::ear::rely`.
//!
//! An HTTP status says nothing about trust, and nothing that a verifier answers makes this client go anywhere else than where it was
//! configured to go.

mod endpoint;
mod evidence;
mod session;
mod unanswered;

pub use endpoint::{Endpoint, EndpointError, MAX_TIMEOUT, MAX_VERIFIERS, ask_all};
pub use evidence::{EVIDENCE_TYPE, HostEvidence};
pub use unanswered::Unanswered;

//! Attestation results (draft-ietf-rats-ear): issued in profile ear-03, read in that and in the two that deployed verifiers emit.

mod host;
mod issue;
mod presented;
mod read;
mod rely;

pub use host::HostAppraisal;
pub use issue::{Ear, HostResult, KeyClaims, KeyResult, MEDIA_TYPE};
pub use presented::Presented;
pub use read::{AppraisedSubmodule, AttestationResult, Profile, Tier, VECTOR_CLAIMS};
pub use rely::{Demands, EvidenceKey, Nonce, Occasion, Relied, is_of_results, rely};

/// The profile of what is issued.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#03";

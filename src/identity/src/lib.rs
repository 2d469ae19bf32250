//! Trust domains and workload identifiers: parse, never repair.
//!
//! A workload is named by an absolute URI whose authority is its trust domain (draft-ietf-wimse-identifier). Two
//! naming schemes are known: `spiffe`, whose syntax is that of SPIFFE-ID, and `wimse`, of which only the canonical
//! form is accepted: lower case up to the path, no percent-encoding, no empty or dot segments.
//!
//! Three rules run through the crate:
//!
//! * A [`WorkloadId`] or a [`TrustDomain`] exists only if its text was valid, and keeps that text byte for byte.
//!   Nothing is lower-cased, decoded, trimmed or resolved, neither while parsing nor while comparing.
//! * Identifiers are compared whole. A trust domain is the pair of scheme and name: the same host text under
//!   `spiffe` and under `wimse` is two trust domains. There is no prefix match to misuse.
//! * Valid is not trusted. A parsed identifier says how something is called, not that anyone vouched for it.
//!
//! Nothing here reads a file, a clock or the network.
//!
//! ```
//! use touchmark_identity::{TrustDomain, WorkloadId};
//!
//! let domain = TrustDomain::parse_origin("spiffe://example.org")?;
//! let api = WorkloadId::parse("spiffe://example.org/payments/api")?;
//! assert!(api.is_in(&domain));
//! assert_eq!(api.path(), "/payments/api");
//!
//! let refused = WorkloadId::parse("spiffe://Example.org/payments/api").unwrap_err();
//! assert_eq!(refused.reason(), "upper_case");
//! # Ok::<(), touchmark_identity::IdentifierError>(())
//! ```

mod error;
mod ip;
mod naming;
mod scheme;
mod trust_domain;
mod uri;
mod workload_id;

pub use error::{IdentifierClass, IdentifierError};
pub use naming::Naming;
pub use scheme::{OwnScheme, Scheme};
pub use trust_domain::TrustDomain;
pub use workload_id::WorkloadId;

/// There is no way from text to an identifier or a trust domain but to parse it, and the two are not each other:
///
/// ```compile_fail
/// # use touchmark_identity::WorkloadId;
/// fn named(text: &str) -> WorkloadId { text.into() }
/// ```
///
/// ```compile_fail
/// # use touchmark_identity::{TrustDomain, WorkloadId};
/// fn is_in(id: &WorkloadId, domain: &TrustDomain) -> bool { id.is_in("spiffe://example.org") }
/// ```
///
/// ```compile_fail
/// # use touchmark_identity::{TrustDomain, WorkloadId};
/// fn same(id: &WorkloadId, domain: &TrustDomain) -> bool { id == domain }
/// ```
///
/// ```
/// # use touchmark_identity::{IdentifierError, TrustDomain, WorkloadId};
/// fn named(text: &str) -> Result<WorkloadId, IdentifierError> { text.parse() }
/// fn is_in(id: &WorkloadId, domain: &TrustDomain) -> bool { id.is_in(domain) }
/// fn same(id: &WorkloadId, domain: &TrustDomain) -> bool { id.trust_domain() == domain }
/// ```
#[cfg(doctest)]
fn r010_what_was_not_parsed_is_no_identifier() {}

//! From what was attested and what is registered to a credential.
//!
//! [`Registration`]s map attested attributes to one identifier. A [`Grant`] exists only where a registration, an attested
//! key of sufficient custody and the kind asked for come together; only a grant becomes a credential, and only for the
//! key in it. There is no path from a bare public key or a certificate request to a credential.

mod authority;
mod credential;
mod duration;
mod grant;
mod registration;

pub use authority::{Authority, IssueError};
pub use credential::Credential;
pub use duration::parse_duration;
pub use grant::{Grant, Kind, class_of, grant};
pub use registration::{
    HostSelector, MAX_REGISTRATIONS, Registration, RegistrationError, RegistrationFile, WorkloadSelector,
};

/// A registration, and so a grant, names an identifier that was read for the trust domain. A string is none:
///
/// ```compile_fail
/// # use touchmark_issuer::Registration;
/// fn renamed(registration: Registration, identifier: &str) -> Registration {
///     Registration { identifier: identifier.into(), ..registration }
/// }
/// ```
///
/// ```
/// # use touchmark_issuer::Registration;
/// fn renamed(registration: Registration, identifier: touchmark_identity::WorkloadId) -> Registration {
///     Registration { identifier: identifier.into(), ..registration }
/// }
/// ```
///
/// A grant is made by [`grant`] alone, and a credential from a grant alone:
///
/// ```compile_fail
/// # use touchmark_issuer::{Authority, IssueError};
/// # use touchmark_crypto::SystemEntropy;
/// fn issued(authority: &Authority, attested: &touchmark_verifier::Attested) -> Result<(), IssueError> {
///     authority.issue("spiffe://example.org/a", attested, [0; 32], &SystemEntropy).map(|_| ())
/// }
/// ```
///
/// ```
/// # use touchmark_issuer::{Authority, Grant, IssueError};
/// # use touchmark_crypto::SystemEntropy;
/// fn issued(authority: &Authority, grant: &Grant, attested: &touchmark_verifier::Attested) -> Result<(), IssueError> {
///     authority.issue(grant, attested, [0; 32], &SystemEntropy).map(|_| ())
/// }
/// ```
#[cfg(doctest)]
fn r010_raw_strings_are_not_authorized() {}

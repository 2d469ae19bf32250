//! What the service remembers. Each method that writes is one transaction, durable before it returns: an answer that
//! leaves has its row on disk.

mod certified;
mod consume;
mod error;
mod events;
mod evidence;
mod files;
mod hosts;
mod open;
mod policies;
mod references;
mod registrations;
mod standing;

pub use certified::CertifiedKey;
pub use consume::{Admitted, Consumed, Consumption, Issuance, RefusedAttempt, Stored};
pub use error::StoreError;
pub use events::{Event, StoredRefusal};
pub use evidence::{Kept, RuntimeKept};
pub use files::FilesText;
pub use hosts::{AttestationKey, Enrolled, Host, NewHost, Pending};
pub use open::Store;
pub use policies::PolicyText;
pub use references::{Entry, Generation};
pub use registrations::{Change, StoredRegistration};
pub use standing::{Reattested, Seen};

/// What is recorded as issued is a credential that the authority has signed, not the name that somebody gave:
///
/// ```compile_fail
/// # use touchmark_store::Issuance;
/// fn audited(identifier: &str) -> Issuance {
///     Issuance { registration: "payments/api".into(), registered: "{}".into(), credential: identifier.into(), certified: None }
/// }
/// ```
///
/// ```
/// # use touchmark_store::Issuance;
/// fn audited(credential: touchmark_issuer::Credential) -> Issuance {
///     Issuance { registration: "payments/api".into(), registered: "{}".into(), credential: credential.into(), certified: None }
/// }
/// ```
#[cfg(doctest)]
fn r010_raw_strings_are_not_audited_as_identities() {}

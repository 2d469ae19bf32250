//! From what was attested and what is registered to a credential.
//!
//! [`Registration`]s map attested attributes to one identifier. A [`Grant`] exists only where a registration, an attested
//! key of sufficient custody and the kind asked for come together; only a grant becomes a credential, and only for the
//! key in it. There is no path from a bare public key or a certificate request to a credential.

mod authority;
mod duration;
mod grant;
mod registration;

pub use authority::{Authority, Credential, HostCertificate, IssueError};
pub use duration::parse_duration;
pub use grant::{Grant, Kind, class_of, grant};
pub use registration::{
    HostSelector, MAX_REGISTRATIONS, Registration, RegistrationError, RegistrationFile, WorkloadSelector,
};

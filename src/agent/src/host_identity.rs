//! What a host holds after it attested.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use touchmark_api::{
    device::KeyDescription,
    host::{Bundle, Registration},
};

/// A host's credential and what came with it. The key is sealed to the boot state it was certified in.
#[derive(Debug, Clone)]
pub struct HostIdentity {
    /// The host's record.
    pub host: String,
    /// Its name, as the operator calls it.
    pub name: String,
    /// The identifier in its certificate.
    pub identifier: String,
    /// End of its certificate, seconds since the epoch.
    pub not_after: u64,
    /// When it was issued, seconds since the epoch.
    pub issued_at: u64,
    /// Resets of the TPM when it attested.
    pub(crate) reset_count: u32,
    /// The trust bundle.
    pub bundle: Bundle,
    /// What this host may ask for.
    pub registrations: Vec<Registration>,
    /// The key, as its device described it.
    pub(crate) key: KeyDescription,
    /// Chain and held key for mutual TLS.
    pub(crate) certified: Arc<CertifiedKey>,
}

//! Registrations: who gets which identifier.

mod file;

use touchmark_custody::{Class, KeyUse};
use touchmark_identity::{TrustDomain, WorkloadId};

use crate::Kind;

pub use file::{HostSelector, MAX_REGISTRATIONS, RegistrationError, RegistrationFile, WorkloadSelector};

/// One registration, checked for the trust domain that it was read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Unique within the label.
    pub name: String,
    /// The identifier: of this trust domain, none of the service's own.
    pub identifier: WorkloadId,
    /// Hosts; `None`: any attested host.
    pub host: Option<HostSelector>,
    /// Processes.
    pub workload: WorkloadSelector,
    /// Kinds of credential.
    pub kinds: Vec<Kind>,
    /// Custody classes that may satisfy it.
    pub custody: Vec<Class>,
    /// Who may use the key.
    pub usage: KeyUse,
    /// Life of its credentials in seconds.
    pub lifetime: u64,
    /// DNS names in its certificates.
    pub dns_names: Vec<String>,
}

impl Registration {
    /// Reads a registration that was stored, for the trust domain that it is used in now.
    ///
    /// # Errors
    ///
    /// Says which field does not hold, as for a file.
    pub fn from_json(text: &str, trust_domain: &TrustDomain) -> Result<Self, RegistrationError> {
        let entry: file::Entry =
            serde_json::from_str(text).map_err(|error| RegistrationError::Toml(error.to_string()))?;
        entry.check(trust_domain)
    }

    /// The form in which it is stored and shown: the fields of a file, JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&file::Entry::from(self)).unwrap_or_default()
    }

    /// Whether it is for a host with this name and these labels.
    pub fn is_for_host(&self, name: &str, labels: &[String]) -> bool {
        match &self.host {
            None => true,
            Some(selector) => {
                selector.names.iter().any(|wanted| wanted == name)
                    || selector.labels.iter().any(|wanted| labels.contains(wanted))
            }
        }
    }
}

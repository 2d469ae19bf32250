//! The service's keys: made in a TPM or a PKCS#11 token, found again by files that hold no secret, refused when one could be exported.

use std::path::{Path, PathBuf};

use touchmark_crypto::Purpose;
use touchmark_custody::{HeldKey, KeyBackend, KeyReference, NewKey, Seal};
use touchmark_identity::TrustDomain;

use touchmark_tls::files;

use crate::ServerError;

/// Longest label of a key, in bytes.
const MAX_LABEL: usize = 64;

/// One of the service's keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// What it is, for messages and as its file's name.
    pub(crate) name: &'static str,
    /// What it signs.
    pub(crate) purposes: &'static [Purpose],
}

/// The offline root.
pub(crate) const ROOT: Role = Role {
    name: "root",
    purposes: &[Purpose::Certificate],
};
/// The intermediate that issues.
pub(crate) const INTERMEDIATE: Role = Role {
    name: "intermediate",
    purposes: &[Purpose::Certificate, Purpose::CertificateRequest],
};
/// The key that signs tokens.
pub(crate) const WIT: Role = Role {
    name: "wit",
    purposes: &[Purpose::Wit],
};
/// The key that signs attestation results.
pub(crate) const RESULT: Role = Role {
    name: "result",
    purposes: &[Purpose::AttestationResult],
};
/// The key that serves TLS.
pub(crate) const TLS: Role = Role {
    name: "tls",
    purposes: &[Purpose::TlsHandshake],
};

impl Role {
    /// Where the key rests, if it is there: a file that ends by what holds it. Two of them are an error: nobody knows which is meant.
    fn found(self, folder: &Path) -> Result<Option<PathBuf>, ServerError> {
        let paths = KeyReference::ENDINGS.map(|ending| self.path(folder, ending));
        let mut there: Vec<PathBuf> = paths.into_iter().filter(|path| path.exists()).collect();
        match there.len() {
            0 | 1 => Ok(there.pop()),
            _ => Err(ServerError::Other(format!(
                "{}: there are two keys of this name in {}: take away the one that is not meant",
                self.name,
                folder.display()
            ))),
        }
    }

    fn path(self, folder: &Path, ending: &str) -> PathBuf {
        folder.join(format!("{}.{ending}", self.name))
    }

    /// Opens the key, or makes it where there is none; `of` is whose it is, for tokens in which keys have names.
    pub(crate) fn open_or_create(
        self,
        folder: &Path,
        backend: &dyn KeyBackend,
        of: &TrustDomain,
    ) -> Result<HeldKey, ServerError> {
        if self.found(folder)?.is_none() {
            self.create(folder, backend, of)?;
        }
        self.open(folder, backend)
    }

    /// Makes the key.
    fn create(self, folder: &Path, backend: &dyn KeyBackend, of: &TrustDomain) -> Result<(), ServerError> {
        let label = format!("touchmark {} {}", self.name, of.name());
        let wanted = NewKey {
            // Tokens have little room for names, and their users want to see whose a key is.
            label: label.get(..MAX_LABEL).unwrap_or(&label),
            seal: Seal::None,
        };
        let key = backend.create(&wanted)?;
        let text = key
            .to_file()
            .map_err(|error| ServerError::Other(error.to_string()))?;
        let path = self.path(folder, key.ending());
        Ok(files::write_private(&path, text.as_bytes())?)
    }

    /// Where the key is.
    pub(crate) fn reference(self, folder: &Path) -> Result<KeyReference, ServerError> {
        let path = self.found(folder)?;
        let path = path.unwrap_or_else(|| self.path(folder, KeyReference::ENDINGS[0]));
        let bytes = files::read_private(&path)?;
        KeyReference::from_file(&bytes).map_err(|error| ServerError::File {
            path,
            what: format!("{error}; restore it from a backup"),
        })
    }

    /// Opens the key; one that could leave its device is refused.
    pub(crate) fn open(self, folder: &Path, backend: &dyn KeyBackend) -> Result<HeldKey, ServerError> {
        let key = self.reference(folder)?;
        let held = backend.open(&key, self.purposes)?;
        if held.exportable() {
            return Err(ServerError::Exportable(self.name));
        }
        Ok(held)
    }
}

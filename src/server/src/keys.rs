//! The service's keys: made in its device, at rest as TSS2 PRIVATE KEY files, refused when one could be exported.

use std::path::{Path, PathBuf};

use touchmark_crypto::Purpose;
use touchmark_custody::{HeldKey, KeyBackend, Seal, tss2::Tss2Key};

use touchmark_tls::files;

use crate::ServerError;

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
    /// Where the key rests.
    pub(crate) fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.tss2", self.name))
    }

    /// Opens the key, or makes it where there is none.
    pub(crate) fn open_or_create(
        self,
        folder: &Path,
        backend: &dyn KeyBackend,
    ) -> Result<HeldKey, ServerError> {
        if !self.path(folder).exists() {
            self.create(folder, backend)?;
        }
        self.open(folder, backend)
    }

    /// Makes the key. One that exists is never replaced.
    pub(crate) fn create(self, folder: &Path, backend: &dyn KeyBackend) -> Result<(), ServerError> {
        let path = self.path(folder);
        if path.exists() {
            return Err(ServerError::File {
                path,
                what: "exists already and is not replaced".into(),
            });
        }
        let key = backend.create(&Seal::None)?;
        let pem = key
            .to_pem()
            .map_err(|error| ServerError::Other(error.to_string()))?;
        Ok(files::write_private(&path, pem.as_bytes())?)
    }

    /// Opens the key; one that could leave its device is refused.
    pub(crate) fn open(self, folder: &Path, backend: &dyn KeyBackend) -> Result<HeldKey, ServerError> {
        let path = self.path(folder);
        let pem = files::read_private(&path)?;
        let key = Tss2Key::from_pem(&pem).map_err(|error| ServerError::File {
            path,
            what: format!("{error}; restore it from a backup"),
        })?;
        let held = backend.open(&key, self.purposes)?;
        if held.exportable() {
            return Err(ServerError::Exportable(self.name));
        }
        Ok(held)
    }
}

//! Workloads' keys at rest: TSS2 PRIVATE KEY files, which no other TPM can load, in a folder of the agent's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use touchmark_custody::tss2::Tss2Key;
use touchmark_tls::files::{self, FileError};

/// The folder of key files, one per handle. The disk may be slow: it is waited for on threads that may block.
pub(crate) struct KeyFiles(PathBuf);

impl KeyFiles {
    /// Opens the folder. Keys of an earlier run go, but for those whose handles are named.
    pub(crate) fn open(state: &Path, kept: &[String]) -> Result<Self, FileError> {
        let folder = state.join("keys");
        files::private_folder(&folder)?;
        let failed = |error: std::io::Error| FileError {
            path: folder.clone(),
            what: error.to_string(),
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_kept = path
                .file_stem()
                .is_some_and(|stem| kept.iter().any(|handle| stem == handle.as_str()));
            if path.extension().is_some_and(|extension| extension == "tss2") && !is_kept {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(Self(folder))
    }

    /// Writes the key of a handle, 0600.
    pub(crate) async fn write(&self, handle: &str, der: &[u8]) -> Result<(), String> {
        let pem = Tss2Key::from_der(der)
            .and_then(|key| key.to_pem())
            .map_err(|error| error.to_string())?;
        let path = self.path(handle);
        tokio::task::spawn_blocking(move || files::write_private(&path, pem.as_bytes()))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Removes the keys of handles; one that is gone already is as good as removed.
    pub(crate) async fn remove(&self, handles: Vec<String>) {
        if handles.is_empty() {
            return;
        }
        let paths: Vec<PathBuf> = handles.iter().map(|handle| self.path(handle)).collect();
        let removed = tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = fs::remove_file(path) {
                    tracing::debug!(%error, "a key file could not be removed");
                }
            }
        });
        let _ = removed.await;
    }

    fn path(&self, handle: &str) -> PathBuf {
        self.0.join(format!("{handle}.tss2"))
    }
}

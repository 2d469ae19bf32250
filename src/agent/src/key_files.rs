//! Workloads' keys at rest, in a folder of the agent's own: TSS2 PRIVATE KEY files, which no other TPM can load, and the PKCS#11 URIs of
//! keys in a token. A key in a token is destroyed with its file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use touchmark_custody::KeyReference;
use touchmark_helper::Token;
use touchmark_tls::files::{self, FileError};

/// The folder of key files, one per handle. Disk and token may be slow: they are waited for on threads that may block.
#[derive(Debug, Clone)]
pub(crate) struct KeyFiles {
    folder: PathBuf,
    token: Option<Token>,
}

impl KeyFiles {
    /// Opens the folder. Keys of an earlier run go, but for those whose handles are named; those in the token as soon as it answers.
    pub(crate) fn open(state: &Path, token: Option<Token>, kept: &[String]) -> Result<Self, FileError> {
        let folder = state.join("keys");
        files::private_folder(&folder)?;
        let failed = |error: std::io::Error| FileError {
            path: folder.clone(),
            what: error.to_string(),
        };
        let mut gone = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let ends = |endings: &[&str]| {
                path.extension()
                    .is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
            };
            let is_kept = path
                .file_stem()
                .is_some_and(|stem| kept.iter().any(|handle| stem == handle.as_str()));
            if ends(&KeyReference::ENDINGS) && !is_kept {
                gone.push(path);
            }
        }
        let (in_token, files): (Vec<_>, Vec<_>) = gone
            .into_iter()
            .partition(|path| path.extension().is_some_and(|ending| ending == "uri"));
        for path in files {
            fs::remove_file(&path).map_err(failed)?;
        }
        let opened = Self { folder, token };
        if !in_token.is_empty() {
            let files = opened.clone();
            std::thread::spawn(move || in_token.iter().for_each(|path| files.destroy(path)));
        }
        Ok(opened)
    }

    /// Writes where the key of a handle is, 0600.
    pub(crate) async fn write(&self, handle: &str, key: &KeyReference) -> Result<(), String> {
        let text = key.to_file().map_err(|error| error.to_string())?;
        let path = self.path(handle, key.ending());
        tokio::task::spawn_blocking(move || files::write_private(&path, text.as_bytes()))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Removes the keys of handles; one that is gone already is as good as removed.
    pub(crate) async fn remove(&self, handles: Vec<String>) {
        if handles.is_empty() {
            return;
        }
        let files = self.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let [tss2, uri] = KeyReference::ENDINGS;
            for handle in handles {
                remove_file(&files.path(&handle, tss2));
                let in_token = files.path(&handle, uri);
                if in_token.exists() {
                    files.destroy(&in_token);
                }
            }
        });
        let _ = removed.await;
    }

    /// Destroys the key in the token that a file names, and then removes the file. Where the token does not answer the file stays: the
    /// next start of the agent tries again.
    fn destroy(&self, path: &Path) {
        let reference = files::read_private(path)
            .ok()
            .and_then(|bytes| KeyReference::from_file(&bytes).ok());
        let Some(token) = &self.token else {
            tracing::warn!(path = %path.display(), "a key in a token that configuration no longer names stays in it");
            return;
        };
        match reference {
            Some(KeyReference::Pkcs11(uri)) => match token.destroy_key(&uri.to_string()) {
                Ok(()) => remove_file(path),
                Err(error) if error.is_no_key() => remove_file(path),
                Err(error) => tracing::warn!(%error, %uri, "a key that is no longer used stays in its token"),
            },
            _ => remove_file(path),
        }
    }

    fn path(&self, handle: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{handle}.{ending}"))
    }
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "a key file could not be removed");
    }
}

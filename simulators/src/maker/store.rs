//! A maker that outlives a run, so that a root that relying parties pinned stays good.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rcgen::KeyPair;

use super::{Parts, maker_error};
use crate::error::SimError;

const ROOT_KEY: &str = "root.key";
const ROOT: &str = "root.pem";
const INTERMEDIATE_KEY: &str = "intermediate.key";
const INTERMEDIATE: &str = "intermediate.pem";
const FILES: [&str; 4] = [ROOT_KEY, ROOT, INTERMEDIATE_KEY, INTERMEDIATE];

/// The maker of `folder`, which is made if it is not there. Several runs may do this at once.
pub(super) fn load_or_make(folder: &Path) -> Result<Parts, SimError> {
    if !folder.exists() {
        fs::create_dir_all(folder).map_err(SimError::unusable(folder))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(SimError::unusable(folder))?;
    }
    // Released when the file is closed, whatever ends this process.
    let lock = private_file(&folder.join(".lock")).map_err(SimError::unusable(folder))?;
    lock.lock().map_err(SimError::unusable(folder))?;

    let missing: Vec<_> = FILES
        .into_iter()
        .filter(|name| !folder.join(name).exists())
        .collect();
    match missing.first() {
        None => load(folder),
        Some(_) if missing.len() == FILES.len() => {
            let parts = Parts::make()?;
            save(folder, &parts).map_err(SimError::unusable(folder))?;
            Ok(parts)
        }
        Some(missing) => Err(SimError::MakerIncomplete {
            path: folder.to_owned(),
            missing,
        }),
    }
}

fn load(folder: &Path) -> Result<Parts, SimError> {
    let read = |name| fs::read_to_string(folder.join(name)).map_err(SimError::unusable(&folder.join(name)));
    Ok(Parts {
        root_key: KeyPair::from_pem(&read(ROOT_KEY)?).map_err(maker_error("root key"))?,
        root: read(ROOT)?,
        intermediate_key: KeyPair::from_pem(&read(INTERMEDIATE_KEY)?)
            .map_err(maker_error("intermediate key"))?,
        intermediate: read(INTERMEDIATE)?,
    })
}

fn save(folder: &Path, parts: &Parts) -> io::Result<()> {
    for (name, content) in [
        (ROOT_KEY, &parts.root_key.serialize_pem()),
        (ROOT, &parts.root),
        (INTERMEDIATE_KEY, &parts.intermediate_key.serialize_pem()),
        (INTERMEDIATE, &parts.intermediate),
    ] {
        private_file(&folder.join(name))?.write_all(content.as_bytes())?;
    }
    Ok(())
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::super::Maker;
    use super::*;

    #[test]
    fn a_kept_maker_stays_the_same_and_its_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("maker");
        let first = Maker::kept_in(&folder).unwrap();
        let second = Maker::kept_in(&folder).unwrap();
        assert_eq!(first.root(), second.root());
        assert_eq!(first.intermediate(), second.intermediate());
        for name in FILES {
            assert_eq!(
                fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
        assert_ne!(Maker::fresh().unwrap().root(), first.root());
    }

    #[test]
    fn a_maker_with_a_missing_file_is_not_silently_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Maker::kept_in(folder.path()).unwrap();
        fs::remove_file(folder.path().join(ROOT_KEY)).unwrap();
        let error = Maker::kept_in(folder.path()).unwrap_err();
        assert!(
            matches!(
                error,
                SimError::MakerIncomplete {
                    missing: ROOT_KEY,
                    ..
                }
            ),
            "{error}"
        );
    }
}

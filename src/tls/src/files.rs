//! Files and folders that decide about security: written durably, and refused when others could have changed them.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use touchmark_crypto::Secret;

/// A file or folder that cannot be read, written or trusted.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}", path = path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it and what to do.
    pub what: String,
}

fn refused(path: &Path, what: impl Into<String>) -> FileError {
    FileError {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> FileError + '_ {
    move |error| refused(path, error.to_string())
}

/// Whether `uid` is one whose files this process trusts: root's and its own.
fn trusted(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// Opens a regular file to read: a pipe or device in its place is refused, and not waited for.
fn open_regular(path: &Path) -> Result<(File, Metadata), FileError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    if !metadata.is_file() {
        return Err(refused(path, "this is not a regular file"));
    }
    Ok((file, metadata))
}

/// Reads what somebody hands over as input, of at most `limit` bytes; whoever wrote it.
pub fn read_input(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(failed(path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed(path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(refused(
            path,
            format!("over the limit of {limit} bytes; split it"),
        ));
    }
    Ok(bytes)
}

/// Reads a text file that only root or this user may have written.
pub fn read_config(path: &Path) -> Result<String, FileError> {
    let (file, metadata) = open_regular(path)?;
    if !trusted(metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(refused(
            path,
            "others can write this file; chown it to root or yourself and chmod go-w",
        ));
    }
    let mut text = String::new();
    file.take(1 << 20)
        .read_to_string(&mut text)
        .map_err(failed(path))?;
    Ok(text)
}

/// Reads a secret-bearing file: nobody else may read or write it.
pub fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open_regular(path)?;
    if !trusted(metadata.uid()) || metadata.mode() & 0o077 != 0 {
        return Err(refused(
            path,
            "others can read or write this file; chown it to yourself and chmod 600",
        ));
    }
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(bytes)
}

/// Reads a secret that somebody wrote into a file of his own: a line break at its end is not part of it.
pub fn read_secret(path: &Path) -> Result<Secret, FileError> {
    let mut bytes = read_private(path)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}

/// Makes a folder for this user only, or checks that it is one.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    if !path.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed(path))?;
    }
    let metadata = fs::metadata(path).map_err(failed(path))?;
    if !metadata.is_dir() {
        return Err(refused(path, "is not a folder"));
    }
    if !trusted(metadata.uid()) || metadata.mode() & 0o077 != 0 {
        return Err(refused(
            path,
            "others can enter this folder; chown it to yourself and chmod 700",
        ));
    }
    Ok(())
}

/// Writes a file for this user only (0600), whole or not at all, and on disk when it returns.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, 0o600)
}

/// Writes a file that anybody may read (0644), whole or not at all, and on disk when it returns.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed(&beside))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed(&beside))?;
    fs::rename(&beside, path).map_err(failed(path))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn w10_files_that_others_can_write_or_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path).unwrap(), b"secret");
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602] {
            chmod(&path, mode);
            assert!(
                read_private(&path).unwrap_err().to_string().contains("chmod 600"),
                "{mode:o}"
            );
        }
        for mode in [0o620, 0o602, 0o666] {
            chmod(&path, mode);
            assert!(
                read_config(&path).unwrap_err().to_string().contains("go-w"),
                "{mode:o}"
            );
        }
        chmod(&path, 0o644);
        assert_eq!(read_config(&path).unwrap(), "secret");
        let state = folder.path().join("state");
        private_folder(&state).unwrap();
        for mode in [0o750, 0o701, 0o777] {
            chmod(&state, mode);
            assert!(
                private_folder(&state)
                    .unwrap_err()
                    .to_string()
                    .contains("chmod 700"),
                "{mode:o}"
            );
        }
    }
}

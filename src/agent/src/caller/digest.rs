//! SHA-256 of executables, remembered while a file stays as it was.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use touchmark_crypto::Sha256Hasher;

use super::{CallerError, Identification};

/// How many files are remembered.
const MAX_ENTRIES: usize = 1024;

/// A file as it was: if any of these differs, so may its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    /// `None` for what is no regular file.
    fn of(file: &File) -> Result<Option<Self>, CallerError> {
        let found = file.metadata()?;
        Ok(found.is_file().then(|| Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }))
    }
}

struct Entry {
    first_seen: Instant,
    last_used: Instant,
    digest: Option<[u8; 32]>,
}

/// Digests of files.
pub(super) struct Digests {
    settle: Duration,
    entries: Mutex<HashMap<State, Entry>>,
}

impl Digests {
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            settle,
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// SHA-256 of an open file; `None` if it is too large, or on a file system whose answers its user makes up.
    pub(super) fn digest(
        &self,
        file: &File,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Option<[u8; 32]>, CallerError> {
        let Some(state) = State::of(file)? else {
            return Ok(None);
        };
        if state.size > Identification::MAX_EXECUTABLE || fstatfs(file)?.filesystem_type() == FUSE_SUPER_MAGIC
        {
            return Ok(None);
        }
        // A change within the same tick of the file system's clock as an earlier one leaves no trace in the times. So
        // a digest is kept only if it was computed when the times had been seen a while before.
        let settled = match self.look_up(state) {
            Found::Digest(digest) => return Ok(Some(digest)),
            Found::Seen(settled) => settled,
        };
        let digest = hash(file, state.size, given_up)?;
        if State::of(file)? != Some(state) {
            return Err(CallerError::Changed);
        }
        if settled {
            self.keep(state, digest);
        }
        Ok(Some(digest))
    }

    fn look_up(&self, state: State) -> Found {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&state) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_used);
            if let Some(oldest) = oldest.map(|(state, _)| *state) {
                entries.remove(&oldest);
            }
        }
        let entry = entries.entry(state).or_insert(Entry {
            first_seen: now,
            last_used: now,
            digest: None,
        });
        entry.last_used = now;
        match entry.digest {
            Some(digest) => Found::Digest(digest),
            None => Found::Seen(now.duration_since(entry.first_seen) >= self.settle),
        }
    }

    fn keep(&self, state: State, digest: [u8; 32]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&state) {
            entry.digest = Some(digest);
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let entries = self.entries.lock().unwrap();
        (
            entries.len(),
            entries.values().filter(|entry| entry.digest.is_some()).count(),
        )
    }
}

enum Found {
    Digest([u8; 32]),
    /// No digest is kept; whether one that is computed now may be.
    Seen(bool),
}

/// Reads at most `size` bytes and one more: a file that grows has changed.
fn hash(mut file: &File, size: u64, given_up: &dyn Fn() -> bool) -> Result<[u8; 32], CallerError> {
    let mut hasher = Sha256Hasher::new();
    let mut piece = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        if given_up() {
            return Err(CallerError::Cancelled);
        }
        match file.read(&mut piece) {
            Ok(0) if total == size => return Ok(hasher.finish()),
            Ok(0) => return Err(CallerError::Changed),
            Ok(length) => {
                total += length as u64;
                if total > size {
                    return Err(CallerError::Changed);
                }
                hasher.update(piece.get(..length).unwrap_or_default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

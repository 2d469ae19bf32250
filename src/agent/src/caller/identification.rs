//! What identification shares between connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::digest::Digests;

/// What identification shares between connections: the digests that are known, and each user's turns. Looking at a
/// process touches files of its user's choice, which can be large or slow; so a user gets few turns at a time, and
/// waits for its own only.
pub struct Identification {
    digests: Digests,
    turns: Mutex<HashMap<u32, Weak<Semaphore>>>,
}

impl Identification {
    /// Largest executable whose digest is computed, bytes.
    pub const MAX_EXECUTABLE: u64 = 512 * 1024 * 1024;

    /// How many processes of one user are looked at at a time.
    pub const TURNS_PER_USER: usize = 4;

    /// With nothing known yet.
    pub fn new() -> Self {
        Self::with_settle_time(Duration::from_secs(2))
    }

    /// As [`Self::new`], but remembers the digest of a file that looked the same for `settle` (two seconds otherwise:
    /// longer than the ticks of any file system's clock, so that a later change shows in the file's times).
    pub(super) fn with_settle_time(settle: Duration) -> Self {
        Self {
            digests: Digests::new(settle),
            turns: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The turns of a user, the same for all its connections.
    pub(super) fn turns_of(&self, uid: u32) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = turns.get(&uid).and_then(Weak::upgrade) {
            return held;
        }
        turns.retain(|_, held| held.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(Self::TURNS_PER_USER));
        turns.insert(uid, Arc::downgrade(&fresh));
        fresh
    }
}

impl Default for Identification {
    fn default() -> Self {
        Self::new()
    }
}

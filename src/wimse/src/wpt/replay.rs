//! Proofs that were accepted, for as long as they could be sent again.

use std::collections::{BTreeSet, HashSet};

use touchmark_crypto::sha256;

use crate::TokenError;

/// A bounded memory of proofs. Its scope is whoever shares it: a proof can be used once with each memory.
#[derive(Debug)]
pub struct Replays {
    limit: usize,
    seen: HashSet<[u8; 32]>,
    by_end: BTreeSet<(u64, [u8; 32])>,
}

impl Replays {
    /// Remembers at most `limit` proofs at a time, 100 bytes each or so.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            seen: HashSet::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// Notes a proof, by the key that made it and its `jti`, until it can no longer be valid. To be called after every other
    /// check has passed.
    ///
    /// # Errors
    ///
    /// `replayed` for one that is remembered; `replay_cache_full` where nothing more can be, since what is not remembered
    /// could come again.
    pub fn note(&mut self, key: [u8; 32], id: &str, until: u64, now: u64) -> Result<(), TokenError> {
        while let Some((end, _)) = self.by_end.first()
            && *end < now
        {
            if let Some((_, gone)) = self.by_end.pop_first() {
                self.seen.remove(&gone);
            }
        }
        let name = sha256(&[&key, id.as_bytes()]);
        if self.seen.contains(&name) {
            return Err(TokenError::Replayed);
        }
        if self.seen.len() >= self.limit {
            return Err(TokenError::ReplayCacheFull);
        }
        self.seen.insert(name);
        self.by_end.insert((until, name));
        Ok(())
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_new_once_and_forgotten_after_its_end() {
        let mut replays = Replays::new(2);
        let note = |replays: &mut Replays, key: u8, id: &str, now| replays.note([key; 32], id, 100, now);
        assert_eq!(note(&mut replays, 1, "a", 10), Ok(()));
        assert_eq!(note(&mut replays, 1, "a", 11), Err(TokenError::Replayed));
        // The same id of another key is another proof.
        assert_eq!(note(&mut replays, 2, "a", 11), Ok(()));
        assert_eq!(note(&mut replays, 3, "a", 100), Err(TokenError::ReplayCacheFull));
        assert_eq!(note(&mut replays, 3, "a", 101), Ok(()));
        assert_eq!(replays.len(), 1);
    }
}

//! Replay: which register value a list leads to, entry by entry, also over many rounds.

use touchmark_crypto::HashAlg;

use super::entry::Entry;

/// What the kernel extends into banks other than SHA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extends {
    /// The template data, hashed with the bank's algorithm (Linux 5.8 and later).
    Rehashed,
    /// The SHA-1 digest, padded with zeros (before that).
    Padded,
}

/// A register of a bank while its list is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    bank: HashAlg,
    extends: Extends,
    value: Vec<u8>,
}

impl Replay {
    /// A register that nothing was extended into.
    pub fn new(bank: HashAlg, extends: Extends) -> Self {
        Self {
            bank,
            extends,
            value: vec![0; bank.len()],
        }
    }

    /// A register that an earlier round led to.
    pub fn resumed(bank: HashAlg, extends: Extends, value: &[u8]) -> Self {
        Self {
            bank,
            extends,
            value: value.to_vec(),
        }
    }

    /// The value so far.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Extends the next entry.
    pub fn extend(&mut self, entry: &Entry<'_>) {
        let digest = self.digest(entry);
        self.value = self.bank.digest(&[&self.value, &digest]);
    }

    /// What an entry is extended as: of a violation ones, so that the register shows that something is not known.
    fn digest(&self, entry: &Entry<'_>) -> Vec<u8> {
        if entry.is_violation() {
            return vec![0xff; self.bank.len()];
        }
        match (self.bank, self.extends) {
            (HashAlg::Sha1, _) | (_, Extends::Rehashed) => self.bank.digest(&[&entry.data]),
            (_, Extends::Padded) => {
                let mut digest = HashAlg::Sha1.digest(&[&entry.data]);
                digest.resize(self.bank.len(), 0);
                digest
            }
        }
    }
}

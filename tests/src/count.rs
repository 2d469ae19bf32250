//! TPM commands as `--count` wrote them.

use std::path::Path;

/// Commands of TPM 1 in their order, without those that a resource manager adds.
#[derive(Debug, Clone)]
pub struct Commands(Vec<String>);

impl Commands {
    /// Reads a file that the simulator writes.
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("the count");
        let own = |line: &&str| {
            let added = ["ContextLoad", "ContextSave", "FlushContext"];
            line.starts_with("1 ") && !added.iter().any(|name| line.contains(name))
        };
        Self(text.lines().filter(own).map(str::to_owned).collect())
    }

    /// What came after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.get(before.0.len()..).expect("a longer count").to_vec())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they end with the signature of the `n`th key that was made and certified.
    pub fn end_with_key(&self, n: usize) -> bool {
        let certified = self.0.iter().filter(|line| line.contains("TPM2_Certify")).count();
        certified >= n && self.0.last().is_some_and(|line| line.contains("TPM2_Sign"))
    }

    /// Those of one attestation, with the proof of possession of the host's key, and what came after.
    pub fn attestation(&self) -> (Self, Self) {
        let position = |name: &str, from: usize| {
            let after = self.0.iter().skip(from).position(|line| line.contains(name));
            from + after.expect("an attestation")
        };
        let end = position("TPM2_Sign", position("TPM2_Quote", 0)) + 1;
        let (attestation, rest) = self.0.split_at(end);
        (Self(attestation.to_vec()), Self(rest.to_vec()))
    }

    /// How many of them are quotes.
    pub fn quotes(&self) -> usize {
        self.0.iter().filter(|line| line.contains("TPM2_Quote")).count()
    }

    /// How many of them made mutual-TLS signatures with a host key that is sealed to its boot: a session, a policy, a
    /// signature each.
    pub fn handshake(&self) -> usize {
        self.0.iter().filter(|line| line.contains("PolicyPCR")).count() * 3
    }
}

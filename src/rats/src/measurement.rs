//! Registers and what was measured into them.

use touchmark_crypto::HashAlg;

/// Registers of one bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrBank {
    /// The bank's hash algorithm.
    pub bank: HashAlg,
    /// Register numbers, ascending, each below 24.
    pub indices: Vec<u8>,
}

/// The register that goes on changing while a machine runs: the kernel extends it with what it measures (IMA). Nothing is sealed to it,
/// and it is explained by a list of its own.
pub const RUNTIME_REGISTER: u8 = 10;

/// What a quote is to be over: banks in the order asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection(pub Vec<PcrBank>);

impl PcrSelection {
    /// Registers of the SHA-256 bank; see [`Self::of`].
    pub fn sha256(indices: impl IntoIterator<Item = u8>) -> Self {
        Self::of(HashAlg::Sha256, indices)
    }

    /// Registers of one bank, sorted and without repetition; numbers above 23 are dropped.
    pub fn of(bank: HashAlg, indices: impl IntoIterator<Item = u8>) -> Self {
        let mut indices: Vec<u8> = indices.into_iter().filter(|index| *index < 24).collect();
        indices.sort_unstable();
        indices.dedup();
        Self(vec![PcrBank { bank, indices }])
    }

    /// The boot registers that policy asks for by default: 0 to 9, SHA-256.
    pub fn boot() -> Self {
        Self::sha256(0..=9)
    }

    /// Whether [`RUNTIME_REGISTER`] is among them.
    pub fn covers_runtime(&self) -> bool {
        self.0.iter().any(|bank| bank.indices.contains(&RUNTIME_REGISTER))
    }

    /// The registers that change with a boot only: what keys are sealed to.
    pub fn without_runtime(&self) -> Self {
        let bank = |bank: &PcrBank| PcrBank {
            bank: bank.bank,
            indices: bank
                .indices
                .iter()
                .copied()
                .filter(|index| *index != RUNTIME_REGISTER)
                .collect(),
        };
        Self(
            self.0
                .iter()
                .map(bank)
                .filter(|bank| !bank.indices.is_empty())
                .collect(),
        )
    }

    /// Whether these registers cover the boot of a machine: firmware and its configuration, option ROMs, boot loader and
    /// partitions, Secure Boot (0 to 7).
    pub fn covers_boot(&self) -> bool {
        (0..=7).all(|index| self.0.iter().any(|bank| bank.indices.contains(&index)))
    }

    /// The selection as (TCG algorithm identifier, registers), as it is bound and sent.
    pub fn to_wire(&self) -> Vec<(u16, Vec<u8>)> {
        self.0
            .iter()
            .map(|bank| (tcg_alg_id(bank.bank), bank.indices.clone()))
            .collect()
    }

    /// Reads the wire form; an unknown bank, an index above 23 or unsorted indices give `None`.
    pub fn from_wire(wire: &[(u16, Vec<u8>)]) -> Option<Self> {
        let mut banks = Vec::new();
        for (alg, indices) in wire {
            let sorted = indices.windows(2).all(|pair| pair.first() < pair.last());
            if !sorted || indices.iter().any(|index| *index > 23) {
                return None;
            }
            banks.push(PcrBank {
                bank: hash_of_tcg_alg(*alg)?,
                indices: indices.clone(),
            });
        }
        (banks.len() <= 4).then_some(Self(banks))
    }
}

impl std::fmt::Display for PcrSelection {
    /// As tools write it: `sha256:0,1,2+sha384:0`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let banks: Vec<String> = self
            .0
            .iter()
            .map(|bank| {
                let indices: Vec<String> = bank.indices.iter().map(u8::to_string).collect();
                format!("{}:{}", bank.bank.name(), indices.join(","))
            })
            .collect();
        f.write_str(
            if banks.is_empty() {
                "no registers".to_owned()
            } else {
                banks.join("+")
            }
            .as_str(),
        )
    }
}

/// The TCG algorithm identifier of a hash.
pub(crate) fn tcg_alg_id(hash: HashAlg) -> u16 {
    match hash {
        HashAlg::Sha1 => 0x0004,
        HashAlg::Sha256 => 0x000b,
        HashAlg::Sha384 => 0x000c,
        HashAlg::Sha512 => 0x000d,
    }
}

/// The hash a TCG algorithm identifier names, if it is one we know.
pub(crate) fn hash_of_tcg_alg(alg: u16) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|hash| tcg_alg_id(*hash) == alg)
}

/// One event of a boot log that was extended into a register, in the bank that was quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredEvent {
    /// Position in the log, from 0.
    pub number: usize,
    /// The register.
    pub pcr: u8,
    /// The digest that was extended.
    pub digest: Vec<u8>,
    /// What the log says it is; empty until somebody asks ([`crate::Appraiser::describe`]). Only the digest is authenticated: this is for
    /// people.
    pub description: String,
}

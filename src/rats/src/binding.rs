//! `bind-v1`: the one value that all evidence of an exchange carries.
//!
//! SHA-256 over deterministic CBOR of what the exchange is about. It is the qualifying data of Quote and Certify, the
//! first half of a 64-byte report_data, and what a proof of possession signs (behind a prefix that no other protocol
//! uses). See docs/ARCHITECTURE.md, "The binding".

use serde_bytes::Bytes;
use touchmark_crypto::{CryptoError, Secret, Sha256Hasher, mac::hkdf_sha256, sha256};

use crate::{PcrSelection, cbor};

/// The label at the head of every binding.
pub const BIND_LABEL: &str = "touchmark bind";
/// The version this module computes.
const BIND_VERSION: u8 = 1;

/// What an exchange is for. Evidence made for one purpose never serves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A host's attestation that leads to its credential.
    Enrol,
    /// A repeated attestation of a host that has a credential.
    Reattest,
    /// Certification of a workload's key.
    Workload,
    /// Admission by one-time token.
    Token,
    /// A confidential guest.
    Guest,
}

impl Purpose {
    /// The word that is bound.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Reattest => "reattest",
            Self::Workload => "workload",
            Self::Token => "token",
            Self::Guest => "guest",
        }
    }

    /// The purpose a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Enrol,
            Self::Reattest,
            Self::Workload,
            Self::Token,
            Self::Guest,
        ]
        .into_iter()
        .find(|purpose| purpose.as_str() == word)
    }
}

/// Everything an exchange binds.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// What the exchange is for.
    pub purpose: Purpose,
    /// The trust domain as an origin: `spiffe://example.org`.
    pub trust_domain: &'a str,
    /// SHA-256 of the SubjectPublicKeyInfo of the root that the server's chain ends in.
    pub anchor: [u8; 32],
    /// The challenge's id.
    pub challenge_id: [u8; 16],
    /// The challenge's nonce.
    pub nonce: [u8; 32],
    /// Names of the keys offered: TPM Names, or SHA-256 of the SubjectPublicKeyInfo.
    pub key_names: &'a [Vec<u8>],
    /// The registers to be quoted; empty where nothing is.
    pub selection: &'a PcrSelection,
    /// One offset per log.
    pub log_offsets: &'a [u64],
    /// See [`rest_digest`].
    pub rest: [u8; 32],
}

impl Binding<'_> {
    /// The binding value.
    pub fn value(&self) -> [u8; 32] {
        let names: Vec<&Bytes> = self.key_names.iter().map(|name| Bytes::new(name)).collect();
        let wire = self.selection.to_wire();
        let selection: Vec<(u16, &[u8])> = wire
            .iter()
            .map(|(alg, indices)| (*alg, indices.as_slice()))
            .collect();
        sha256(&[&cbor::encode(&(
            BIND_LABEL,
            BIND_VERSION,
            self.purpose.as_str(),
            self.trust_domain,
            Bytes::new(&self.anchor),
            Bytes::new(&self.challenge_id),
            Bytes::new(&self.nonce),
            names,
            selection,
            self.log_offsets,
            Bytes::new(&self.rest),
        ))])
    }
}

/// The digest of the rest of a message: all of it but what carries or signs the binding, and the logs. Each section
/// is preceded by its length, four bytes big-endian.
pub fn rest_digest(sections: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256Hasher::new();
    for section in sections {
        hasher.update(&u32::try_from(section.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(section);
    }
    hasher.finish()
}

/// What a proof of possession signs: 64 spaces, a context string, a zero byte, the binding. No TLS handshake and no
/// token begins like this (RFC 8446 section 4.4.3 uses the same shape with another context).
pub fn pop_message(bind: &[u8; 32]) -> Vec<u8> {
    [&[0x20; 64][..], b"Touchmark PoP v1", &[0], bind].concat()
}

/// The key of the MAC over a second message: derived from the activation secret, which itself never travels back.
pub fn message_mac_key(secret: &Secret, challenge_id: &[u8; 16]) -> Result<Secret, CryptoError> {
    hkdf_sha256(secret, challenge_id, &[b"touchmark message 2 mac"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding<'a>(names: &'a [Vec<u8>], selection: &'a PcrSelection) -> Binding<'a> {
        Binding {
            purpose: Purpose::Enrol,
            trust_domain: "spiffe://example.org",
            anchor: [1; 32],
            challenge_id: [2; 16],
            nonce: [3; 32],
            key_names: names,
            selection,
            log_offsets: &[0],
            rest: [4; 32],
        }
    }

    #[test]
    fn the_value_is_pinned() {
        let selection = PcrSelection::boot();
        let value = binding(&[vec![0, 0x0b, 9]], &selection).value();
        assert_eq!(
            hex::encode(value),
            "4de92f6a5ba33f97b507409d3ffb62f2b78063f49b033c798fc0ba8b4690728d"
        );
    }

    #[test]
    fn every_part_changes_the_value() {
        let selection = PcrSelection::boot();
        let names = [vec![1]];
        let base = binding(&names, &selection);
        let other_selection = PcrSelection::sha256([0]);
        let other_names = [vec![2]];
        let variants = [
            Binding {
                purpose: Purpose::Reattest,
                ..base.clone()
            },
            Binding {
                trust_domain: "wimse://example.org",
                ..base.clone()
            },
            Binding {
                anchor: [9; 32],
                ..base.clone()
            },
            Binding {
                challenge_id: [9; 16],
                ..base.clone()
            },
            Binding {
                nonce: [9; 32],
                ..base.clone()
            },
            Binding {
                key_names: &other_names,
                ..base.clone()
            },
            Binding {
                key_names: &[],
                ..base.clone()
            },
            Binding {
                selection: &other_selection,
                ..base.clone()
            },
            Binding {
                log_offsets: &[1],
                ..base.clone()
            },
            Binding {
                rest: [9; 32],
                ..base.clone()
            },
        ];
        let mut values: Vec<[u8; 32]> = variants.iter().map(Binding::value).collect();
        values.push(base.value());
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), variants.len() + 1);
    }

    #[test]
    fn sections_do_not_run_into_each_other() {
        assert_ne!(rest_digest(&[b"ab", b"c"]), rest_digest(&[b"a", b"bc"]));
    }
}

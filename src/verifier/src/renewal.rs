//! The renewal of a credential: the key's certification stands, and its holder proves possession anew.

use touchmark_rats::{AttestedKey, Refusal, possession::Possession};

use crate::{Attested, Challenge, Challenger, possession::possessed};

/// A key that an earlier attestation of its host certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The key.
    pub key: AttestedKey,
    /// Digest of the evidence that it was certified by.
    pub evidence: [u8; 32],
}

/// Judges a proof of possession of a certified key over this exchange.
///
/// # Errors
///
/// [`Reason::Malformed`](touchmark_rats::Reason::Malformed) or
/// [`Reason::ProofOfPossession`](touchmark_rats::Reason::ProofOfPossession): nothing was authenticated, and nothing is to be consumed.
pub fn renew(
    challenger: &Challenger,
    challenge: &Challenge,
    certified: &Certified,
    sections: [&[u8]; 2],
    proof: &Possession,
    now: u64,
) -> Result<Attested, Refusal> {
    let key = certified.key.clone();
    possessed(
        challenger,
        challenge,
        key,
        certified.evidence,
        sections,
        proof,
        now,
    )
}

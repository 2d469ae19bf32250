//! The renewal of a credential: the key's certification stands, and its holder proves possession anew.

use touchmark_crypto::{HashAlg, SigScheme};
use touchmark_rats::{
    AttestedKey, Binding, Check, Claims, Purpose, Reason, Refusal, Retry, pop_message,
    possession::Possession, rest_digest,
};

use crate::{Attested, Challenge, Challenger};

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
/// [`Reason::Malformed`] or [`Reason::ProofOfPossession`]: nothing was authenticated, and nothing is to be consumed.
pub fn renew(
    challenger: &Challenger,
    challenge: &Challenge,
    certified: &Certified,
    sections: [&[u8]; 2],
    proof: &Possession,
    now: u64,
) -> Result<Attested, Refusal> {
    let Some(host) = challenge.subject.host.clone() else {
        return Err(Refusal::malformed(
            "challenge",
            "a challenge whose answer is refused unread",
        ));
    };
    if challenge.purpose != Purpose::Workload {
        return Err(Refusal::malformed("challenge", "a challenge for another purpose"));
    }
    let key = &certified.key;
    let bind = Binding {
        purpose: challenge.purpose,
        trust_domain: challenger.trust_domain(),
        anchor: challenger.anchor(),
        challenge_id: challenge.id,
        nonce: challenge.nonce,
        key_names: std::slice::from_ref(&key.name),
        selection: &challenge.selection,
        log_offsets: &challenge.offsets,
        rest: rest_digest(&sections),
    }
    .value();
    let scheme = SigScheme::Ecdsa(match key.public.kind() {
        touchmark_crypto::KeyKind::P384 => HashAlg::Sha384,
        _ => HashAlg::Sha256,
    });
    key.public
        .verify(scheme, &pop_message(&bind), &proof.0)
        .map_err(|error| Refusal {
            check: "key.possession",
            reason: Reason::ProofOfPossession,
            expected: "a signature of the certified key over this exchange".into(),
            found: error.to_string(),
            remedy: "sign the proof of possession with the key that is renewed".into(),
            retry: Retry::Fresh,
        })?;
    Ok(Attested {
        host,
        purpose: challenge.purpose,
        keys: vec![key.clone()],
        claims: Claims::default(),
        checks: vec![Check::passed("key.possession", "proved")],
        counters: None,
        voucher: challenge.subject.voucher.clone(),
        evidence: certified.evidence,
        at: now,
    })
}

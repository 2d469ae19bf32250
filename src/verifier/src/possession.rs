//! Proof of possession of one key by an attested host, over one exchange.

use touchmark_crypto::{HashAlg, KeyKind, SigScheme};
use touchmark_rats::{
    AttestedKey, Binding, Check, Claims, Purpose, Reason, Refusal, Retry, pop_message,
    possession::Possession, rest_digest,
};

use crate::{Attested, Challenge, Challenger};

/// Judges a proof of possession of `key`, which something else speaks for: evidence of the digest `evidence`.
pub(crate) fn possessed(
    challenger: &Challenger,
    challenge: &Challenge,
    key: AttestedKey,
    evidence: [u8; 32],
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
        KeyKind::P384 => HashAlg::Sha384,
        _ => HashAlg::Sha256,
    });
    key.public
        .verify(scheme, &pop_message(&bind), &proof.0)
        .map_err(|error| Refusal {
            check: "key.possession",
            reason: Reason::ProofOfPossession,
            expected: "a signature of the offered key over this exchange".into(),
            found: error.to_string(),
            remedy: "sign the proof of possession with the key that is offered".into(),
            retry: Retry::Fresh,
        })?;
    Ok(Attested {
        host,
        purpose: challenge.purpose,
        keys: vec![key],
        claims: Claims::default(),
        checks: vec![Check::passed("key.possession", "proved")],
        counters: None,
        voucher: challenge.subject.voucher.clone(),
        evidence,
        at: now,
    })
}

//! A key in a PKCS#11 token of an attested host: its agent says what the token says of it, and its holder proves possession.

use touchmark_crypto::{KeyKind, PublicKey, sha256};
use touchmark_rats::{
    Assurance, AttestedKey, Reason, Refusal, Retry, cbor,
    possession::Possession,
    token::{TokenReport, key_name},
};

use crate::{Attested, Challenge, Challenger, possession::possessed};

/// Largest report, deterministic CBOR.
pub const MAX_REPORT: usize = 8 * 1024;

/// Judges a report of a key, which is in the offer and so bound with it, and the proof of possession beside it.
///
/// # Errors
///
/// [`Reason::Malformed`], [`Reason::KeyInvalid`], [`Reason::KeyNotHardware`] or [`Reason::ProofOfPossession`]; the last before the one
/// before it, so that only what the key itself has signed is a refusal of that key.
pub fn reported(
    challenger: &Challenger,
    challenge: &Challenge,
    report: &[u8],
    sections: [&[u8]; 2],
    proof: &Possession,
    now: u64,
) -> Result<Attested, (Refusal, bool)> {
    let unread = |refusal| (refusal, false);
    let read: TokenReport = cbor::decode(report, MAX_REPORT)
        .map_err(|error| unread(Refusal::malformed("key.report", error.to_string())))?;
    let public = PublicKey::from_spki(&read.key.spki)
        .ok()
        .filter(|key| matches!(key.kind(), KeyKind::P256 | KeyKind::P384))
        .ok_or_else(|| {
            unread(refusal(
                Reason::KeyInvalid,
                "a key on P-256 or P-384",
                "another key",
            ))
        })?;
    let key = AttestedKey {
        name: key_name(&read.key.spki),
        public,
        area: report.to_vec(),
        assurance: Assurance::Reported {
            simulated: read.simulated,
        },
    };
    let evidence = sha256(&[report, &proof.0]);
    let attested = possessed(challenger, challenge, key, evidence, sections, proof, now).map_err(unread)?;
    let attributes = &read.key.attributes;
    let why = attributes
        .could_leave()
        .or_else(|| (attributes.sign != Some(true)).then_some("it does not sign (CKA_SIGN)"));
    match why {
        Some(why) => Err((
            refusal(
                Reason::KeyNotHardware,
                "a key that was made in its token, signs, and never could leave it",
                why,
            ),
            true,
        )),
        None => Ok(attested),
    }
}

fn refusal(reason: Reason, expected: &str, found: &str) -> Refusal {
    Refusal {
        check: "key.report",
        reason,
        expected: expected.to_owned(),
        found: found.to_owned(),
        remedy: "let the agent make the key, in a token whose keys cannot leave it".to_owned(),
        retry: Retry::Later,
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::{ByteArray, ByteBuf};
    use touchmark_crypto::{Purpose as KeyPurpose, Signer, SigningAlg, SoftwareKey, SystemEntropy};
    use touchmark_rats::{
        Binding, PcrSelection, Purpose, pop_message, rest_digest,
        token::{TokenAttributes, TokenDescription, TokenKey},
    };

    use super::*;
    use crate::{Subject, Wanted};

    const ANCHOR: [u8; 32] = [7; 32];
    const NOW: u64 = 1_000;

    fn held() -> TokenAttributes {
        TokenAttributes {
            sensitive: Some(true),
            always_sensitive: Some(true),
            extractable: Some(false),
            never_extractable: Some(true),
            local: Some(true),
            sign: Some(true),
            ..TokenAttributes::default()
        }
    }

    struct Exchange {
        challenger: Challenger,
        challenge: Challenge,
        cookie: Vec<u8>,
        key: SoftwareKey,
    }

    impl Exchange {
        fn new(purpose: Purpose) -> Self {
            let challenger = Challenger::new(&SystemEntropy, "spiffe://example.org", ANCHOR, 150).unwrap();
            let nothing = PcrSelection(Vec::new());
            let wanted = Wanted {
                purpose,
                subject: Subject {
                    host: Some("0b0f1c9e-6d2c-4c55-9f0a-3f1f6e1f7d31".into()),
                    endorsement_name: ByteBuf::new(),
                    endorsement_digest: ByteArray::new([0; 32]),
                    attestation_name: ByteBuf::from(vec![1; 34]),
                    voucher: None,
                },
                activation: false,
                selection: &nothing,
                log_offsets: vec![0],
            };
            let issued = challenger.issue(&SystemEntropy, wanted, NOW).unwrap();
            Self {
                challenge: challenger.open(&issued.cookie, NOW).unwrap(),
                cookie: issued.cookie,
                challenger,
                key: SoftwareKey::generate(SigningAlg::Es256).unwrap(),
            }
        }

        fn report(&self, attributes: TokenAttributes) -> TokenReport {
            TokenReport {
                token: TokenDescription::default(),
                key: TokenKey {
                    uri: "pkcs11:token=t;id=%01".into(),
                    spki: ByteBuf::from(self.key.public_key().spki().to_vec()),
                    attributes,
                },
                simulated: false,
            }
        }

        /// A proof by this key over an offer of these bytes.
        fn proof(&self, key: &SoftwareKey, name: &[u8], offer: &[u8]) -> Possession {
            let names = [name.to_vec()];
            let bind = Binding {
                purpose: self.challenge.purpose,
                trust_domain: self.challenger.trust_domain(),
                anchor: ANCHOR,
                challenge_id: self.challenge.id,
                nonce: self.challenge.nonce,
                key_names: &names,
                selection: &self.challenge.selection,
                log_offsets: &self.challenge.offsets,
                rest: rest_digest(&[&self.cookie, offer]),
            }
            .value();
            let signature = key.sign(KeyPurpose::TlsHandshake, &pop_message(&bind)).unwrap();
            Possession(ByteBuf::from(signature))
        }

        fn judge(&self, report: &[u8], offer: &[u8], proof: &Possession) -> Result<Attested, (Reason, bool)> {
            let sections = [self.cookie.as_slice(), offer];
            reported(&self.challenger, &self.challenge, report, sections, proof, NOW)
                .map_err(|(refusal, authentic)| (refusal.reason, authentic))
        }

        fn honest(&self, report: &TokenReport) -> Result<Attested, (Reason, bool)> {
            let report = cbor::encode(report);
            let name = key_name(self.key.public_key().spki());
            let proof = self.proof(&self.key, &name, &report);
            self.judge(&report, &report, &proof)
        }
    }

    #[test]
    fn e17_a_key_of_which_the_token_does_not_say_that_it_was_made_there_and_stays_is_refused() {
        let exchange = Exchange::new(Purpose::Workload);
        let attested = exchange.honest(&exchange.report(held())).unwrap();
        assert_eq!(
            attested.keys()[0].assurance,
            Assurance::Reported { simulated: false }
        );
        let alter: [fn(&mut TokenAttributes, Option<bool>); 6] = [
            |held, value| held.sensitive = value,
            |held, value| held.always_sensitive = value,
            |held, value| held.extractable = value.map(|value| !value),
            |held, value| held.never_extractable = value,
            |held, value| held.local = value,
            |held, value| held.sign = value,
        ];
        for alter in alter {
            for value in [None, Some(false)] {
                let mut other = held();
                alter(&mut other, value);
                assert_eq!(
                    exchange.honest(&exchange.report(other)).unwrap_err(),
                    (Reason::KeyNotHardware, true),
                    "{other:?}"
                );
            }
        }
    }

    #[test]
    fn e17_what_the_key_itself_has_not_signed_over_this_exchange_is_believed_of_no_key() {
        let exchange = Exchange::new(Purpose::Workload);
        let report = cbor::encode(&exchange.report(held()));
        let name = key_name(exchange.key.public_key().spki());
        let good = exchange.proof(&exchange.key, &name, &report);
        assert!(exchange.judge(&report, &report, &good).is_ok());
        let other = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let refused = |report: &[u8], offer: &[u8], proof: &Possession| {
            exchange.judge(report, offer, proof).unwrap_err()
        };
        let unproved = (Reason::ProofOfPossession, false);
        // By another key, under another name, over another offer, and a report that claims more than the one that was signed.
        assert_eq!(
            refused(&report, &report, &exchange.proof(&other, &name, &report)),
            unproved
        );
        assert_eq!(
            refused(
                &report,
                &report,
                &exchange.proof(&exchange.key, &[0; 32], &report)
            ),
            unproved
        );
        assert_eq!(refused(&report, b"another offer", &good), unproved);
        let mut boasting = exchange.report(held());
        boasting.key.attributes.always_authenticate = Some(true);
        let boasting = cbor::encode(&boasting);
        assert_eq!(refused(&boasting, &boasting, &good), unproved);
        assert_eq!(refused(&report, &report, &Possession(ByteBuf::new())), unproved);
        // Signed under another challenge.
        assert_eq!(
            Exchange::new(Purpose::Workload)
                .judge(&report, &report, &good)
                .unwrap_err(),
            unproved
        );
    }

    #[test]
    fn reports_that_are_none_are_told_as_that_and_authenticate_nothing() {
        let exchange = Exchange::new(Purpose::Workload);
        let proof = Possession(ByteBuf::new());
        let judged = |report: &[u8]| exchange.judge(report, report, &proof).unwrap_err();
        for bytes in [&b""[..], b"\xff", &[0xa0], &vec![0; MAX_REPORT + 1]] {
            assert_eq!(judged(bytes), (Reason::Malformed, false));
        }
        let mut keyless = exchange.report(held());
        keyless.key.spki = ByteBuf::from(vec![0x30, 0]);
        assert_eq!(judged(&cbor::encode(&keyless)), (Reason::KeyInvalid, false));
        let reattest = Exchange::new(Purpose::Reattest);
        assert_eq!(
            reattest.honest(&reattest.report(held())).unwrap_err(),
            (Reason::Malformed, false)
        );
    }
}

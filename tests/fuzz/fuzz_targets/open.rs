//! Any bytes as a first message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::{Attributes, PublicArea, TpmAppraiser};
use touchmark_crypto::Secret;
use touchmark_rats::{Appraiser, Retry, tpm::MAX_ENDORSEMENTS};

fuzz_target!(|bytes: &[u8]| {
    let appraiser = TpmAppraiser::new(Vec::new());
    let opening = match appraiser.open(bytes) {
        Ok(opening) => opening,
        Err(refusal) => {
            assert_eq!(refusal.retry, Retry::Never);
            return;
        }
    };
    let area = PublicArea::parse(&opening.attestation_public).expect("was read");
    assert_eq!(area.name(), opening.attestation_name);
    assert!(
        area.attributes
            .has(Attributes::FIXED_TPM | Attributes::RESTRICTED | Attributes::SIGN)
    );
    assert!(!area.attributes.has_any(Attributes::DECRYPT));
    assert!((1..=MAX_ENDORSEMENTS).contains(&opening.candidates.len()));
    for candidate in &opening.candidates {
        let area = PublicArea::parse(&candidate.public).expect("was read");
        assert_eq!(
            (area.name(), area.key.digest()),
            (candidate.name.clone(), candidate.digest)
        );
        assert!(
            area.attributes
                .has(Attributes::FIXED_TPM | Attributes::RESTRICTED | Attributes::DECRYPT)
        );
        // No maker is pinned, so that nobody can vouch for anything.
        assert!(!matches!(appraiser.vouch(candidate, 1_800_000_000), Ok(Some(_))));
        // What was accepted can be sealed to, unless its hash is too short for the secret.
        let _ = appraiser.seal(candidate, &opening.attestation_name, &Secret::new(vec![1; 32]));
    }
});

//! Any bytes as a first message, or as edits of a good one or of the keys in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::{Attributes, PublicArea, TpmAppraiser};
use touchmark_crypto::Secret;
use touchmark_fuzz::{edited, opening};
use touchmark_rats::{Appraiser, Retry, cbor, tpm::MAX_ENDORSEMENTS};

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let mut message = opening();
    match choice {
        0 => {}
        1 => {
            message.attestation.public = edited(&message.attestation.public, bytes).into();
        }
        2 => {
            let endorsement = &mut message.endorsements[0];
            endorsement.public = edited(&endorsement.public, bytes).into();
        }
        4 => message.attestation.certificate = Some(bytes.to_vec().into()),
        _ => message.endorsements[0].certificate = Some(bytes.to_vec().into()),
    }
    let encoded = match choice {
        0 => bytes.to_vec(),
        3 => edited(&cbor::encode(&message), bytes),
        _ => cbor::encode(&message),
    };
    let appraiser = TpmAppraiser::new(Vec::new());
    let opening = match appraiser.open(&encoded) {
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

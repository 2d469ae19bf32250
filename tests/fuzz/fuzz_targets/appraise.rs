//! Any bytes in the place of one part of a real TPM's evidence: only what it signed passes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_fuzz::{Exchange, measurements};
use touchmark_rats::{cbor, tpm::TpmEvidence};

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let good = Exchange::new();
    let mut altered = Exchange::new();
    let appraisal = match choice {
        0 => altered.appraise(bytes),
        1 => {
            altered.quote().attest = bytes.to_vec().into();
            altered.now()
        }
        2 => {
            altered.quote().signature = bytes.to_vec().into();
            altered.now()
        }
        3 => {
            altered.log = bytes.to_vec();
            altered.now()
        }
        _ => {
            altered.evidence.pcr_values = match cbor::decode(bytes, usize::MAX) {
                Ok(values) => values,
                Err(_) => return,
            };
            altered.now()
        }
    };
    assert_eq!(
        appraisal.failure(),
        appraisal.checks.last().filter(|check| check.reason().is_some())
    );
    if appraisal.failure().is_some() {
        assert!(appraisal.events.is_empty() && appraisal.measured.is_empty());
        return;
    }
    assert!(appraisal.authenticated);
    assert_eq!(measurements(&appraisal), measurements(&good.now()));
    if *choice == 0 {
        altered.evidence = cbor::decode::<TpmEvidence>(bytes, usize::MAX).expect("was read");
    }
    assert_eq!(altered.quote().attest, Exchange::new().quote().attest);
});

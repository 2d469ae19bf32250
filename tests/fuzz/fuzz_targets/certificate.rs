//! Any bytes as a certificate: the tolerant reader against the strict one.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use touchmark_crypto::x509::{Certificate, DeviceAnchors, DeviceCertificate, Habits, verify_device_path};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(der) = DeviceCertificate::in_nv(bytes) {
        assert!(der.len() <= bytes.len());
    }
    let Ok(tolerant) = DeviceCertificate::parse(bytes) else {
        return;
    };
    if let (Ok(strict), true) = (Certificate::parse(bytes), tolerant.deviations.is_empty()) {
        assert_eq!(strict.spki, tolerant.facts.spki);
        assert_eq!(strict.serial, tolerant.facts.serial);
        assert_eq!(
            (strict.not_before, strict.not_after, strict.is_ca),
            (tolerant.facts.not_before, tolerant.facts.not_after, tolerant.facts.is_ca)
        );
        // The strict one tells usages that stand twice once.
        let usages = |facts: &Certificate| BTreeSet::from_iter(facts.extended_key_usages.clone());
        assert_eq!(usages(&strict), usages(&tolerant.facts));
    }
    // Nobody vouches for it, and it for nobody but where it is pinned.
    assert!(verify_device_path(&tolerant, &[&tolerant], &DeviceAnchors::default(), Habits::OF_TPMS, 1_800_000_000).is_err());
});

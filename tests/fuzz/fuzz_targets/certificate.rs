//! Any bytes as a certificate: the tolerant reader against the strict one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_crypto::x509::{Certificate, DeviceAnchors, DeviceCertificate, Sha1, verify_device_path};

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
        assert_eq!(strict.extended_key_usages.len(), tolerant.facts.extended_key_usages.len());
    }
    // Nobody vouches for it, and it for nobody but where it is pinned.
    assert!(verify_device_path(&tolerant, &[&tolerant], &DeviceAnchors::default(), Sha1::OfMakers, 1_800_000_000).is_err());
});

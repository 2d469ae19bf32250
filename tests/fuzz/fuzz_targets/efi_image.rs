//! Any bytes as an EFI executable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::EfiImage;
use touchmark_crypto::HashAlg;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = EfiImage::parse(bytes) else {
        return;
    };
    let Ok(values) = image.values(HashAlg::Sha256, "image") else {
        return;
    };
    assert!(values.iter().all(|value| value.digest.len() == 32 && [4, 9, 11].contains(&value.pcr)));
    assert_eq!(values[0].digest, image.authenticode(HashAlg::Sha256).unwrap());
});

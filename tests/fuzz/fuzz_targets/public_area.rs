//! Any bytes as a public area.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::PublicArea;

fuzz_target!(|bytes: &[u8]| {
    let Ok(area) = PublicArea::parse(bytes) else {
        return;
    };
    assert_eq!(area.bytes, bytes);
    assert_eq!(PublicArea::parse(&area.bytes).as_ref(), Ok(&area));
    let name = area.name();
    assert_eq!(name[2..], area.name_alg.digest(&[bytes]));
    assert!(!area.name_alg.is_weak());
    assert!(PublicArea::parse(&[bytes, &[0]].concat()).is_err());
    assert!(PublicArea::parse(&bytes[..bytes.len() - 1]).is_err());
});

//! Any bytes as a key reference: a TSS2 PRIVATE KEY file or a PKCS#11 URI.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_custody::{KeyReference, pkcs11_uri::Pkcs11Uri, tss2};
use touchmark_rats::Outcome;

fuzz_target!(|bytes: &[u8]| {
    // What is accepted is written so that it reads back as itself.
    if let Ok(reference) = KeyReference::from_file(bytes) {
        let written = reference.to_file().expect("what was read can be written");
        assert_eq!(KeyReference::from_file(written.as_bytes()), Ok(reference));
    }
    if let Ok(uri) = std::str::from_utf8(bytes).map_err(|_| ()).and_then(|text| Pkcs11Uri::parse(text).map_err(|_| ())) {
        let written = uri.to_string();
        assert_eq!(Pkcs11Uri::parse(&written), Ok(uri));
    }
    // What is affirmed has no check that failed.
    if let Ok(inspected) = tss2::inspect(bytes) {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        assert!(!inspected.checks.iter().any(|check| failed(&check.outcome)));
    }
});

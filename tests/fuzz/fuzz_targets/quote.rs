//! A byte that chooses, then an attestation or a signature of a real TPM, changed: only what that TPM signed passes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::{RecordedKey, RecordedQuote};
use touchmark_crypto::{PublicKey, pem};

const ATTEST: &[u8] = include_bytes!("../../vectors/tpm-quote/thinkpad-gentoo-good/attest.bin");
const SIGNATURE: &[u8] = include_bytes!("../../vectors/tpm-quote/thinkpad-gentoo-good/sig.bin");
const KEY: &str = include_str!("../../vectors/tpm-quote/thinkpad-gentoo-good/ak.pem");

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let key = PublicKey::from_spki(&pem::decode_all("PUBLIC KEY", KEY).unwrap()[0]).unwrap();
    let (attest, signature) = match choice % 2 {
        0 => (rest, SIGNATURE),
        _ => (ATTEST, rest),
    };
    let judged = RecordedQuote {
        attest,
        signature,
        key: &RecordedKey::bare(key),
        nonce: None,
        selection: None,
        values: None,
        log: None,
    }
    .judge();
    let held = judged.checks.iter().all(|check| check.reason().is_none());
    // Another signature of the same key over the same bytes would pass: nobody but the TPM makes one, but for the other s of ECDSA.
    assert!(!held || attest == ATTEST);
});

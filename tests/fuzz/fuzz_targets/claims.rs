//! What a credential says of its key: read, or nothing claimed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_crypto::der;
use touchmark_rats::{cmw::Record, ear::KeyClaims};

fuzz_target!(|bytes: &[u8]| {
    if let Some(contents) = der::contents(0x0c, bytes) {
        assert_eq!(der::tlv(0x0c, &[contents]), bytes);
    }
    let Ok(cmw) = serde_json::from_slice(bytes) else {
        return;
    };
    let _ = KeyClaims::from_cmw(&cmw);
    if let Some(record) = Record::from_json(&cmw) {
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
    }
});

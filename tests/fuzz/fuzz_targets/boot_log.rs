//! Any bytes as a boot log.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::{BootLog, MAX_EVENTS, MAX_LOG};

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = BootLog::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= MAX_LOG && log.len() <= MAX_EVENTS);
    // An event takes sixteen bytes even without digests and data.
    assert!(log.len() * 16 <= bytes.len());
    // Every byte belongs to an event: neither padding nor a cut goes unnoticed.
    assert!(BootLog::parse(&[bytes, &[0; 16]].concat()).is_err());
    assert!(BootLog::parse(&bytes[..bytes.len() - 1]).is_err());
});

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
    // Whatever lies behind a whole log changes nothing of it, or is refused.
    let longer = [bytes, &[0; 16]].concat();
    assert!(BootLog::parse(&longer).map_or(true, |longer| longer.len() == log.len() + 1));
    assert!(BootLog::parse(&bytes[..bytes.len() - 1]).map_or(true, |shorter| shorter.len() < log.len()));
});

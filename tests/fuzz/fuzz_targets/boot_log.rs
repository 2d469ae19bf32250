//! Any bytes as a boot log, read, judged and told.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::{BootLog, MAX_EVENTS, MAX_LOG, LogUse, Registers, boot_values, judge_log};
use touchmark_rats::Reason;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = BootLog::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= MAX_LOG && log.len() <= MAX_EVENTS);
    // An event takes sixteen bytes even without digests and data.
    assert!(log.len() * 16 <= bytes.len());
    // What is cut has no more events, and filling adds none.
    if let Ok(shorter) = BootLog::parse(&bytes[..bytes.len() - 1]) {
        assert!(shorter.len() <= log.len());
    }
    // A log leads to the registers that it leads to, and says the same of them whatever they count.
    let values = boot_values(&log);
    for registers in [Registers::Pcr, Registers::Rtmr] {
        let judged = judge_log(bytes, registers, &values, LogUse::default());
        assert!(judged.checks.iter().all(|check| check.reason() != Some(Reason::LogMismatch)));
        assert!(judged.events.iter().all(|event| event.description.is_ascii()));
    }
    // And to no others: any one bit of them is enough.
    for bank in values.keys() {
        let mut other = values.clone();
        other.retain(|kept, _| kept == bank);
        let Some(value) = other.values_mut().next().and_then(|registers| registers.values_mut().next()) else {
            continue;
        };
        value[bytes.len() % 20] ^= 1 << (bytes[0] % 8);
        let judged = judge_log(bytes, Registers::Pcr, &other, LogUse::default());
        assert!(judged.checks.iter().any(|check| check.reason() == Some(Reason::LogMismatch)));
    }
});

//! Bytes that are no log, or claim more than they hold.

use touchmark_attestor_tpm::{
    BootLog,
    LogError::{self, Header, Limit, Register, Truncated},
    MAX_EVENTS, MAX_LOG,
};
use touchmark_crypto::HashAlg;

use crate::forge::{
    log::{Digests, IPL, Log, NO_ACTION, header},
    write::{SHA1, SHA256, SHA384, SHA512},
};

#[track_caller]
fn fails(bytes: &[u8]) -> LogError {
    BootLog::parse(bytes).unwrap_err()
}

/// A log with this TCG_EfiSpecIDEvent and nothing behind it.
fn with_spec_id(alter: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut spec_id = Log::boot().spec_id();
    alter(&mut spec_id);
    header(0, NO_ACTION, &spec_id)
}

#[test]
fn a_good_log_is_read_whole() {
    let log = Log::boot();
    let bytes = log.bytes();
    let parsed = BootLog::parse(&bytes).unwrap();
    assert_eq!(parsed.len(), log.events.len());
    assert!(parsed.has_bank(HashAlg::Sha1) && parsed.has_bank(HashAlg::Sha256));
    assert!(!parsed.has_bank(HashAlg::Sha384));
    assert!(BootLog::parse(&Log::empty().bytes()).unwrap().is_empty());
}

#[test]
fn p03_a_header_that_is_not_one_is_refused() {
    let spec_id = Log::boot().spec_id();
    let events = Log::boot().bytes()[Log::empty().bytes().len()..].to_vec();
    // What is not the header of a crypto-agile log is read as a log of SHA-1 alone, in which such events make no sense.
    for first in [
        header(2, NO_ACTION, &spec_id),
        header(0, IPL, &spec_id),
        with_spec_id(|spec_id| spec_id[..16].copy_from_slice(b"Spec ID Event02\0")),
        with_spec_id(|spec_id| spec_id[..16].copy_from_slice(b"Spec ID Event03 ")),
    ] {
        let legacy = BootLog::parse(&first).unwrap();
        assert_eq!((legacy.len(), legacy.banks()), (1, &[HashAlg::Sha1][..]));
        fails(&[first, events.clone()].concat());
    }
    assert!(matches!(fails(b""), Truncated { event: 0 }));
    assert!(matches!(
        fails(b"not a log at all, but long enough to be read"),
        Truncated { .. }
    ));
    assert!(matches!(fails(&[0; 64]), Header(_)));
    assert!(matches!(fails(&[0xff; 64]), Truncated { .. }));
    for header in [&[0, 0, 0][..], &[1]] {
        let bytes = with_spec_id(|spec_id| spec_id.extend(header));
        assert!(matches!(fails(&bytes), Header(_)));
    }
}

#[test]
fn p03_a_header_with_impossible_algorithms_is_refused() {
    let sized = |algorithms: &[(u16, u16)]| {
        let mut log = Log::empty();
        log.algorithms = algorithms.to_vec();
        log.bytes()
    };
    for algorithms in [
        &[][..],
        &[(SHA256, 20)],
        &[(SHA1, 32)],
        &[(SHA256, 0)],
        &[(SHA384, 32)],
        &[(SHA512, 65)],
        &[(0x0012, 65)],
        &[(0x0012, u16::MAX)],
        &[(SHA256, 32), (SHA256, 32)],
        &[(0x0012, 32), (0x0012, 32)],
    ] {
        assert!(matches!(fails(&sized(algorithms)), Header(_)), "{algorithms:?}");
    }
    let many: Vec<(u16, u16)> = (0x100..0x111).map(|alg| (alg, 32)).collect();
    assert!(matches!(fails(&sized(&many)), Header(_)));
    // Sizes are those of the registry, never those that a log claims: of other algorithms none is known.
    for unregistered in [&many[..1], &[(SHA256, 32), (0x1234, 10)]] {
        assert!(matches!(fails(&sized(unregistered)), Header(_)));
    }
    let registered = [
        (SHA256, 32),
        (0x0012, 32),
        (0x0027, 32),
        (0x0028, 48),
        (0x0029, 64),
    ];
    assert!(BootLog::parse(&sized(&registered)).unwrap().is_empty());
    for count in [3_u32, 16] {
        let bytes = with_spec_id(|spec_id| spec_id[24..28].copy_from_slice(&count.to_le_bytes()));
        assert!(matches!(fails(&bytes), Header(_) | Truncated { .. }), "{count}");
    }
    for count in [17, 0x1000_0000, u32::MAX] {
        let bytes = with_spec_id(|spec_id| spec_id[24..28].copy_from_slice(&count.to_le_bytes()));
        assert!(matches!(fails(&bytes), Header(_)), "{count}");
    }
}

#[test]
fn p03_an_event_has_each_digest_that_the_header_lists_at_most_once() {
    let altered = |alter: &dyn Fn(&mut Digests)| {
        let mut log = Log::boot();
        alter(&mut log.events[2].digests);
        log.bytes()
    };
    let event_3 = |bytes: &[u8], text: &str| match fails(bytes) {
        LogError::Digests { event: 3, what } => assert!(what.contains(text), "{what}"),
        other => panic!("{other}"),
    };
    // Windows leaves the weaker ones out: where they are missing is asked when their bank is.
    for fewer in [altered(&|digests| drop(digests.pop())), altered(&Vec::clear)] {
        assert_eq!(BootLog::parse(&fewer).unwrap().len(), Log::boot().events.len());
    }
    event_3(
        &altered(&|digests| digests.push((SHA384, vec![0; 48]))),
        "does not list",
    );
    event_3(
        &altered(&|digests| digests[0] = digests[1].clone()),
        "two digests of one algorithm",
    );
    event_3(&altered(&|digests| digests[0].0 = SHA384), "does not list");
    event_3(&altered(&|digests| digests[1].0 = 0), "does not list");
}

#[test]
fn p03_registers_that_do_not_exist_are_refused() {
    for pcr in [24, 255, 256, 0x0100_0000, u32::MAX] {
        let mut log = Log::boot();
        log.events[0].pcr = pcr;
        assert_eq!(
            fails(&log.bytes()),
            Register {
                event: 1,
                register: pcr
            }
        );
    }
    let mut log = Log::boot();
    log.events[0].pcr = 23;
    BootLog::parse(&log.bytes()).unwrap();
}

#[test]
fn p03_sizes_and_counts_that_the_bytes_do_not_hold_are_refused_at_once() {
    let log = Log::boot();
    let start = Log::empty().bytes().len();
    let first = log.events[0].bytes();
    for count in [17, 0x0100_0000, u32::MAX] {
        let mut bytes = log.bytes();
        bytes[start + 8..start + 12].copy_from_slice(&count.to_le_bytes());
        assert!(
            matches!(fails(&bytes), LogError::Digests { event: 1, .. }),
            "{count}"
        );
    }
    let size_at = start + first.len() - log.events[0].data.len() - 4;
    for size in [u32::MAX, u32::MAX - 1, 0x8000_0000, 0x7fff_ffff, 1 << 22] {
        let mut bytes = log.bytes();
        bytes[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(fails(&bytes), Truncated { event: 1 });
        let mut bytes = log.bytes();
        bytes[28..32].copy_from_slice(&size.to_le_bytes());
        assert_eq!(fails(&bytes), Truncated { event: 0 });
    }
    // One byte more or less than there is: what follows is read out of step.
    let size = u32::try_from(log.events[0].data.len()).unwrap();
    for wrong in [size - 1, size + 1] {
        let mut bytes = log.bytes();
        bytes[size_at..size_at + 4].copy_from_slice(&wrong.to_le_bytes());
        fails(&bytes);
    }
}

#[test]
fn p03_a_log_cut_within_an_event_is_refused_and_cut_between_events_is_shorter() {
    let log = Log::boot();
    let whole = log.bytes();
    let mut ends = vec![Log::empty().bytes().len()];
    for event in &log.events {
        ends.push(ends.last().unwrap() + event.bytes().len());
    }
    for length in 0..=whole.len() {
        match (BootLog::parse(&whole[..length]), ends.binary_search(&length)) {
            (Ok(parsed), Ok(events)) => assert_eq!(parsed.len(), events),
            (Err(Truncated { event }), Err(events)) => assert_eq!(event, events, "{length}"),
            (other, _) => panic!("{length}: {other:?}"),
        }
    }
    // Filling, as in a log area that was copied whole, is none of its events; what could be the rest of one is refused.
    for byte in [0, 0xff] {
        for length in [1, 4, 15] {
            fails(&[&whole[..], &vec![byte; length]].concat());
        }
        let filled = [&whole[..], &[byte; 64]].concat();
        assert_eq!(BootLog::parse(&filled).unwrap().len(), log.events.len());
        fails(&[&filled[..], &[1]].concat());
    }
}

#[test]
fn p03_limits_hold_to_the_event_and_to_the_byte() {
    let mut log = Log::empty();
    log.algorithms = vec![(SHA256, 32)];
    for _ in 0..MAX_EVENTS {
        log.image(10, IPL, b"x", b"");
    }
    assert_eq!(BootLog::parse(&log.bytes()).unwrap().len(), MAX_EVENTS);
    log.image(10, IPL, b"x", b"");
    assert_eq!(fails(&log.bytes()), Limit("events"));
    let mut log = Log::empty();
    let overhead = {
        log.measure(10, IPL, b"");
        log.bytes().len()
    };
    log.events[0].data = vec![0; MAX_LOG - overhead];
    assert_eq!(log.bytes().len(), MAX_LOG);
    BootLog::parse(&log.bytes()).unwrap();
    log.events[0].data.push(0);
    assert_eq!(fails(&log.bytes()), Limit("bytes"));
}

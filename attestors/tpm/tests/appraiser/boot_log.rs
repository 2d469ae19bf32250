//! Boot logs against quoted registers: what they do not explain, and what they only pretend to.

use touchmark_rats::Reason::{EventDataMismatch, EventDigestSet, LogMismatch, Malformed, Oversized};

use crate::forge::{
    BIND, Case, Tpm,
    attest::{self, Attest},
    key::Key,
    log::{ACTION, APPLICATION, AUTHORITY, Event, IPL, Log, NO_ACTION, SEPARATOR, VARIABLE, variable},
    passed, refused,
    write::{SHA1, SHA256},
};

const NAME: &str = "tpm.log";

/// A good quote of the ordinary boot with another log beside it.
fn with_log(alter: impl FnOnce(&mut Log)) -> Case {
    let mut case = Case::good();
    let mut log = case.tpm.log.clone();
    alter(&mut log);
    case.log = log.bytes();
    case
}

/// A boot of this log, quoted as it was.
fn booted(alter: impl FnOnce(&mut Log)) -> Case {
    let mut log = Log::boot();
    alter(&mut log);
    Case::of(Tpm::with(Key::p256(), log))
}

#[test]
fn e04_an_unextended_bank_explains_nothing_of_a_good_log() {
    let mut tpm = Tpm::new();
    tpm.registers = vec![vec![0; 32]; 24];
    let mut case = Case::of(tpm);
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
    let found = &appraisal.failure().unwrap().found;
    assert!(found.starts_with("PCR 0: quoted as never extended"), "{found}");
    assert!(appraisal.events.is_empty() && appraisal.measured.is_empty());
    case.values.clear();
    case.refused(NAME, LogMismatch);
}

#[test]
fn e04_one_register_emptied_beside_a_log_of_its_events_is_refused() {
    for pcr in 0..10 {
        let mut tpm = Tpm::new();
        tpm.registers[pcr] = vec![0; 32];
        let appraisal = Case::of(tpm).appraise();
        refused(&appraisal, NAME, LogMismatch);
        let found = &appraisal.failure().unwrap().found;
        assert!(found.starts_with(&format!("PCR {pcr}: ")), "{found}");
    }
}

#[test]
fn e04_zero_values_beside_a_quote_of_extended_registers_are_refused() {
    let mut case = Case::good();
    for value in &mut case.values {
        value.2 = vec![0; 32];
    }
    case.refused("tpm.quote.pcr_digest", touchmark_rats::Reason::PcrDigestMismatch);
}

#[test]
fn e04_a_log_without_the_quoted_bank_explains_nothing() {
    let case = with_log(|log| {
        log.algorithms = vec![(SHA1, 20)];
        for event in &mut log.events {
            event.digests.retain(|(alg, _)| *alg == SHA1);
        }
    });
    case.refused(NAME, EventDigestSet);
    // Its digests under an algorithm number that the appraiser does not know.
    let case = with_log(|log| {
        log.algorithms = vec![(SHA1, 20), (0x0012, 32)];
        for event in &mut log.events {
            event.digests[1].0 = 0x0012;
        }
    });
    case.refused(NAME, EventDigestSet);
}

#[test]
fn e04_a_register_that_nothing_was_measured_into_is_reported_as_such() {
    let case = booted(|log| log.events.retain(|event| ![3, 6, 9].contains(&event.pcr)));
    let appraisal = case.appraise();
    passed(&appraisal);
    let bare: Vec<u8> = appraisal
        .measured
        .iter()
        .filter(|(_, any)| !any)
        .map(|(pcr, _)| *pcr)
        .collect();
    assert_eq!(bare, [3, 6, 9]);
    let mut without_values = case;
    without_values.values.clear();
    assert_eq!(without_values.appraise().measured, appraisal.measured);
}

#[test]
fn an_event_that_only_says_no_action_measures_nothing() {
    let case = booted(|log| {
        log.events.retain(|event| event.pcr != 3);
        log.measure(3, NO_ACTION, b"not extended");
    });
    let appraisal = case.appraise();
    passed(&appraisal);
    assert!(appraisal.measured.contains(&(3, false)));
    assert!(appraisal.events.iter().all(|event| event.pcr != 3));
}

#[test]
fn a_log_edited_anywhere_names_the_register() {
    let count = Log::boot().events.len();
    for position in 0..count {
        let pcr = Log::boot().events[position].pcr;
        for alter in [
            (|log, at| log.events[at].digests[1].1[7] ^= 1) as fn(&mut Log, usize),
            |log, at| drop(log.events.remove(at)),
            |log, at| log.events.insert(at, log.events[at].clone()),
            |log, at| log.events[at].kind = NO_ACTION,
            |log, at| log.events[at].pcr = 10,
        ] {
            let case = with_log(|log| alter(log, position));
            let appraisal = case.appraise();
            // Twice the last event of a register leads to the quoted value and beyond it.
            let last = Log::boot().events.iter().rposition(|event| event.pcr == pcr) == Some(position);
            if appraisal.failure().is_none() {
                assert!(last && appraisal.events.len() == count);
                continue;
            }
            refused(&appraisal, NAME, LogMismatch);
            let found = &appraisal.failure().unwrap().found;
            assert!(found.starts_with(&format!("PCR {pcr}: quoted ")), "{found}");
            assert!(appraisal.events.is_empty() && appraisal.measured.is_empty());
        }
    }
}

#[test]
fn events_of_one_register_in_another_order_are_refused() {
    let case = with_log(|log| {
        let of_seven: Vec<usize> = (0..log.events.len())
            .filter(|at| log.events[*at].pcr == 7)
            .collect();
        log.events.swap(of_seven[0], of_seven[1]);
    });
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
    assert!(appraisal.failure().unwrap().found.starts_with("PCR 7: "));
}

#[test]
fn a_quote_beyond_the_log_is_refused() {
    // Something was measured that the log does not show.
    let mut case = booted(|log| log.image(9, IPL, b"implant", b""));
    case.log = Log::boot().bytes();
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
    assert!(appraisal.failure().unwrap().found.starts_with("PCR 9: "));
    case.values.clear();
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
}

#[test]
fn entries_past_the_quote_are_dropped_and_nothing_is_said_of_them() {
    let case = with_log(|log| {
        log.image(4, APPLICATION, b"loaded after the quote", &[0; 32]);
        log.measure(5, ACTION, b"Exit Boot Services Returned with Success");
        log.image(14, IPL, b"not quoted", b"MokList\0");
    });
    let appraisal = case.appraise();
    passed(&appraisal);
    let (before, events) = (Case::good().appraise().events, appraisal.events);
    assert_eq!(events, before);
    // Without the values nothing tells which entries came after the quote.
    let mut case = case;
    case.values.clear();
    case.refused(NAME, LogMismatch);
}

#[test]
fn p01_data_that_is_not_what_its_digest_covers_is_refused() {
    for (kind, data) in [
        (SEPARATOR, vec![0; 4]),
        (ACTION, b"Calling EFI Application from Boot Option".to_vec()),
        (VARIABLE, variable("SecureBoot", &[1])),
    ] {
        // What was measured is something else than what the event shows.
        let case = booted(|log| log.image(7, kind, b"something else", &data));
        let appraisal = case.appraise();
        refused(&appraisal, NAME, EventDataMismatch);
        assert!(appraisal.failure().unwrap().found.contains("PCR 7"));
        // The digest stays and only what is shown is edited.
        let case = booted(|log| log.measure(7, kind, &data));
        let mut log = case.tpm.log.clone();
        log.events.last_mut().unwrap().data.push(0);
        let case = Case {
            log: log.bytes(),
            ..case
        };
        case.refused(NAME, EventDataMismatch);
    }
}

#[test]
fn p01_a_secure_boot_variable_cannot_be_shown_as_on_when_off_was_measured() {
    let case = booted(|log| {
        let at = log.position(7);
        let off = variable("SecureBoot", &[0]);
        log.events.remove(at);
        log.measure(7, VARIABLE, &off);
    });
    let mut log = case.tpm.log.clone();
    let last = log.events.last_mut().unwrap();
    *last.data.last_mut().unwrap() = 1;
    let case = Case {
        log: log.bytes(),
        ..case
    };
    case.refused(NAME, EventDataMismatch);
}

#[test]
fn p01_a_shim_that_measured_only_its_certificate_passes() {
    let shown = variable("Shim", b"certificate");
    passed(&booted(|log| log.image(7, AUTHORITY, b"certificate", &shown)).appraise());
}

#[test]
fn p01_only_digests_are_believed_whatever_type_an_event_claims() {
    let good = Case::good().appraise().events;
    let at = Log::boot().position(8);
    for kind in (0..0x20)
        .chain(0x8000_0000..0x8000_0012)
        .chain([0x8000_00e0, 0xb000_0000, u32::MAX])
    {
        let case = with_log(|log| log.events[at].kind = kind);
        let appraisal = case.appraise();
        match kind {
            NO_ACTION => refused(&appraisal, NAME, LogMismatch),
            SEPARATOR | VARIABLE | ACTION => refused(&appraisal, NAME, EventDataMismatch),
            _ => {
                passed(&appraisal);
                let digests = |events: &[touchmark_rats::MeasuredEvent]| {
                    events
                        .iter()
                        .map(|event| (event.number, event.pcr, event.digest.clone()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(digests(&appraisal.events), digests(&good));
            }
        }
    }
}

#[test]
fn a_startup_locality_counts_where_the_register_began_there_and_nowhere_else() {
    for locality in [3, 4] {
        let mut log = Log::boot();
        let start = [&[0; 31][..], &[locality]].concat();
        let began = log.replay(SHA256, 0, start, usize::MAX);
        log.startup_locality(locality);
        let mut tpm = Tpm::with(Key::p256(), log);
        tpm.registers[0] = began;
        let mut case = Case::of(tpm);
        passed(&case.appraise());
        // The event taken away, or telling of another locality.
        case.log = Log::boot().bytes();
        case.refused(NAME, LogMismatch);
        let mut other = Log::boot();
        other.startup_locality(7 - locality);
        case.log = other.bytes();
        case.refused(NAME, LogMismatch);
    }
    // The event added to a boot that began at zero.
    let case = with_log(|log| log.startup_locality(3));
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
    assert!(appraisal.failure().unwrap().found.starts_with("PCR 0: "));
    let case = with_log(|log| log.startup_locality(0));
    passed(&case.appraise());
}

#[test]
fn a_startup_locality_of_another_register_or_length_or_type_does_not_count() {
    for alter in [
        (|event| event.pcr = 1) as fn(&mut Event),
        |event| event.data.truncate(16),
        |event| event.data.push(0),
        |event| event.data[0] = b's',
    ] {
        let case = with_log(|log| {
            log.startup_locality(3);
            alter(&mut log.events[0]);
        });
        passed(&case.appraise());
    }
}

#[test]
fn a_cut_log_never_passes_without_its_cut_events() {
    let mut case = Case::good();
    case.keys.clear();
    let whole = case.log.clone();
    for length in 0..whole.len() {
        case.log = whole[..length].to_vec();
        let appraisal = case.appraise();
        let failure = appraisal.failure().unwrap();
        match failure.name {
            NAME => assert_eq!(failure.reason(), Some(LogMismatch)),
            name => assert_eq!(
                (name, failure.reason()),
                ("tpm.log.structure", Some(Malformed)),
                "{length}"
            ),
        }
    }
}

#[test]
fn p03_a_log_over_its_limits_is_refused() {
    let case = with_log(|log| {
        while log.events.len() <= 10_000 {
            log.measure(10, IPL, b"");
        }
    });
    case.refused("tpm.log.structure", Oversized);
    let case = with_log(|log| log.measure(10, IPL, &vec![0; 4 * 1024 * 1024]));
    case.refused("tpm.log.structure", Oversized);
}

#[test]
fn what_a_log_says_cannot_steer_a_terminal() {
    let case = with_log(|log| {
        log.events.retain(|event| event.pcr != 8);
        let text = format!("\u{1b}[2J\r\n\u{202e}{}", "x".repeat(4_000));
        log.image(8, IPL, b"other", text.as_bytes());
    });
    let appraisal = case.appraise();
    refused(&appraisal, NAME, LogMismatch);
    let found = &appraisal.failure().unwrap().found;
    assert!(found.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{found}");
    assert!(found.len() < 600);
}

#[test]
fn a_quote_of_registers_that_start_at_ones_is_replayed_from_ones() {
    let mut log = Log::boot();
    log.measure(17, IPL, b"late launch");
    let mut case = Case::of(Tpm::with(Key::p256(), log));
    let registers: Vec<u8> = (0..=9).chain([17, 18]).collect();
    case.selection = touchmark_rats::PcrSelection::sha256(registers.iter().copied());
    case.sealed_to_boot = false;
    case.quote = Some(Attest::quote(
        &BIND,
        &attest::selection(&[(SHA256, &registers)]),
        &case.tpm.pcr_digest(SHA256, &registers),
    ));
    case.values.clear();
    let appraisal = case.appraise();
    passed(&appraisal);
    assert!(appraisal.measured.contains(&(17, true)) && appraisal.measured.contains(&(18, false)));
}

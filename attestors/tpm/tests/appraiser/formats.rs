//! The same boot, and the same list, in each form that they are written in.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};
use touchmark_attestor_tpm::{
    BootLog, PcrValues, boot_values,
    ima::{ImaExpected, judge_ima},
};
use touchmark_crypto::HashAlg;

use crate::forge::{
    log::{Event, Log},
    write::{SHA1, SHA256, digest},
};

/// Events of registers 0 to 7, each with a digest of its data in both banks.
fn events() -> impl Strategy<Value = Vec<(u32, u32, Vec<u8>)>> {
    let kind = prop::sample::select(vec![
        0x1_u32,
        0x4,
        0x5,
        0x8,
        0xd,
        0x8000_0001,
        0x8000_0003,
        0x8000_00e0,
    ]);
    vec((0_u32..8, kind, vec(any::<u8>(), 0..60)), 1..24)
}

fn log(events: &[(u32, u32, Vec<u8>)]) -> Log {
    let mut log = Log::empty();
    for (pcr, kind, data) in events {
        log.measure(*pcr, *kind, data);
    }
    log
}

/// The log of a TPM 1.2, and of kernels that know no other: TCG_PCClientPCREvent.
fn legacy(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        out.extend(event.pcr.to_le_bytes());
        out.extend(event.kind.to_le_bytes());
        out.extend(&event.digests[0].1);
        out.extend(u32::try_from(event.data.len()).unwrap().to_le_bytes());
        out.extend(&event.data);
    }
    out
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// A canonical event log (TCG CEL, section 5.1).
fn canonical(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, event) in (0_u64..).zip(events) {
        let digests = event.digests.iter().map(|(alg, digest)| {
            let alg = u8::try_from(*alg).unwrap();
            tlv(alg, digest)
        });
        let content = [tlv(0, &event.kind.to_be_bytes()), tlv(1, &event.data)];
        out.extend(tlv(0, &number.to_be_bytes()));
        out.extend(tlv(1, &event.pcr.to_be_bytes()));
        out.extend(tlv(3, &digests.collect::<Vec<_>>().concat()));
        out.extend(tlv(5, &content.concat()));
    }
    out
}

/// What the registers of a bank hold after these events.
fn replayed(events: &[Event], bank: u16) -> BTreeMap<u8, Vec<u8>> {
    let mut out = BTreeMap::new();
    for event in events {
        let (_, of_event) = event.digests.iter().find(|(alg, _)| *alg == bank).unwrap();
        let register = u8::try_from(event.pcr).unwrap();
        let value = out.entry(register).or_insert_with(|| vec![0; of_event.len()]);
        *value = digest(bank, &[value, of_event]);
    }
    out
}

/// Files with their digests.
fn files() -> impl Strategy<Value = Vec<(Vec<u8>, String)>> {
    vec((vec(any::<u8>(), 32), "/[a-zA-Z0-9/._-]{1,40}"), 1..24)
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

/// Template data of `ima-ng`.
fn template(digest: &[u8], path: &str) -> Vec<u8> {
    let digest = [b"sha256:\0", digest].concat();
    [sized(&digest), sized(format!("{path}\0").as_bytes())].concat()
}

fn binary(files: &[(Vec<u8>, String)]) -> Vec<u8> {
    let entry = |(file, path): &(Vec<u8>, String)| {
        let data = template(file, path);
        [
            &10_u32.to_le_bytes()[..],
            &digest(SHA1, &[&data]),
            &sized(b"ima-ng"),
            &sized(&data),
        ]
        .concat()
    };
    files.iter().flat_map(entry).collect()
}

fn ascii(files: &[(Vec<u8>, String)]) -> String {
    let line = |(file, path): &(Vec<u8>, String)| {
        let of_data = hex::encode(digest(SHA1, &[&template(file, path)]));
        format!("10 {of_data} ima-ng sha256:{} {path}\n", hex::encode(file))
    };
    files.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_leads_to_the_same_registers_in_whatever_form_it_is_written(events in events()) {
        let log = log(&events);
        let both: PcrValues = [
            (HashAlg::Sha1, replayed(&log.events, SHA1)),
            (HashAlg::Sha256, replayed(&log.events, SHA256)),
        ]
        .into_iter()
        .collect();
        for bytes in [log.bytes(), canonical(&log.events)] {
            let read = BootLog::parse(&bytes).unwrap();
            prop_assert_eq!(read.len(), events.len());
            prop_assert_eq!(&boot_values(&read), &both);
        }
        let bytes = legacy(&log.events);
        let read = BootLog::parse(&bytes).unwrap();
        let values = boot_values(&read);
        prop_assert_eq!(values.get(&HashAlg::Sha1), both.get(&HashAlg::Sha1));
    }

    #[test]
    fn p03_a_log_that_is_cut_within_an_event_is_refused(events in events(), at: Index) {
        let log = log(&events);
        for (whole, records) in [
            (log.bytes(), log.events.iter().map(|event| event.bytes().len()).collect::<Vec<_>>()),
            (canonical(&log.events), log.events.iter().map(|event| canonical(std::slice::from_ref(event)).len()).collect()),
        ] {
            let first = whole.len() - records.iter().sum::<usize>();
            let mut ends = vec![first];
            for length in records {
                ends.push(ends.last().unwrap() + length);
            }
            let cut = first + at.index(whole.len() - first);
            if ends.contains(&cut) {
                continue;
            }
            prop_assert!(BootLog::parse(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
        }
    }

    #[test]
    fn a_list_is_the_same_in_its_binary_and_its_ascii_form(files in files(), at: Index) {
        let expected = ImaExpected::default();
        let (binary, ascii) = (binary(&files), ascii(&files));
        for (bytes, is_ascii) in [(binary.as_slice(), false), (ascii.as_bytes(), true)] {
            let judged = judge_ima(bytes, is_ascii, &expected);
            prop_assert!(judged.checks.iter().all(|check| check.reason().is_none()), "{:?}", judged.checks);
            let read: Vec<(Vec<u8>, String)> = judged
                .entries
                .iter()
                .map(|entry| (entry.file.digest.to_vec(), entry.path.to_string()))
                .collect();
            prop_assert_eq!(&read, &files);
        }
        let cut = at.index(binary.len() - 1) + 1;
        let judged = judge_ima(&binary[..cut], false, &expected);
        let whole = files.iter().scan(0, |end, (file, path)| {
            *end += 4 + 20 + 4 + 6 + 4 + template(file, path).len();
            Some(*end)
        });
        let is_whole = whole.into_iter().any(|end| end == cut);
        prop_assert_eq!(judged.checks.iter().all(|check| check.reason().is_none()), is_whole);
    }
}

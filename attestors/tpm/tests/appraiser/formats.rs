//! The same boot, and the same list, in each form that they are written in.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};
use touchmark_attestor_tpm::{
    BootLog, PcrValues, boot_values,
    ima::{ImaExpected, SignatureKeys, judge_ima},
};
use touchmark_crypto::HashAlg;
use touchmark_rats::{
    Check,
    Reason::{self, EntriesUnattested, LogBankMismatch, LogMismatch, SignatureInvalid, WeakHash},
};

use crate::forge::{
    key::Key,
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

/// A list of this file alone, and what its registers hold: the SHA-1 bank, and the SHA-256 bank by either way of extending it.
fn listed(data: &[u8]) -> [Vec<u8>; 3] {
    let sha1 = digest(SHA1, &[data]);
    let padded = [&sha1[..], &[0; 12]].concat();
    let extended = |bank, length: usize, of: &[u8]| digest(bank, &[&vec![0; length], of]);
    [
        extended(SHA1, 20, &sha1),
        extended(SHA256, 32, &digest(SHA256, &[data])),
        extended(SHA256, 32, &padded),
    ]
}

#[test]
fn how_far_a_list_is_proved_is_told_bank_by_bank() {
    let file = (vec![7; 32], "/bin/true".to_owned());
    let list = binary(std::slice::from_ref(&file));
    let [sha1, sha256, padded] = listed(&template(&file.0, &file.1));
    let judged = |values: &[(HashAlg, u8, &Vec<u8>)]| {
        let mut given = PcrValues::new();
        for (bank, register, value) in values {
            given
                .entry(*bank)
                .or_default()
                .insert(*register, (*value).clone());
        }
        let expected = ImaExpected {
            values: given,
            keys: None,
        };
        let judged = judge_ima(&list, false, &expected);
        let reasons: Vec<Reason> = judged.checks.iter().filter_map(Check::reason).collect();
        let notes: Vec<Reason> = judged.checks.iter().filter_map(Check::note).collect();
        (reasons, notes)
    };
    let (one, other) = (HashAlg::Sha1, HashAlg::Sha256);
    let wrong = (vec![9; 20], vec![9; 32]);
    let both = judged(&[(one, 10, &sha1), (other, 10, &sha256)]);
    assert_eq!(both, (vec![], vec![]));
    // Kernels before Linux 5.8 extend SHA-1 digests: the register is no better than those.
    assert_eq!(judged(&[(other, 10, &padded)]), (vec![], vec![WeakHash]));
    // The SHA-1 bank alone is wrong, or the other one, or both.
    let only = judged(&[(one, 10, &wrong.0), (other, 10, &sha256)]);
    assert_eq!(only.0, [LogMismatch, LogBankMismatch]);
    let other_one = judged(&[(one, 10, &sha1), (other, 10, &wrong.1)]);
    assert_eq!(other_one.0, [LogMismatch]);
    let neither = judged(&[(one, 10, &wrong.0), (other, 10, &wrong.1)]);
    assert_eq!(neither.0, [LogMismatch, LogMismatch]);
    // Values, and none of the register that this is about.
    assert_eq!(judged(&[(other, 0, &wrong.1)]), (vec![], vec![EntriesUnattested]));
}

#[test]
fn e11_a_files_signature_over_a_digest_of_another_algorithm_does_not_count() {
    let key = Key::p256();
    let (file, path) = ([7_u8; 32], "/bin/true");
    let keys = SignatureKeys::new([key.public().clone()]);
    let identifier = &digest(SHA1, &[key.public().raw()])[16..];
    let judged = |hash: u8| {
        // struct signature_v2_hdr: type, version, hash, key, length; what is behind it is not reached.
        let signature = [&[3, 2, hash][..], identifier, &[0, 4], &[1; 4]].concat();
        let data = [template(&file, path), sized(&signature)].concat();
        let list = [
            &10_u32.to_le_bytes()[..],
            &digest(SHA1, &[&data]),
            &sized(b"ima-sig"),
            &sized(&data),
        ]
        .concat();
        let expected = ImaExpected {
            values: PcrValues::new(),
            keys: Some(&keys),
        };
        let judged = judge_ima(&list, false, &expected);
        let failed = judged.checks.iter().find(|check| check.reason().is_some());
        failed.map(|check| (check.name, check.reason().unwrap(), check.found.clone()))
    };
    // HASH_ALGO_SHA512 over a SHA-256 digest; and SHA-256, whose bytes are no signature of this key.
    let (name, reason, found) = judged(6).unwrap();
    assert_eq!((name, reason), ("ima.signatures", SignatureInvalid));
    assert!(found.contains("another algorithm"), "{found}");
    let (name, reason, found) = judged(4).unwrap();
    assert_eq!((name, reason), ("ima.signatures", SignatureInvalid));
    assert!(found.contains("does not verify"), "{found}");
}

#[test]
fn an_entry_is_attested_by_the_register_that_it_is_of_and_by_no_other() {
    let files = [
        (vec![1; 32], "/bin/a".to_owned()),
        (vec![2; 32], "/bin/b".to_owned()),
    ];
    let mut list = binary(&files);
    // The second entry is of register 11, as a rule of the kernel's policy can say.
    let second = 4 + 20 + 4 + 6 + 4 + template(&files[0].0, &files[0].1).len();
    list[second] = 11;
    let value = |number: usize| {
        let (file, path) = &files[number];
        HashAlg::Sha256.digest(&[&[0; 32], &digest(SHA256, &[&template(file, path)])])
    };
    let judged = |values: &[(u8, Vec<u8>)]| {
        let expected = ImaExpected {
            values: [(HashAlg::Sha256, values.iter().cloned().collect())]
                .into_iter()
                .collect(),
            keys: None,
        };
        let judged = judge_ima(&list, false, &expected);
        let reasons: Vec<Reason> = judged.checks.iter().filter_map(Check::reason).collect();
        (reasons, [0, 1].map(|number| judged.is_attested(number)))
    };
    assert_eq!(judged(&[(10, value(0))]), (vec![], [true, false]));
    assert_eq!(judged(&[(10, value(0)), (11, value(1))]), (vec![], [true, true]));
    assert_eq!(
        judged(&[(10, value(0)), (11, vec![0; 32])]),
        (vec![LogMismatch], [true, false])
    );
}

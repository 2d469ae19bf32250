//! No digest covers what a log or a list calls its entries. Whatever they are called, nothing better follows.

use std::path::PathBuf;

use touchmark_attestor_tpm::{
    BootLog, Judged, LogUse, Registers, boot_values,
    ima::{ImaExpected, judge_ima},
    judge_log,
};
use touchmark_crypto::{HashAlg, sha256};
use touchmark_rats::{ClaimValue, Claims};

/// Logs of real machines: GRUB of two kinds, systemd-boot, a unified kernel image, Windows; Secure Boot on and off.
const LOGS: [&str; 7] = [
    "rhel8-gce",
    "hp-elitebook-ubuntu2004",
    "keylime-mb-log",
    "x1carbon-windows10",
    "haruhi-thinkpad-uki-sdstub",
    "archlinux-sdboot-workstation",
    "ubuntu2104-gce-no-dbx",
];
/// Types that something follows from, one that is known and says nothing, and one that no specification has.
const TYPES: [u32; 12] = [
    0x4,
    0x6,
    0x8,
    0xd,
    0x12,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_0007,
    0x8000_00e0,
    0x9999,
];

fn recorded(name: &str) -> Vec<u8> {
    fn find(folder: PathBuf, name: &str) -> Option<PathBuf> {
        let entries: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        let here = entries.iter().find(|path| path.ends_with(name)).cloned();
        here.or_else(|| entries.into_iter().find_map(|path| find(path, name)))
    }
    let vectors = crate::architecture::repository().join("tests/vectors");
    let folder = find(vectors, name).unwrap_or_else(|| panic!("{name}"));
    std::fs::read(folder.join("eventlog.bin")).unwrap()
}

/// Where an event's register, type, digest of SHA-256 and data are.
#[derive(Debug, Clone)]
struct Place {
    register: u32,
    kind: std::ops::Range<usize>,
    digest: std::ops::Range<usize>,
    data: std::ops::Range<usize>,
    whole: std::ops::Range<usize>,
}

/// The events of a crypto-agile log.
fn places(log: &[u8]) -> Vec<Place> {
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
    let short = |at: usize| u16::from_le_bytes(log[at..at + 2].try_into().unwrap());
    let header = usize::try_from(number(28)).unwrap();
    let algorithms: Vec<(u16, usize)> = (0..usize::try_from(number(32 + 24)).unwrap())
        .map(|n| (short(32 + 28 + 4 * n), usize::from(short(32 + 30 + 4 * n))))
        .collect();
    let mut at = 32 + header;
    let mut out = Vec::new();
    while at + 16 <= log.len() && log[at..].iter().any(|byte| ![0, 0xff].contains(byte)) {
        let (begin, register, kind) = (at, number(at), at + 4..at + 8);
        let count = number(at + 8);
        at += 12;
        let mut digest = 0..0;
        for _ in 0..count {
            let algorithm = short(at);
            let length = algorithms.iter().find(|(alg, _)| *alg == algorithm).unwrap().1;
            if algorithm == 0x0b {
                digest = at + 2..at + 2 + length;
            }
            at += 2 + length;
        }
        let length = usize::try_from(number(at)).unwrap();
        let data = at + 4..at + 4 + length;
        at = data.end;
        out.push(Place {
            register,
            kind,
            digest,
            data,
            whole: begin..at,
        });
    }
    out
}

fn judged(log: &[u8]) -> Option<Judged> {
    let values = boot_values(&BootLog::parse(log).ok()?);
    let wanted = LogUse {
        bank: Some(HashAlg::Sha256),
        ..LogUse::default()
    };
    let judged = judge_log(log, Registers::Pcr, &values, wanted);
    let held = judged.checks.iter().all(|check| check.reason().is_none());
    held.then_some(judged)
}

fn count(claims: &Claims, name: &str) -> i64 {
    match claims.get(name) {
        Some(ClaimValue::Int(count)) => *count,
        other => panic!("{name}: {other:?}"),
    }
}

/// Nothing where its register holds nothing.
fn texts(claims: &Claims, name: &str) -> Vec<String> {
    match claims.get(name) {
        None => Vec::new(),
        Some(ClaimValue::Texts(texts)) => texts.clone(),
        Some(other) => panic!("{name}: {other}"),
    }
}

/// What a policy could take for better in `after`, where the same was measured.
fn better(before: &Claims, after: &Claims) -> Option<&'static str> {
    let told = count(after, "boot.unread_events") > count(before, "boot.unread_events")
        || after.get("boot.databases_measured") == Some(&ClaimValue::Bool(false));
    // More may follow from a log that hides what it could show; never less.
    for always in ["boot.applications", "boot.files", "boot.sections"] {
        let after = texts(after, always);
        if texts(before, always).iter().any(|text| !after.contains(text)) {
            return Some(always);
        }
    }
    for shown in [
        "boot.pk",
        "boot.kek",
        "boot.db",
        "boot.db_digests",
        "boot.authorities",
        "boot.authority_digests",
        "boot.stub_lines",
    ] {
        let after = texts(after, shown);
        if !told && texts(before, shown).iter().any(|text| !after.contains(text)) {
            return Some(shown);
        }
    }
    // What is a command and what a command line is the log's own account.
    let all = |claims: &Claims| {
        [
            texts(claims, "boot.command_lines"),
            texts(claims, "boot.commands"),
        ]
        .concat()
    };
    let words = all(after);
    if !told && all(before).iter().any(|text| !words.contains(text)) {
        return Some("boot.command_lines");
    }
    if !told && count(after, "boot.db_others") < count(before, "boot.db_others") {
        return Some("boot.db_others");
    }
    let on = ClaimValue::Text("on".into());
    // Which of the firmware's words is its version is the log's own account: what it says of it is measured, or it says nothing.
    (after.get("boot.secure_boot") == Some(&on) && before.get("boot.secure_boot") != Some(&on))
        .then_some("boot.secure_boot")
}

/// The log with this event's data wrapped otherwise: other prefixes of GRUB and none, the value of a variable alone, data as the value of a
/// variable that nobody knows.
fn rewrapped(log: &[u8], place: &Place) -> Vec<Vec<u8>> {
    let data = &log[place.data.clone()];
    let with = |data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap().to_le_bytes();
        let (before, after) = (&log[..place.data.start - 4], &log[place.data.end..]);
        [before, &length, data, after].concat()
    };
    let mut out = Vec::new();
    let prefixes = [
        "grub_cmd: ",
        "kernel_cmdline: ",
        "module_cmdline: ",
        "grub_cmd ",
        "grub_kernel_cmdline ",
    ];
    for prefix in prefixes {
        let Some(rest) = data.strip_prefix(prefix.as_bytes()) else {
            continue;
        };
        let text = rest.strip_suffix(&[0]).unwrap_or(rest);
        out.extend([with(rest), with(text)]);
        out.extend(prefixes.map(|other| with(&[other.as_bytes(), rest].concat())));
    }
    let wrapped = |value: &[u8]| {
        let sizes = [1_u64, u64::try_from(value.len()).unwrap()].map(u64::to_le_bytes);
        [&[0; 16][..], &sizes[0], &sizes[1], b"x\0", value].concat()
    };
    out.push(with(&wrapped(data)));
    if let Some(sizes) = data.get(16..32) {
        let name = u64::from_le_bytes(sizes[..8].try_into().unwrap());
        let value = usize::try_from(name.saturating_mul(2).saturating_add(32)).unwrap_or(usize::MAX);
        if let Some(value) = data.get(value..) {
            out.extend([with(value), with(&wrapped(value))]);
            if let Some(behind_owner) = value.get(16..) {
                out.extend([with(behind_owner), with(&wrapped(behind_owner))]);
            }
        }
    }
    out
}

#[test]
fn p01_whatever_a_log_calls_its_events_nothing_better_follows_from_it() {
    let mut passed = 0;
    for name in LOGS {
        let log = recorded(name);
        let before = judged(&log).unwrap_or_else(|| panic!("{name}")).claims;
        let of_interest = [0, 4, 5, 7, 8, 9, 11, 12];
        let mut places = places(&log);
        places.retain(|place| of_interest.contains(&place.register));
        // One command of GRUB is like another.
        let mut commands = 0;
        places.retain(|place| {
            commands += usize::from(place.register == 8);
            place.register != 8 || commands % 8 == 1
        });
        for place in places {
            let mut changed: Vec<(u32, Vec<u8>)> = TYPES
                .iter()
                .map(|kind| {
                    let mut log = log.clone();
                    log[place.kind.clone()].copy_from_slice(&kind.to_le_bytes());
                    (*kind, log)
                })
                .collect();
            // The same, and the data hidden.
            let hidden = changed.clone().into_iter().map(|(kind, mut log)| {
                log[place.data.clone()].fill(0x41);
                (kind, log)
            });
            changed.extend(hidden.collect::<Vec<_>>());
            changed.extend(rewrapped(&log, &place).into_iter().map(|log| (0, log)));
            for (kind, log) in changed {
                let Some(after) = judged(&log) else { continue };
                passed += 1;
                if let Some(claim) = better(&before, &after.claims) {
                    panic!("{name}: {place:?} as {kind:#x}: {claim}: {:?}", after.claims);
                }
            }
        }
    }
    assert!(
        passed > 1_000,
        "most of them lead to the same registers: {passed}"
    );
}

#[test]
fn p01_what_was_extended_after_firmware_ended_is_not_its_word_on_secure_boot() {
    let (off, on) = (recorded("ubuntu2104-gce-no-dbx"), recorded("keylime-mb-log"));
    assert_eq!(
        judged(&off).unwrap().claims.get("boot.secure_boot"),
        Some(&ClaimValue::Text("off".into()))
    );
    // Digests of both logs' events of register 7, in the format of the first.
    let template = places(&off)
        .into_iter()
        .find(|place| place.register == 7)
        .unwrap();
    let good: Vec<Vec<u8>> = places(&on)
        .into_iter()
        .filter(|place| place.register == 7)
        .map(|place| {
            let data = on[place.data].to_vec();
            let mut event = off[template.whole.start..template.data.start - 4].to_vec();
            let digest = template.digest.start - template.whole.start;
            event[digest..digest + 32].copy_from_slice(&sha256(&[&data]));
            event[4..8].copy_from_slice(&on[place.kind]);
            event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            event.extend(data);
            event
        })
        .collect();
    for as_kind in [0x8000_0002_u32, 0x12, 0xd] {
        for hide in [false, true] {
            let mut forged = off.clone();
            for place in places(&off).iter().filter(|place| place.register == 7) {
                forged[place.kind.clone()].copy_from_slice(&as_kind.to_le_bytes());
                if hide {
                    forged[place.data.clone()].fill(0x41);
                }
            }
            let end = places(&forged).last().unwrap().whole.end;
            forged.truncate(end);
            forged.extend(good.concat());
            // The other banks of what was added are not right, and not compared.
            let log = BootLog::parse(&forged).unwrap();
            let mut values = boot_values(&log);
            values.retain(|bank, _| *bank == HashAlg::Sha256);
            let judged = judge_log(&forged, Registers::Pcr, &values, LogUse::default());
            assert!(judged.checks.iter().any(|check| check.reason().is_some()));
            // Not only is that log refused: what it would claim is not true either.
            let shown = judged.claims.get("boot.secure_boot");
            assert_ne!(
                shown,
                Some(&ClaimValue::Text("on".into())),
                "{as_kind:#x} {hide}: {:?}",
                judged.checks
            );
        }
    }
}

/// A list of one entry behind the aggregate: fields with their lengths, under this template's name.
fn list(template: &str, fields: &[&[u8]]) -> Vec<u8> {
    let data: Vec<u8> = fields
        .iter()
        .flat_map(|field| [&u32::try_from(field.len()).unwrap().to_le_bytes()[..], field].concat())
        .collect();
    let mut out = 10_u32.to_le_bytes().to_vec();
    // The template's digest in the bank that such lists are written in.
    out.extend(HashAlg::Sha1.digest(&[&data]));
    out.extend(u32::try_from(template.len()).unwrap().to_le_bytes());
    out.extend(template.as_bytes());
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

#[test]
fn p01_whatever_a_list_calls_its_template_a_file_has_one_digest() {
    let (evil, known) = ([0x66; 32], [0xaa; 32]);
    let digest = |prefix: &str, digest: &[u8]| [prefix.as_bytes(), &[0], digest].concat();
    let entry = [
        digest("sha256:", &evil),
        b"/usr/bin/evil\0".to_vec(),
        digest("sha256:", &known),
    ];
    let also = [
        digest("sha256:", &evil),
        b"/usr/bin/evil\0".to_vec(),
        digest("\u{3}:sha256:", &known),
    ];
    let templates = [
        "ima",
        "ima-ng",
        "ima-ngv2",
        "ima-sig",
        "ima-sigv2",
        "ima-buf",
        "ima-modsig",
        "evm-sig",
        "d-ng|n-ng|sig",
        "d-ng|n-ng|d-ngv2",
        "d-ng|n-ng|d-ng",
        "x|n-ng|d-ngv2",
        "x|n-ng|d-ng",
        "sig|n-ng|d-ng",
        "n-ng|n-ng|d-ng",
        "d-ng|sig|n-ng",
        "d-ngv2|n-ng|sig",
        "d|n-ng|sig",
    ];
    let mut read = 0;
    for fields in [&entry, &also] {
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        for template in templates {
            let list = list(template, &fields);
            let judged = judge_ima(&list, false, &ImaExpected::default());
            if judged.checks.iter().any(|check| check.reason().is_some()) {
                continue;
            }
            read += 1;
            let found = &judged.entries[0];
            assert_eq!(*found.file.digest, evil, "{template}");
            assert_eq!(found.path, "/usr/bin/evil", "{template}");
        }
    }
    assert!(read >= 2, "as what it is it can be read: {read}");
}

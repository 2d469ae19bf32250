//! Any bytes as a list of the kernel's measurements, binary and ASCII.

#![no_main]

use libfuzzer_sys::fuzz_target;
use touchmark_attestor_tpm::ima::{Binary, Entry, ImaExpected, judge_ima, read_ascii};

/// An entry as the kernel writes it.
fn written(entry: &Entry<'_>) -> Vec<u8> {
    let name = entry.template.as_bytes();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let mut out = entry.register.to_le_bytes().to_vec();
    out.extend(entry.template_digest.as_ref());
    out.extend(length(name));
    out.extend(name);
    if entry.template == "ima" {
        let path = entry.data[20..].split(|byte| *byte == 0).next().unwrap();
        out.extend(&entry.data[..20]);
        out.extend(length(path));
        out.extend(path);
    } else {
        out.extend(length(&entry.data));
        out.extend(entry.data.as_ref());
    }
    out
}

/// Whatever a list calls an entry's template, which no digest covers, its file has one digest and one name.
fn has_one_digest(entry: &Entry<'_>) {
    for template in TEMPLATES {
        let mut renamed = entry.clone();
        renamed.template = template.into();
        let bytes = written(&renamed);
        if let Some(Ok(read)) = Binary::new(&bytes).next() {
            assert_eq!(read.file.digest, entry.file.digest);
            assert_eq!(read.path, entry.path);
        }
    }
}

const TEMPLATES: [&str; 10] = [
    "ima-ng",
    "ima-ngv2",
    "ima-sig",
    "ima-sigv2",
    "ima-buf",
    "ima-modsig",
    "evm-sig",
    "d-ng|n-ng|x",
    "x|n-ng|d-ng",
    "d-ng|n-ng|d-ngv2",
];

fuzz_target!(|bytes: &[u8]| {
    let mut binary = Binary::new(bytes);
    let mut at = 0;
    while let Some(Ok(entry)) = binary.next() {
        let end = binary.position();
        // The oldest template may count a NUL that is not kept.
        if entry.template != "ima" {
            assert_eq!(written(&entry), bytes[at..end]);
            if !entry.is_violation() {
                has_one_digest(&entry);
            }
        }
        at = end;
    }
    if let Ok(entries) = read_ascii(bytes) {
        assert!(entries.iter().all(|entry| entry.register < 24 && !entry.path.is_empty()));
    }
    for ascii in [false, true] {
        let judged = judge_ima(bytes, ascii, &ImaExpected::default());
        assert!(judged.attested <= judged.entries.len());
    }
});

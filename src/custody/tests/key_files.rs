//! TSS2 PRIVATE KEY files as other tools wrote them, whole and in pieces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use touchmark_crypto::pem;
use touchmark_custody::tss2::{KeyType, LABEL, ObjectKind, inspect};
use touchmark_rats::{Check, Reason};

fn recorded(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/tss2-key");
    std::fs::read(folder.join(name).join("key.pem")).unwrap()
}

fn der(name: &str) -> Vec<u8> {
    let text = String::from_utf8(recorded(name)).unwrap();
    pem::decode_all(LABEL, &text).unwrap().remove(0)
}

fn refused(der: &[u8]) -> Option<Reason> {
    inspect(pem::encode(LABEL, der).as_bytes())
        .err()
        .and_then(|check| check.reason())
}

fn notes(der: &[u8]) -> Vec<Reason> {
    let inspected = inspect(pem::encode(LABEL, der).as_bytes()).unwrap();
    inspected.checks.iter().filter_map(Check::note).collect()
}

#[test]
fn files_of_other_tools_are_read() {
    for name in ["foxboron-rsa", "pytss-rsa", "foxboron-policyauthorize"] {
        let read = inspect(&recorded(name)).unwrap();
        assert_eq!(read.file.kind, KeyType::Loadable);
        assert!(
            matches!(&read.public.kind, ObjectKind::Asymmetric(Ok(_))),
            "{name}"
        );
        assert!(read.checks.iter().all(|check| check.note().is_none()), "{name}");
    }
    let approved = inspect(&recorded("foxboron-policyauthorize"))
        .unwrap()
        .file
        .approved;
    assert_eq!(approved[0].name.as_deref(), Some("secret"));
    assert_eq!(
        notes(&der("tpm2genkey-policy-or")),
        [Reason::PolicyOrAlternatives]
    );
    let transient = [Reason::ParentUnusual, Reason::PolicyStepsMissing];
    assert_eq!(notes(&der("tpmcopy-imported-hmac")), transient);
}

#[test]
fn a_file_that_was_cut_or_lengthened_is_malformed() {
    for name in ["foxboron-rsa", "tpmseal-pcr", "foxboron-policyauthorize"] {
        let whole = der(name);
        for length in 0..whole.len() {
            assert_eq!(
                refused(&whole[..length]),
                Some(Reason::Malformed),
                "{name} at {length}"
            );
        }
        assert_eq!(
            refused(&[whole.as_slice(), &[0]].concat()),
            Some(Reason::Malformed)
        );
    }
    let text = recorded("foxboron-rsa");
    let twice = [text.as_slice(), &text].concat();
    let other = String::from_utf8(text).unwrap().replace(LABEL, "PRIVATE KEY");
    for bytes in [&twice[..], other.as_bytes(), b"", &[0xff; 64]] {
        let refused = inspect(bytes).err().and_then(|check| check.reason());
        assert_eq!(refused, Some(Reason::Malformed));
    }
    let long = vec![b'-'; 20_000];
    assert_eq!(
        inspect(&long).err().and_then(|check| check.reason()),
        Some(Reason::Oversized)
    );
}

#[test]
fn any_bit_of_a_policy_that_is_another_satisfies_no_key() {
    let whole = der("tpmseal-pcr");
    // The digest over the registers' values, and the policy in the public area.
    let values = whole
        .windows(4)
        .position(|window| window == [0, 0x20, 0xe2, 0xf6])
        .unwrap()
        + 2;
    let policy = whole
        .windows(4)
        .position(|window| window == [0, 0x20, 0x20, 0x94])
        .unwrap()
        + 2;
    for at in (values..values + 32).chain(policy..policy + 32) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_eq!(refused(&bytes), Some(Reason::PolicyDigestMismatch), "byte {at}");
    }
    assert_eq!(
        refused(&der("policy-pcr-digest-changed")),
        Some(Reason::PolicyDigestMismatch)
    );
}

#[test]
fn parents_truth_values_and_keys_are_looked_at() {
    let whole = der("foxboron-rsa");
    let parent = whole
        .windows(6)
        .position(|window| window == [2, 4, 0x40, 0, 0, 1])
        .unwrap()
        + 2;
    let with_parent = |handle: [u8; 4]| {
        let mut bytes = whole.clone();
        bytes[parent..parent + 4].copy_from_slice(&handle);
        bytes
    };
    assert_eq!(notes(&with_parent([0x40, 0, 0, 0x0b])), []);
    for handle in [[0x40, 0, 0, 9], [0x01, 0, 0, 0]] {
        assert_eq!(
            refused(&with_parent(handle)),
            Some(Reason::ParentUnusual),
            "{handle:x?}"
        );
    }
    let truth = whole
        .windows(3)
        .position(|window| window == [1, 1, 0xff])
        .unwrap()
        + 2;
    let mut lax = whole.clone();
    lax[truth] = 1;
    assert_eq!(notes(&lax), [Reason::NotDer]);
    // A name of SHA-1; a modulus of another length than it says.
    let name = whole
        .windows(4)
        .position(|window| window == [0, 1, 0, 0x0b])
        .unwrap()
        + 3;
    let mut weak = whole.clone();
    weak[name] = 4;
    assert_eq!(refused(&weak), Some(Reason::WeakHash));
    let bits = whole
        .windows(4)
        .position(|window| window == [0, 0x10, 8, 0])
        .unwrap()
        + 2;
    let mut short = whole;
    short[bits] = 4;
    assert_eq!(refused(&short), Some(Reason::Malformed));
}

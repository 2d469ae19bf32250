//! Quotes and certifications that were recorded, held against what whoever asks brings.

use touchmark_attestor_tpm::{
    AttestSignature, PcrValues, Recorded, RecordedCertify, RecordedKey, RecordedQuote,
};
use touchmark_crypto::HashAlg;
use touchmark_rats::{
    Check, PcrBank, PcrSelection,
    Reason::{
        self, AttestationKeyAttributes, KeyInvalid, Malformed, PcrSelectionMismatch, PcrsUnmeasured,
        SignatureInvalid, WeakHash, WrongMagic, WrongType,
    },
};

use crate::forge::{
    BIND, Tpm,
    area::{self, Area, FIXED_TPM, RESTRICTED},
    attest::{self, Attest},
    key::Key,
    write::{SHA1, SHA256, digest},
};

const INDICES: [u8; 3] = [0, 4, 7];

fn reasons(judged: &Recorded) -> Vec<Reason> {
    judged.checks.iter().filter_map(Check::reason).collect()
}

fn notes(judged: &Recorded) -> Vec<Reason> {
    judged.checks.iter().filter_map(Check::note).collect()
}

fn values(bank: HashAlg, indices: &[u8], byte: u8) -> PcrValues {
    let registers = indices.iter().map(|index| (*index, vec![byte; bank.len()]));
    PcrValues::from([(bank, registers.collect())])
}

/// A good quote over registers of one bank that each hold this byte.
fn quote(bank: u16, length: usize, byte: u8) -> Attest {
    let registers = vec![byte; length * INDICES.len()];
    let selection = attest::selection(&[(bank, &INDICES)]);
    Attest::quote(&BIND, &selection, &digest(SHA256, &[&registers]))
}

fn judge(tpm: &Tpm, attest: &[u8], signed: &[u8], values: &PcrValues) -> Recorded {
    let bank = *values.keys().next().unwrap();
    let selection = PcrSelection(vec![PcrBank {
        bank,
        indices: INDICES.to_vec(),
    }]);
    RecordedQuote {
        attest,
        signature: &attest::sign(&tpm.ak, signed),
        key: &RecordedKey::with_area(tpm.ak.public().clone(), &tpm.ak_area.bytes()).unwrap(),
        nonce: Some(&BIND),
        selection: Some(&selection),
        values: Some(values),
        log: None,
    }
    .judge()
}

#[test]
fn e01_what_no_tpm_made_is_told_by_its_first_bytes_and_what_was_altered_by_its_signature() {
    let tpm = Tpm::new();
    let values = values(HashAlg::Sha256, &INDICES, 3);
    let good = quote(SHA256, 32, 3).bytes();
    assert_eq!(reasons(&judge(&tpm, &good, &good, &values)), []);

    let text = b"{\"signed\": \"by a key that signs anything\"}";
    assert_eq!(reasons(&judge(&tpm, text, text, &values)), [WrongMagic]);
    let whole = [&u16::try_from(good.len()).unwrap().to_be_bytes()[..], &good].concat();
    assert_eq!(reasons(&judge(&tpm, &whole, &whole, &values)), [WrongMagic]);
    let mut long = quote(SHA256, 32, 3);
    long.extra = vec![0; 67];
    assert_eq!(
        reasons(&judge(&tpm, &long.bytes(), &long.bytes(), &values)),
        [Malformed]
    );
    // Of another type: as signed it is one of another kind; altered, it is what nobody signed.
    let mut other = quote(SHA256, 32, 3);
    other.kind = attest::CERTIFY;
    let other = other.bytes();
    assert_eq!(reasons(&judge(&tpm, &other, &other, &values)), [WrongType]);
    assert_eq!(reasons(&judge(&tpm, &other, &good, &values)), [SignatureInvalid]);
}

#[test]
fn e05_an_attestation_by_a_key_that_signs_anything_is_refused() {
    let values = values(HashAlg::Sha256, &INDICES, 3);
    let good = quote(SHA256, 32, 3).bytes();
    for attribute in [RESTRICTED, FIXED_TPM] {
        let mut tpm = Tpm::new();
        tpm.ak_area.attributes &= !attribute;
        assert_eq!(
            reasons(&judge(&tpm, &good, &good, &values)),
            [AttestationKeyAttributes]
        );
    }
}

#[test]
fn what_a_quote_proves_little_of_is_noted() {
    let tpm = Tpm::new();
    let weak = quote(SHA1, 20, 3).bytes();
    let judged = judge(&tpm, &weak, &weak, &values(HashAlg::Sha1, &INDICES, 3));
    assert_eq!((reasons(&judged), notes(&judged)), (vec![], vec![WeakHash]));
    let empty = quote(SHA256, 32, 0).bytes();
    let judged = judge(&tpm, &empty, &empty, &values(HashAlg::Sha256, &INDICES, 0));
    assert_eq!((reasons(&judged), notes(&judged)), (vec![], vec![PcrsUnmeasured]));
    // Values of registers that nobody signed for.
    let good = quote(SHA256, 32, 3).bytes();
    let more = values(HashAlg::Sha256, &[0, 4, 7, 9], 3);
    let judged = judge(&tpm, &good, &good, &more);
    assert_eq!(
        (reasons(&judged), notes(&judged)),
        (vec![], vec![PcrSelectionMismatch])
    );
    assert!(!judged.quoted[&HashAlg::Sha256].contains_key(&9));
}

#[test]
fn e17_a_certified_key_that_can_leave_its_tpm_is_noted() {
    let tpm = Tpm::new();
    let certified = |attributes: u32| {
        let area = Area::signing(Key::p256().public(), SHA256, attributes, Vec::new());
        let attest = Attest::certify(&BIND, &area.name()).bytes();
        RecordedCertify {
            attest: &attest,
            signature: AttestSignature::Tpmt(&attest::sign(&tpm.ak, &attest)),
            key: &RecordedKey::bare(tpm.ak.public().clone()),
            nonce: Some(&BIND),
            certified: &area.bytes(),
        }
        .judge()
    };
    assert_eq!(notes(&certified(area::KEY)), []);
    let imported = certified(area::KEY & !FIXED_TPM);
    assert_eq!((reasons(&imported), notes(&imported)), (vec![], vec![KeyInvalid]));
}

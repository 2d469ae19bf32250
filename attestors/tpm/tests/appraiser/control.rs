//! What the forge makes passes when nothing is altered: without this, the refusals elsewhere would prove nothing.

use touchmark_rats::{ClaimValue, PcrBank, PcrSelection};

use crate::forge::{
    BIND, Case, Tpm,
    area::{Area, KEY},
    attest::{self, Attest},
    key::Key,
    log::Log,
    passed,
    write::{SHA256, SHA384, digest},
};

#[test]
fn unaltered_evidence_passes_every_check_in_order() {
    let case = Case::good();
    let appraisal = case.appraise();
    passed(&appraisal);
    let names: Vec<&str> = appraisal.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            "tpm.attestation_key",
            "tpm.quote.signature",
            "tpm.quote.binding",
            "tpm.quote.selection",
            "tpm.quote.pcr_digest",
            "tpm.certify.signature",
            "tpm.certify.binding",
            "tpm.certify.name",
            "tpm.key.attributes",
            "tpm.counters",
            "tpm.key.boot_policy",
            "key.possession",
            "tpm.log",
            // The forged boot ends before the operating system takes over: noted, not refused.
            "log.boot_completed",
        ]
    );
    assert_eq!(appraisal.keys.len(), 1);
    assert_eq!(appraisal.keys[0].name, case.keys[0].area.name());
    assert_eq!(&appraisal.keys[0].public, case.keys[0].key.public());
    assert_eq!(appraisal.events.len(), case.tpm.log.events.len());
    assert!(appraisal.measured.iter().all(|(_, any)| *any));
    let counters = appraisal.counters.unwrap();
    assert_eq!(
        (counters.reset, counters.restart, counters.clock, counters.safe),
        (7, 2, 123_456, true)
    );
    assert_eq!(appraisal.claims.get("tpm.reset_count"), Some(&ClaimValue::Int(7)));
}

#[test]
fn evidence_without_register_values_passes_by_the_log_alone() {
    let mut case = Case::good();
    case.values.clear();
    passed(&case.appraise());
}

#[test]
fn attestation_keys_on_p384_and_rsa_pass() {
    // A P-384 key's quote has a SHA-384 digest of the registers of the SHA-256 bank.
    let mut case = Case::of(Tpm::with(Key::p384(), Log::boot()));
    case.sealed_to_boot = false;
    passed(&case.appraise());
    passed(&Case::of(Tpm::with(Key::rsa(), Log::boot())).appraise());
}

#[test]
fn two_banks_pass_when_both_are_asked_for_and_their_values_come_along() {
    let mut log = Log::empty();
    log.algorithms = vec![(SHA256, 32), (SHA384, 48)];
    log.measure(0, 0x0d, b"one");
    log.measure(4, 0x0d, b"two");
    let mut case = Case::of(Tpm::with(Key::p256(), log));
    let banks = [(SHA256, &[0, 4][..]), (SHA384, &[0, 4][..])];
    case.selection = PcrSelection(vec![
        PcrBank {
            bank: touchmark_crypto::HashAlg::Sha256,
            indices: vec![0, 4],
        },
        PcrBank {
            bank: touchmark_crypto::HashAlg::Sha384,
            indices: vec![0, 4],
        },
    ]);
    case.values.clear();
    for (bank, indices) in banks {
        let length = if bank == SHA256 { 32 } else { 48 };
        for index in indices {
            let value = case.tpm.log.replay(bank, *index, vec![0; length], usize::MAX);
            case.values.push((bank, *index, value));
        }
    }
    let parts: Vec<&[u8]> = case.values.iter().map(|(.., value)| value.as_slice()).collect();
    case.quote = Some(Attest::quote(
        &BIND,
        &attest::selection(&banks),
        &digest(SHA256, &parts),
    ));
    case.sealed_to_boot = false;
    let appraisal = case.appraise();
    passed(&appraisal);
    assert_eq!(appraisal.measured, [(0, true), (4, true), (0, true), (4, true)]);
}

#[test]
fn a_workloads_key_passes_without_a_quote() {
    let mut case = Case::good();
    case.quote = None;
    case.values.clear();
    case.log.clear();
    case.selection = PcrSelection(Vec::new());
    case.sealed_to_boot = false;
    case.key().area = Area::signing(case.keys[0].key.public(), SHA256, KEY, Vec::new());
    case.recertify();
    let appraisal = case.appraise();
    passed(&appraisal);
    assert_eq!(appraisal.counters.unwrap().reset, 7);
}

#[test]
fn a_reattestation_passes_without_a_key() {
    let mut case = Case::good();
    case.keys.clear();
    passed(&case.appraise());
}

#[test]
fn an_unsafe_clock_is_a_claim_and_no_refusal() {
    let mut case = Case::good();
    case.quote().safe = 0;
    let appraisal = case.appraise();
    passed(&appraisal);
    assert_eq!(
        appraisal.claims.get("tpm.clock_safe"),
        Some(&ClaimValue::Bool(false))
    );
}

//! Keys offered for certification that are not what they should be.

use serde_bytes::ByteBuf;
use touchmark_crypto::ecdsa_der_from_fixed;
use touchmark_rats::{
    PcrSelection, Reason,
    Reason::{
        CountersDiffer, KeyInvalid, KeyNotHardware, KeyPolicy, Malformed, NameMismatch, ProofOfPossession,
        SignatureInvalid,
    },
    pop_message,
};

use crate::forge::{
    BIND, BOOT, Case, Offered, Tpm,
    area::{
        ADMIN_WITH_POLICY, Area, DECRYPT, FIXED_PARENT, FIXED_TPM, KEY, RESTRICTED, SENSITIVE_DATA_ORIGIN,
        SIGN, USER_WITH_AUTH, X509_SIGN,
    },
    attest::{Attest, CERTIFY, MAGIC},
    key::Key,
    log::Log,
    passed, refused, signed,
    write::{SHA256, digest},
};

#[test]
fn e14_a_key_that_is_not_sealed_to_the_quoted_boot_is_refused() {
    let other_boot = {
        let mut log = Log::boot();
        log.image(4, 0x8000_0003, b"another boot loader", &[0; 32]);
        Tpm::with(Key::p256(), log).boot_policy(&BOOT)
    };
    let tpm = Tpm::new();
    let endorsement = crate::forge::area::endorsement_policy();
    // PolicyPCR and then PolicyAuthValue: a policy that holds more is another policy.
    let extended = digest(SHA256, &[&tpm.boot_policy(&BOOT), &0x16b_u32.to_be_bytes()]);
    for policy in [
        Vec::new(),
        vec![0; 32],
        other_boot,
        tpm.boot_policy(&[0, 1, 2, 3, 4, 5, 6]),
        tpm.boot_policy(&[]),
        tpm.boot_policy(&BOOT)[..31].to_vec(),
        endorsement,
        extended,
    ] {
        let mut case = Case::good();
        case.key().area.policy = policy;
        case.recertify();
        case.refused("tpm.key.boot_policy", KeyPolicy);
    }
}

#[test]
fn e14_a_key_that_a_password_or_its_administrator_opens_in_any_boot_is_refused() {
    for bits in [
        USER_WITH_AUTH,
        ADMIN_WITH_POLICY,
        USER_WITH_AUTH | ADMIN_WITH_POLICY,
    ] {
        let mut case = Case::good();
        case.key().area.attributes |= bits;
        case.recertify();
        case.refused("tpm.key.boot_policy", KeyPolicy);
    }
}

#[test]
fn e14_a_key_of_another_boot_is_refused_beside_a_quote_of_this_one() {
    // The key, its policy and its certification are all right, for the boot before.
    let before = Tpm::with(Key::p256(), {
        let mut log = Log::boot();
        log.image(9, 0x0d, b"kernel of the boot before", b"/vmlinuz\0");
        log
    });
    let mut case = Case::good();
    case.key().area.policy = before.boot_policy(&BOOT);
    case.recertify();
    case.refused("tpm.key.boot_policy", KeyPolicy);
    case.key().certify.reset -= 1;
    case.refused("tpm.counters", CountersDiffer);
}

#[test]
fn e14_a_key_that_has_to_be_sealed_is_refused_where_nothing_is_quoted() {
    let mut case = Case::good();
    case.selection = PcrSelection(Vec::new());
    case.quote = None;
    case.values.clear();
    case.key().area.policy.clear();
    case.recertify();
    assert!(case.appraise().failure().is_some());
}

#[test]
fn e26_counters_that_differ_between_quote_and_certification_are_refused() {
    for (reset, restart) in [
        (8, 2),
        (6, 2),
        (7, 3),
        (7, 1),
        (0, 0),
        (u32::MAX, u32::MAX),
        (2, 7),
    ] {
        let mut case = Case::good();
        case.key().certify.reset = reset;
        case.key().certify.restart = restart;
        let appraisal = case.appraise();
        refused(&appraisal, "tpm.counters", CountersDiffer);
        assert!(appraisal.keys.is_empty());
    }
}

#[test]
fn e26_two_certifications_of_different_boots_are_refused_without_a_quote_too() {
    let mut case = without_quote();
    case.keys.push(offered(Key::p256(), Vec::new()));
    case.keys[1].certify.reset += 1;
    case.refused("tpm.counters", CountersDiffer);
}

/// An exchange about one workload key.
fn without_quote() -> Case {
    let mut case = Case::good();
    case.selection = PcrSelection(Vec::new());
    case.quote = None;
    case.values.clear();
    case.sealed_to_boot = false;
    case
}

fn offered(key: Key, policy: Vec<u8>) -> Offered {
    let area = Area::signing(key.public(), SHA256, KEY, policy);
    Offered {
        certify: Attest::certify(&BIND, &area.name()),
        key,
        area,
    }
}

#[test]
fn e16_only_one_tpms_quote_certification_key_and_possession_go_together() {
    let (case, other) = (Case::good(), Case::good());
    passed(&case.appraise());
    for choice in 1_u8..16 {
        let [quote, certify, key, possession] = [0, 1, 2, 3].map(|bit| choice >> bit & 1 == 1);
        let of = |other_one| if other_one { &other } else { &case };
        let appraisal = case.appraise_with(|evidence| {
            evidence.quote = of(quote).evidence().quote;
            let certification = &mut evidence.certifications[0];
            // The attestation key of one TPM certifies the key of one.
            let attest = of(key).keys[0].certify.clone();
            certification.certify = signed(&of(certify).tpm.ak, &attest);
            certification.possession = of(possession).evidence().certifications[0].possession.clone();
        });
        let (check, reason) = match (quote, certify, key, possession) {
            (true, ..) => ("tpm.quote.signature", SignatureInvalid),
            (_, true, ..) => ("tpm.certify.signature", SignatureInvalid),
            (_, _, true, _) => ("tpm.certify.name", NameMismatch),
            _ => ("key.possession", ProofOfPossession),
        };
        refused(&appraisal, check, reason);
        assert!(appraisal.keys.is_empty());
    }
}

#[test]
fn e16_evidence_of_another_tpm_is_refused_whole() {
    let (case, other) = (Case::good(), Case::good());
    let bytes = touchmark_rats::cbor::encode(&other.evidence());
    refused(
        &case.appraise_bytes(&bytes),
        "tpm.quote.signature",
        SignatureInvalid,
    );
}

#[test]
fn e16_certifications_of_two_keys_of_one_tpm_cannot_be_exchanged() {
    let mut case = Case::good();
    let policy = case.keys[0].area.policy.clone();
    case.keys.push(offered(Key::p256(), policy));
    passed(&case.appraise());
    let appraisal = case.appraise_with(|evidence| evidence.certifications.reverse());
    refused(&appraisal, "tpm.certify.name", NameMismatch);
    let appraisal = case.appraise_with(|evidence| {
        let first = evidence.certifications[0].clone();
        evidence.certifications[1] = first;
    });
    refused(&appraisal, "tpm.certify.name", NameMismatch);
}

#[test]
fn e17_a_key_that_could_be_exported_or_came_from_outside_is_refused() {
    for bit in [
        FIXED_TPM,
        FIXED_PARENT,
        SENSITIVE_DATA_ORIGIN,
        SIGN,
        RESTRICTED,
        DECRYPT,
        X509_SIGN,
        // encryptedDuplication, and two reserved bits.
        1 << 11,
        1,
        1 << 31,
    ] {
        let mut case = Case::good();
        case.key().area.attributes ^= bit;
        case.recertify();
        case.refused("tpm.key.attributes", KeyNotHardware);
    }
}

#[test]
fn e17_a_key_without_its_certification_is_refused() {
    let case = Case::good();
    let without = case.appraise_with(|evidence| evidence.certifications.clear());
    refused(&without, "tpm.evidence", Malformed);
    let twice = case.appraise_with(|evidence| evidence.certifications.extend_from_within(..));
    refused(&twice, "tpm.evidence", Malformed);
    let mut case = Case::good();
    case.keys.push(offered(Key::p256(), Vec::new()));
    let one_for_two = case.appraise_with(|evidence| drop(evidence.certifications.pop()));
    refused(&one_for_two, "tpm.evidence", Malformed);
}

#[test]
fn e17_a_certification_of_another_name_is_refused() {
    let good = Case::good();
    let name = good.keys[0].area.name();
    let mut flipped = name.clone();
    flipped[33] ^= 1;
    for name in [
        Vec::new(),
        flipped,
        name[2..].to_vec(),
        [&[0, 0x0c], &name[2..]].concat(),
        [&name[..], &[0]].concat(),
        good.tpm.ak_area.name(),
    ] {
        let mut case = Case::good();
        case.key().certify = Attest::certify(&BIND, &name);
        case.refused("tpm.certify.name", NameMismatch);
    }
    // The same key under a public area that was altered after certification.
    let mut case = Case::good();
    case.key().area.attributes |= USER_WITH_AUTH;
    case.refused("tpm.certify.name", NameMismatch);
    case.key().certify.body.clear();
    assert_eq!(
        (case.keys[0].certify.magic, case.keys[0].certify.kind),
        (MAGIC, CERTIFY)
    );
    case.refused("tpm.certify.structure", Malformed);
}

#[test]
fn e17_possession_is_proved_by_the_key_itself_over_this_exchange_only() {
    let case = Case::good();
    let key = &case.keys[0].key;
    let by = |key: &Key, message: &[u8]| key.sign(message).concat();
    let good = by(key, &pop_message(&BIND));
    for possession in [
        by(&Key::p256(), &pop_message(&BIND)),
        by(&case.tpm.ak, &pop_message(&BIND)),
        by(key, &pop_message(&[0; 32])),
        by(key, &BIND),
        by(key, &[&[0x20; 64][..], b"Touchmark PoP v2\0", &BIND].concat()),
        Vec::new(),
        vec![0; 64],
        good[..63].to_vec(),
        [&good[..], &[0]].concat(),
        ecdsa_der_from_fixed(&good),
    ] {
        let appraisal = case.appraise_with(|evidence| {
            evidence.certifications[0].possession = ByteBuf::from(possession);
        });
        refused(&appraisal, "key.possession", ProofOfPossession);
        assert!(appraisal.keys.is_empty());
    }
}

#[test]
fn e10_an_offered_key_of_another_kind_or_off_its_curve_is_refused() {
    let invalid = |alter: &dyn Fn(&mut Area), reason: Reason| {
        let mut case = Case::good();
        alter(&mut case.key().area);
        case.recertify();
        case.refused("tpm.key", reason);
    };
    for curve in (0..=0x100).filter(|curve| *curve != 3) {
        invalid(&|area| *area = area.clone().on_curve(curve), KeyInvalid);
    }
    invalid(&|area| area.unique[1][31] ^= 1, KeyInvalid);
    invalid(&|area| area.scheme[0] = 0x001a, KeyInvalid);
    invalid(&|area| area.tail = vec![0], KeyInvalid);
    let rsa = Key::rsa();
    let area = Area::signing(rsa.public(), SHA256, KEY, Tpm::new().boot_policy(&BOOT));
    invalid(&|offered| *offered = area.clone(), KeyInvalid);
}

#[test]
fn e10_a_sha1_scheme_of_an_offered_key_proves_no_possession() {
    let mut case = Case::good();
    case.key().area.scheme[1] = crate::forge::write::SHA1;
    case.recertify();
    case.refused("key.possession", ProofOfPossession);
}

#[test]
fn a_quote_or_a_key_that_the_exchange_did_not_ask_for_is_refused() {
    let mut case = without_quote();
    case.key().area.policy.clear();
    case.recertify();
    passed(&case.appraise());
    case.quote = Case::good().quote;
    case.refused("tpm.evidence", Malformed);
    let mut case = Case::good();
    case.quote = None;
    case.refused("tpm.evidence", Malformed);
}

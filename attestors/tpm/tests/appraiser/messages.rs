//! Messages that are not quite the CBOR they should be.

use ciborium::Value;
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_rats::{
    Appraiser, Reason,
    Reason::{Malformed, Oversized},
    Refusal, cbor,
    tpm::MAX_ENDORSEMENTS,
};

use crate::forge::{Case, Tpm, passed, refused};

type Members = Vec<(Value, Value)>;

fn value(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

/// The `n`th map of a message, the outermost first.
fn map<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Members> {
    match value {
        Value::Map(members) => {
            if *n == 0 {
                return Some(members);
            }
            *n -= 1;
            members.iter_mut().find_map(|(_, member)| map(member, n))
        }
        Value::Array(items) => items.iter_mut().find_map(|item| map(item, n)),
        _ => None,
    }
}

/// Every message that differs from `good` in one member of one map, as `alter` makes it. `alter` gets the members and
/// the position of one of them.
fn variants(good: &[u8], alter: impl Fn(&mut Members, usize)) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for n in 0.. {
        let mut original = value(good);
        let Some(members) = map(&mut original, &mut n.clone()).cloned() else {
            break;
        };
        for (position, (name, _)) in members.iter().enumerate() {
            let mut altered = value(good);
            alter(map(&mut altered, &mut n.clone()).unwrap(), position);
            out.push((name.as_text().unwrap().to_owned(), bytes(&altered)));
        }
    }
    assert!(out.len() > 4);
    out
}

fn good_opening() -> Vec<u8> {
    cbor::encode(&Tpm::new().opening(Some(vec![1, 2, 3])))
}

fn open(opening: &[u8]) -> Result<(), Refusal> {
    TpmAppraiser::new(Vec::new()).open(opening).map(drop)
}

#[track_caller]
fn opening_refused(opening: &[u8], reason: Reason) {
    let refusal = open(opening).unwrap_err();
    assert_eq!(
        (refusal.check, refusal.reason),
        ("tpm.opening", reason),
        "{refusal}"
    );
}

#[track_caller]
fn evidence_refused(evidence: &[u8], reason: Reason) {
    let appraisal = Case::good().appraise_bytes(evidence);
    refused(&appraisal, "tpm.evidence", reason);
    assert!(!appraisal.authenticated && appraisal.checks.len() == 1);
}

#[test]
fn p06_a_member_that_comes_twice_is_refused() {
    let twice = |members: &mut Members, position: usize| members.push(members[position].clone());
    for (_, opening) in variants(&good_opening(), twice) {
        opening_refused(&opening, Malformed);
    }
    for (_, evidence) in variants(&cbor::encode(&Case::good().evidence()), twice) {
        evidence_refused(&evidence, Malformed);
    }
}

#[test]
fn p06_a_member_that_is_unknown_is_refused() {
    for name in [
        Value::Text("pcrs".into()),
        Value::Text(String::new()),
        Value::Text("Public".into()),
        Value::Integer(99.into()),
    ] {
        let unknown = |members: &mut Members, _: usize| members.push((name.clone(), Value::Bytes(vec![1])));
        for (_, opening) in variants(&good_opening(), unknown) {
            opening_refused(&opening, Malformed);
        }
        for (_, evidence) in variants(&cbor::encode(&Case::good().evidence()), unknown) {
            evidence_refused(&evidence, Malformed);
        }
    }
}

#[test]
fn p06_a_member_that_is_missing_is_refused_unless_it_may_be_absent() {
    let without = |members: &mut Members, position: usize| drop(members.remove(position));
    for (name, opening) in variants(&good_opening(), without) {
        if name == "certificate" {
            open(&opening).unwrap();
        } else {
            opening_refused(&opening, Malformed);
        }
    }
    let case = Case::good();
    for (_, evidence) in variants(&cbor::encode(&case.evidence()), without) {
        // An absent quote is a well-formed message, and not what was asked for.
        refused(&case.appraise_bytes(&evidence), "tpm.evidence", Malformed);
    }
}

#[test]
fn p06_a_member_of_another_type_is_refused() {
    for wrong in [
        Value::Text("text".into()),
        Value::Integer((-1).into()),
        Value::Bool(true),
        Value::Float(1.0),
        Value::Map(Vec::new()),
        Value::Array(vec![Value::Integer(256.into())]),
    ] {
        let other = |members: &mut Members, position: usize| members[position].1 = wrong.clone();
        for (_, opening) in variants(&good_opening(), other) {
            opening_refused(&opening, Malformed);
        }
        for (_, evidence) in variants(&cbor::encode(&Case::good().evidence()), other) {
            evidence_refused(&evidence, Malformed);
        }
    }
}

#[test]
fn p06_a_message_is_refused_when_cut_anywhere_or_followed_by_anything() {
    let opening = good_opening();
    for length in 0..opening.len() {
        opening_refused(&opening[..length], Malformed);
    }
    opening_refused(&[&opening[..], &[0xf6]].concat(), Malformed);
    opening_refused(&[&opening[..], &opening[..]].concat(), Malformed);
    let evidence = cbor::encode(&Case::good().evidence());
    for length in 0..evidence.len() {
        evidence_refused(&evidence[..length], Malformed);
    }
    evidence_refused(&[&evidence[..], &[0xf6]].concat(), Malformed);
}

#[test]
fn p03_a_message_larger_than_its_limit_is_refused_unread() {
    let case = Case::good();
    let mut opening = case.tpm.opening(None);
    opening.endorsements[0].certificate = Some(vec![0; 64 * 1024].into());
    opening_refused(&cbor::encode(&opening), Oversized);
    let mut evidence = case.evidence();
    evidence.certifications[0].possession = vec![0; 64 * 1024].into();
    evidence_refused(&cbor::encode(&evidence), Oversized);
    evidence_refused(&vec![0; 64 * 1024 + 1], Oversized);
}

#[test]
fn p03_lengths_and_depths_that_the_bytes_do_not_hold_cost_nothing() {
    for hostile in [
        // A byte string, an array and a map of 2^63 items; and an array in an array in an array ...
        vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x81; 60_000],
        vec![0xa1; 60_000],
        vec![0xc1; 60_000],
        vec![0x9f; 60_000],
        vec![0x5f; 60_000],
    ] {
        opening_refused(&hostile, Malformed);
        evidence_refused(&hostile, Malformed);
    }
}

#[test]
fn p04_a_compressed_message_is_not_unpacked() {
    for head in [
        &[0x1f, 0x8b, 0x08, 0][..],
        b"PK\x03\x04",
        &[0x28, 0xb5, 0x2f, 0xfd],
    ] {
        opening_refused(&[head, &[0; 64]].concat(), Malformed);
        evidence_refused(&[head, &[0; 64]].concat(), Malformed);
    }
}

#[test]
fn an_opening_names_one_to_four_endorsement_keys() {
    let tpm = Tpm::new();
    let mut opening = tpm.opening(None);
    let one = opening.endorsements.remove(0);
    opening.endorsements = vec![one.clone(); MAX_ENDORSEMENTS];
    open(&cbor::encode(&opening)).unwrap();
    opening.endorsements = vec![one; MAX_ENDORSEMENTS + 1];
    opening_refused(&cbor::encode(&opening), Malformed);
    opening.endorsements.clear();
    opening_refused(&cbor::encode(&opening), Malformed);
}

#[test]
fn one_bad_endorsement_key_among_good_ones_refuses_the_opening() {
    let tpm = Tpm::new();
    let mut opening = tpm.opening(None);
    let mut bad = opening.endorsements[0].clone();
    bad.public = tpm.ak_area.bytes().into();
    opening.endorsements.push(bad);
    let refusal = open(&cbor::encode(&opening)).unwrap_err();
    assert_eq!(refusal.reason, Reason::EndorsementTemplate);
}

#[test]
fn the_forges_own_encoding_reads_back_through_an_independent_decoder() {
    let case = Case::good();
    let evidence = value(&cbor::encode(&case.evidence()));
    passed(&case.appraise_bytes(&bytes(&evidence)));
}

//! Signatures that are not the attestation key's, or not over these bytes.

use serde_bytes::ByteBuf;
use touchmark_rats::Reason::{AlgMismatch, AlgNotAllowed, Malformed, SignatureInvalid, WeakHash};

use crate::forge::{
    Case, Tpm,
    area::{ECDSA, NULL, RSAPSS, RSASSA},
    attest,
    key::Key,
    log::Log,
    refused,
    write::{SHA1, SHA384, SHA512},
};

const NAME: &str = "tpm.quote.signature";

/// Asserts that the quote is refused with this signature instead of its own.
#[track_caller]
fn refused_with(case: &Case, signature: Vec<u8>, reason: touchmark_rats::Reason) {
    let appraisal = case.appraise_with(|evidence| {
        evidence.quote.as_mut().unwrap().signature = ByteBuf::from(signature);
    });
    refused(&appraisal, NAME, reason);
    assert!(!appraisal.authenticated && appraisal.claims.iter().next().is_none());
}

/// `r` and `s` of the quote's signature.
fn numbers(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let mut parts = case.tpm.ak.sign(&case.quote.as_ref().unwrap().bytes());
    let s = parts.pop().unwrap();
    (parts.pop().unwrap(), s)
}

#[test]
fn e11_every_flipped_bit_of_a_signature_is_refused() {
    let case = Case::good();
    let good = case.evidence().quote.unwrap().signature;
    for bit in 0..good.len() * 8 {
        let mut signature = good.to_vec();
        signature[bit / 8] ^= 1 << (bit % 8);
        let appraisal = case.appraise_with(|evidence| {
            evidence.quote.as_mut().unwrap().signature = ByteBuf::from(signature);
        });
        let failure = appraisal.failure().unwrap();
        assert_eq!(failure.name, NAME, "bit {bit}");
        // Algorithms and sizes lie in the first six bytes and around the second number.
        let numbers = (48..304).contains(&bit) || bit >= 320;
        assert!(
            !numbers || failure.reason() == Some(SignatureInvalid),
            "bit {bit}: {:?}",
            failure.reason()
        );
    }
}

#[test]
fn e11_every_flipped_bit_of_what_was_signed_is_refused() {
    let case = Case::good();
    let good = case.evidence();
    for bit in 0..good.quote.as_ref().unwrap().attest.len() * 8 {
        let appraisal = case.appraise_bytes(&touchmark_rats::cbor::encode(&{
            let mut evidence = good.clone();
            evidence.quote.as_mut().unwrap().attest[bit / 8] ^= 1 << (bit % 8);
            evidence
        }));
        let reason = appraisal.failure().unwrap().reason();
        assert!(
            [Some(SignatureInvalid), Some(Malformed)].contains(&reason),
            "bit {bit}"
        );
        assert!(!appraisal.authenticated);
    }
    for bit in 0..good.certifications[0].certify.attest.len() * 8 {
        let appraisal = case.appraise_with(|evidence| {
            evidence.certifications[0].certify.attest[bit / 8] ^= 1 << (bit % 8);
        });
        let reason = appraisal.failure().unwrap().reason();
        assert!(
            [Some(SignatureInvalid), Some(Malformed)].contains(&reason),
            "bit {bit}"
        );
    }
}

#[test]
fn a_signature_is_refused_when_cut_anywhere_or_followed_by_anything() {
    let case = Case::good();
    let good = case.evidence().quote.unwrap().signature.into_vec();
    for length in 0..good.len() {
        refused_with(&case, good[..length].to_vec(), Malformed);
    }
    refused_with(&case, [&good[..], &[0]].concat(), Malformed);
    let rsa = Case::of(Tpm::with(Key::rsa(), Log::boot()));
    let good = rsa.evidence().quote.unwrap().signature.into_vec();
    for length in 0..good.len() {
        refused_with(&rsa, good[..length].to_vec(), Malformed);
    }
    refused_with(&rsa, [&good[..], &[0]].concat(), Malformed);
}

#[test]
fn e10_numbers_outside_their_range_are_refused() {
    let case = Case::good();
    let (r, s) = numbers(&case);
    let order = [
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..],
        &[0xff; 8],
        &[
            0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
        ],
    ]
    .concat();
    for (r, s) in [
        (Vec::new(), Vec::new()),
        (vec![0; 32], s.clone()),
        (r.clone(), vec![0; 32]),
        (vec![0; 32], vec![0; 32]),
        (vec![1], vec![1]),
        (order.clone(), s.clone()),
        (r.clone(), order),
        (s.clone(), r.clone()),
        (vec![0xff; 32], vec![0xff; 32]),
    ] {
        refused_with(&case, attest::sha256_signature(ECDSA, &[r, s]), SignatureInvalid);
    }
    refused_with(
        &case,
        attest::sha256_signature(ECDSA, &[[&[1], &r[..]].concat(), s]),
        SignatureInvalid,
    );
}

#[test]
fn e10_algorithms_that_are_weak_unknown_or_not_the_keys_are_refused() {
    let case = Case::good();
    let (r, s) = numbers(&case);
    let both = [r.clone(), s.clone()];
    refused_with(&case, attest::signature(ECDSA, SHA1, &both), WeakHash);
    for hash in [0, NULL, 0x0012, 0x0027, 0xffff] {
        refused_with(&case, attest::signature(ECDSA, hash, &both), AlgNotAllowed);
    }
    for hash in [SHA384, SHA512] {
        refused_with(&case, attest::signature(ECDSA, hash, &both), AlgMismatch);
    }
    // HMAC, null, ECDAA, SM2, ECSCHNORR.
    for scheme in [0x0005, NULL, 0x001a, 0x001b, 0x001c, 0] {
        refused_with(&case, attest::sha256_signature(scheme, &both), AlgNotAllowed);
    }
    let one = [[r, s].concat()];
    for scheme in [RSASSA, RSAPSS] {
        refused_with(&case, attest::sha256_signature(scheme, &one), AlgMismatch);
    }
    // No signature at all: TPM_ALG_NULL and nothing behind it.
    refused_with(&case, NULL.to_be_bytes().to_vec(), Malformed);
}

#[test]
fn e10_an_rsa_keys_signature_in_another_form_is_refused() {
    let case = Case::of(Tpm::with(Key::rsa(), Log::boot()));
    let parts = case.tpm.ak.sign(&case.quote.as_ref().unwrap().bytes());
    let halves = [parts[0][..128].to_vec(), parts[0][128..].to_vec()];
    refused_with(&case, attest::sha256_signature(ECDSA, &halves), AlgMismatch);
    refused_with(&case, attest::signature(RSASSA, SHA384, &parts), AlgMismatch);
    for wrong in [Vec::new(), vec![0; 256], vec![0xff; 256], parts[0][1..].to_vec()] {
        refused_with(
            &case,
            attest::sha256_signature(RSASSA, &[wrong]),
            SignatureInvalid,
        );
    }
}

#[test]
fn e10_a_signature_of_another_scheme_than_the_keys_is_refused() {
    let mut case = Case::of(Tpm::with(Key::rsa(), Log::boot()));
    let parts = case.tpm.ak.sign(&case.quote.as_ref().unwrap().bytes());
    refused_with(&case, attest::sha256_signature(RSAPSS, &parts), AlgMismatch);
    case.tpm.ak_area.scheme[0] = RSAPSS;
    case.refused(NAME, AlgMismatch);
}

#[test]
fn a_certifications_signature_is_checked_like_a_quotes() {
    let case = Case::good();
    let appraisal = case.appraise_with(|evidence| {
        let signature = &mut evidence.certifications[0].certify.signature;
        let last = signature.len() - 1;
        signature[last] ^= 1;
    });
    refused(&appraisal, "tpm.certify.signature", SignatureInvalid);
    assert!(appraisal.keys.is_empty());
    let appraisal = case.appraise_with(|evidence| {
        let quote = evidence.quote.clone().unwrap();
        evidence.certifications[0].certify.signature = quote.signature;
    });
    refused(&appraisal, "tpm.certify.signature", SignatureInvalid);
}

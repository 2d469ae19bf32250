//! What a relying party makes of results: whole ones, and each with one thing wrong.

use serde_json::json;
use touchmark_crypto::{
    Purpose, Signer, SigningAlg, SoftwareKey,
    jose::{Jwk, b64u, jws},
};

use super::*;
use crate::ear::PROFILE;

const NOW: u64 = 1_800_000_000;
const BIND: [u8; 32] = [0xfb; 32];
const OCCASION: Occasion<'_> = Occasion {
    nonce: Some(Nonce::Bytes(&BIND)),
    key: None,
    now: NOW,
};

fn demands() -> Demands {
    Demands {
        profile: Profile::Ear03,
        without_exp: false,
        developer: Some("https://verifier.example".into()),
        submodules: vec!["host".into()],
        vector: vec![2],
    }
}

fn claims() -> Value {
    json!({
        "eat_profile": PROFILE, "iat": NOW, "exp": NOW + 60, "eat_nonce": b64u(&BIND),
        "ear_verifier_id": {"developer": "https://verifier.example", "build": "1"},
        "submods": {"host": {
            "ear_status": "affirming",
            "ear_trustworthiness_vector": {"instance-identity": 2, "executables": 2},
        }},
    })
}

/// Check and reason of the first failure, and whether the result counts against the host.
fn judged(claims: &Value, demands: &Demands) -> (Option<(&'static str, Reason)>, bool) {
    judged_on(claims, demands, OCCASION)
}

fn judged_on(
    claims: &Value,
    demands: &Demands,
    occasion: Occasion<'_>,
) -> (Option<(&'static str, Reason)>, bool) {
    let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let token = jws::sign("eat+jwt", None, claims, Purpose::AttestationResult, &key).unwrap();
    let jwk = Jwk::new(key.public_key().clone()).unwrap().to_json();
    let relied = rely(&token, &jwk, demands, occasion);
    let failure = relied
        .failure()
        .map(|check| (check.name, check.reason().unwrap()));
    (failure, relied.heard.is_some())
}

fn with(pointer: &str, value: Value) -> Value {
    let mut claims = claims();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(name),
        value => parent.insert(name.to_owned(), value),
    };
    claims
}

#[test]
fn r065_what_a_verifier_says_counts_only_whole_fresh_and_affirming() {
    assert_eq!(judged(&claims(), &demands()), (None, true));
    let status = "/submods/host/ear_status";
    let vector = "/submods/host/ear_trustworthiness_vector";
    for (pointer, value, check, reason, heard) in [
        // Nothing that is not this verifier's result about this says anything about the host.
        (
            "/eat_profile",
            json!("tag:github.com,2023:veraison/ear"),
            "ear.claims",
            Reason::WrongProfile,
            false,
        ),
        ("/exp", json!(NOW - 31), "ear.times", Reason::Expired, false),
        ("/exp", Value::Null, "ear.times", Reason::ClaimMissing, false),
        ("/iat", json!(NOW + 31), "ear.times", Reason::NotYetValid, false),
        ("/nbf", json!(NOW + 31), "ear.times", Reason::NotYetValid, false),
        (
            "/eat_nonce",
            json!(b64u(&[1; 32])),
            "ear.nonce",
            Reason::NonceMismatch,
            false,
        ),
        (
            "/eat_nonce",
            json!("not base64, but a nonce"),
            "ear.nonce",
            Reason::NonceMismatch,
            false,
        ),
        (
            "/eat_nonce",
            Value::Null,
            "ear.nonce",
            Reason::NonceMissing,
            false,
        ),
        (
            "/ear_verifier_id/developer",
            json!("somebody"),
            "ear.verifier",
            Reason::VerifierMismatch,
            false,
        ),
        // A worse status than the vector's is the verifier's to give, a better one is refused as it is read.
        (
            status,
            json!("warning"),
            "ear.status",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            status,
            json!("contraindicated"),
            "ear.status",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            status,
            json!("none"),
            "ear.status",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            vector,
            json!({"executables": 33}),
            "ear.claims",
            Reason::ClaimInvalid,
            false,
        ),
        // What is absent, or says nothing, affirms nothing.
        (
            vector,
            json!({"instance-identity": 2}),
            "ear.vector",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            vector,
            Value::Null,
            "ear.vector",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            vector,
            json!({"executables": 0}),
            "ear.vector",
            Reason::ResultNotAffirming,
            true,
        ),
        (
            "/ear_status",
            json!("contraindicated"),
            "ear.status",
            Reason::ResultNotAffirming,
            true,
        ),
    ] {
        let found = judged(&with(pointer, value.clone()), &demands());
        assert_eq!(found, (Some((check, reason)), heard), "{pointer} {value}");
    }
}

#[test]
fn submodules_that_do_not_decide_count_when_they_are_contraindicated() {
    let with_gpu = |status: &str| with("/submods/gpu", json!({"ear_status": status}));
    assert_eq!(judged(&with_gpu("none"), &demands()), (None, true));
    let refused = (Some(("ear.status", Reason::ResultNotAffirming)), true);
    assert_eq!(judged(&with_gpu("contraindicated"), &demands()), refused);
    let both = Demands {
        submodules: Vec::new(),
        vector: Vec::new(),
        ..demands()
    };
    assert_eq!(judged(&claims(), &both), (None, true));
    assert_eq!(judged(&with_gpu("none"), &both), refused);
    let missing = Demands {
        submodules: vec!["gpu".into()],
        ..demands()
    };
    let refused = (Some(("ear.submodules", Reason::ClaimMissing)), true);
    assert_eq!(judged(&claims(), &missing), refused);
}

#[test]
fn nonces_are_written_in_either_alphabet_with_or_without_padding() {
    for text in [
        b64u(&BIND),
        format!("{}=", b64u(&BIND)),
        b64u(&BIND).replace('-', "+").replace('_', "/"),
    ] {
        assert_eq!(
            judged(&with("/eat_nonce", json!(text)), &demands()),
            (None, true),
            "{text}"
        );
    }
}

#[test]
fn r008_a_result_of_an_unknown_verifier_says_nothing() {
    let own = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let other = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let jwk = Jwk::new(own.public_key().clone()).unwrap().to_json();
    let token = jws::sign("eat+jwt", None, &claims(), Purpose::AttestationResult, &other).unwrap();
    let relied = rely(&token, &jwk, &demands(), OCCASION);
    assert_eq!(
        relied.failure().and_then(Check::reason),
        Some(Reason::SignatureInvalid)
    );
    assert!(relied.heard.is_none() && relied.signed.is_none());
    let cut = rely(&token[..token.len() / 2], &jwk, &demands(), OCCASION);
    assert_eq!(cut.failure().and_then(Check::reason), Some(Reason::Malformed));
}

#[test]
fn r008_a_result_about_another_attester_is_none_about_this() {
    let (own, other) = ([1; 91], [2; 91]);
    let named = |key: &[u8]| {
        with(
            "/submods/host/ear_veraison_key_attestation",
            json!({"akpub": b64u(key)}),
        )
    };
    let on = |claims: &Value, key| {
        judged_on(
            claims,
            &demands(),
            Occasion {
                key: Some(key),
                ..OCCASION
            },
        )
    };
    let mismatch = (Some(("ear.key", Reason::AttestationKeyMismatch)), false);
    assert_eq!(on(&named(&own), EvidenceKey::Demanded(&own)), (None, true));
    assert_eq!(on(&named(&other), EvidenceKey::Demanded(&own)), mismatch);
    assert_eq!(on(&claims(), EvidenceKey::Demanded(&own)), mismatch);
    // Where the evidence was given to the verifier by whoever relies on the result, it need not name the key.
    assert_eq!(on(&claims(), EvidenceKey::IfNamed(&own)), (None, true));
    assert_eq!(on(&named(&other), EvidenceKey::IfNamed(&own)), mismatch);
}

#[test]
fn a_result_that_carries_several_nonces_is_fresh_by_any_of_them() {
    let several = |nonces: Value| judged(&with("/eat_nonce", nonces), &demands());
    assert_eq!(several(json!([b64u(&[1; 32]), b64u(&BIND)])), (None, true));
    let mismatch = (Some(("ear.nonce", Reason::NonceMismatch)), false);
    assert_eq!(several(json!([b64u(&[1; 32]), b64u(&[2; 32])])), mismatch);
    let invalid = (Some(("ear.claims", Reason::ClaimInvalid)), false);
    assert_eq!(several(json!([])), invalid);
}

#[test]
fn r008_a_token_of_another_kind_is_no_result_whoever_signed_it() {
    let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
    let jwk = Jwk::new(key.public_key().clone()).unwrap().to_json();
    let failed = |typ: &str| {
        let token = jws::sign(typ, None, &claims(), Purpose::AttestationResult, &key).unwrap();
        let relied = rely(&token, &jwk, &demands(), OCCASION);
        relied.failure().and_then(Check::reason)
    };
    for typ in ["JWT", "jwt", "eat+jwt", "application/eat+jwt", "EAT+JWT"] {
        assert_eq!(failed(typ), None, "{typ}");
    }
    for typ in ["wit+jwt", "wpt+jwt", "at+jwt", "", "application/"] {
        assert_eq!(failed(typ), Some(Reason::WrongTyp), "{typ}");
    }
}

//! Proofs: for one request, once.

use serde_json::{Value, json};
use touchmark_crypto::{jose::b64u, sha256};
use touchmark_wimse::{
    TokenError,
    wpt::{self, Carried, Expected, Profile, Replays},
};

use crate::scene::{AUDIENCE, NOW, Scene, key, sign};

#[test]
fn t04_a_token_without_its_workloads_proof_is_nothing() {
    let scene = Scene::new();
    let token = scene.good();
    let stranger = sign(&json!({"typ": "wpt+jwt"}), &scene.proof_claims(&token), &key());
    assert_eq!(
        scene.judge(&token, &stranger, Profile::Wpt02, (None, None)),
        Err(TokenError::SignatureInvalid)
    );
    let fields = |fields: &[(&'static str, &str)], profile| {
        let fields: Vec<(&str, &[u8])> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        Carried::from_fields(fields, profile).map(|_| ())
    };
    let (w, a, p) = ("Workload-Identity-Token", "authorization", "workload-proof-token");
    for (found, reason) in [
        (fields(&[(w, "t")], Profile::Wpt02), TokenError::ProofMissing),
        (
            fields(&[(w, "t"), (a, "Bearer t")], Profile::Wpt02),
            TokenError::WrongScheme,
        ),
        (fields(&[(a, "WPT p")], Profile::Wpt02), TokenError::TokenMissing),
        (
            fields(&[(w, "t"), (w, "t"), (a, "WPT p")], Profile::Wpt02),
            TokenError::DuplicateHeader,
        ),
        (
            fields(&[(w, "t,t"), (a, "WPT p")], Profile::Wpt02),
            TokenError::DuplicateHeader,
        ),
        (
            fields(
                &[(w, "t"), (a, "WPT p"), ("AUTHORIZATION", "Bearer x")],
                Profile::Wpt02,
            ),
            TokenError::DuplicateHeader,
        ),
        (
            fields(&[(w, "t"), (a, "WPT p, Bearer x")], Profile::Wpt02),
            TokenError::DuplicateHeader,
        ),
        (
            fields(&[(w, "t"), (a, "WPT p q")], Profile::Wpt02),
            TokenError::Malformed,
        ),
        (
            fields(&[(w, "t"), (a, "WPT p")], Profile::Wpt01),
            TokenError::ProofMissing,
        ),
        (
            fields(&[(w, "t"), (p, "p")], Profile::Wpt02),
            TokenError::ProofMissing,
        ),
    ] {
        assert_eq!(found, Err(reason));
    }
    fields(&[(w, "t"), (a, "wpt  p")], Profile::Wpt02).unwrap();
    fields(&[(w, "t"), (p, "p"), (a, "Bearer x")], Profile::Wpt01).unwrap();
}

#[test]
fn t05_a_proof_is_used_once() {
    let scene = Scene::new();
    let token = scene.good();
    let verified = scene.verify(&token).unwrap();
    let proof = scene.proof(&scene.proof_claims(&token));
    let carried = Carried {
        wit: &token,
        proof: &proof,
        transaction: None,
        access: None,
    };
    let expected = Expected::at(AUDIENCE);
    let mut replays = Replays::new(8);
    let mut judge = |now| wpt::verify(&carried, &verified, &expected, &mut replays, now).map(|_| ());
    judge(NOW).unwrap();
    assert_eq!(judge(NOW + 1), Err(TokenError::Replayed));
    // Remembered to the last second in which it could hold.
    assert_eq!(judge(NOW + 119), Err(TokenError::Replayed));
    assert_eq!(judge(NOW + 120), Err(TokenError::Expired));
    assert_eq!(
        scene.with_proof(Profile::Wpt02, (None, None), |claims| {
            claims.as_object_mut().unwrap().remove("jti");
        }),
        Err(TokenError::ClaimMissing("jti"))
    );
    // A proof that fails is not remembered: it takes nobody's place.
    let mut replays = Replays::new(1);
    let other = Expected::at("https://other.example.org/");
    let refused = wpt::verify(&carried, &verified, &other, &mut replays, NOW);
    assert_eq!(refused, Err(TokenError::AudienceMismatch));
    assert!(replays.is_empty());
}

#[test]
fn t06_a_proof_is_for_its_audience() {
    let scene = Scene::new();
    let judge = |aud: Value| scene.with_proof(Profile::Wpt02, (None, None), |claims| claims["aud"] = aud);
    judge(json!(AUDIENCE)).unwrap();
    judge(json!("https://api.example.org/pay?amount=1#x")).unwrap();
    for aud in [
        "https://api.example.org/pay/",
        "https://api.example.org:443/pay",
        "https://API.example.org/pay",
        "http://api.example.org/pay",
        "https://api.example.org//pay",
        "https://api.example.org/%70ay",
        "https://api.example.org/",
        "api.example.org/pay",
        "",
    ] {
        assert_eq!(judge(json!(aud)), Err(TokenError::AudienceMismatch), "{aud}");
    }
    assert_eq!(judge(json!([AUDIENCE])), Err(TokenError::AudienceArray));
    assert_eq!(
        judge(json!([AUDIENCE, "https://other/"])),
        Err(TokenError::AudienceArray)
    );
    assert_eq!(judge(json!(7)), Err(TokenError::ClaimInvalid("aud")));
    let missing = scene.with_proof(Profile::Wpt02, (None, None), |claims| {
        claims.as_object_mut().unwrap().remove("aud");
    });
    assert_eq!(missing, Err(TokenError::ClaimMissing("aud")));
}

#[test]
fn t07_what_comes_along_is_named_by_its_hash() {
    let scene = Scene::new();
    let hash = |text: &str| json!(b64u(&sha256(&[text.as_bytes()])));
    let judge = |profile, companions, name: &'static str, value: Value| {
        scene.with_proof(profile, companions, |claims| {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value;
            }
        })
    };
    let alone = (None, None);
    let (two, one) = (Profile::Wpt02, Profile::Wpt01);
    // The token itself.
    assert_eq!(
        judge(two, alone, "wth", json!(null)),
        Err(TokenError::ClaimMissing("wth"))
    );
    assert_eq!(
        judge(two, alone, "wth", hash("another")),
        Err(TokenError::WthMismatch)
    );
    let padded = format!("{}=", b64u(&sha256(&[scene.good().as_bytes()])));
    assert_eq!(
        judge(two, alone, "wth", json!(padded)),
        Err(TokenError::WthMismatch)
    );
    // A transaction token.
    let txn = (Some("txn"), None);
    judge(two, txn, "tth", hash("txn")).unwrap();
    assert_eq!(judge(two, txn, "tth", json!(null)), Err(TokenError::TthMissing));
    assert_eq!(
        judge(two, txn, "tth", hash("other")),
        Err(TokenError::TthMismatch)
    );
    assert_eq!(
        judge(two, alone, "tth", hash("txn")),
        Err(TokenError::TthMismatch)
    );
    // An access token, which only the older profile has.
    let access = (None, Some("access"));
    judge(one, access, "ath", hash("access")).unwrap();
    assert_eq!(
        judge(one, access, "ath", json!(null)),
        Err(TokenError::AthMissing)
    );
    assert_eq!(
        judge(one, access, "ath", hash("other")),
        Err(TokenError::AthMismatch)
    );
    assert_eq!(
        judge(one, alone, "ath", hash("access")),
        Err(TokenError::AthMismatch)
    );
    assert_eq!(
        judge(two, alone, "ath", hash("access")),
        Err(TokenError::AthMismatch)
    );
    // Others are not understood, so none may be named.
    judge(two, alone, "oth", json!({})).unwrap();
    assert_eq!(
        judge(two, alone, "oth", json!({"x-token": "AA"})),
        Err(TokenError::OthMismatch)
    );
    assert_eq!(judge(two, alone, "oth", json!("x")), Err(TokenError::OthMismatch));
    // The same proof beside another token for the same key.
    let (token, other) = (scene.good(), {
        let mut claims = scene.claims();
        claims["jti"] = json!("2");
        scene.token(&claims)
    });
    let proof = scene.proof(&scene.proof_claims(&token));
    assert_eq!(
        scene.judge(&other, &proof, two, alone),
        Err(TokenError::WthMismatch)
    );
}

//! Tokens: whom they name, and why they do not.

use serde_json::{Value, json};
use touchmark_crypto::{
    Signer, SigningAlg, SoftwareKey,
    jose::{Jwk, b64u, b64u_decode},
};
use touchmark_identity::WorkloadId;
use touchmark_wimse::{Issuer, Issuers, TokenError, wit, wpt, wpt::Profile};

use crate::scene::{AUDIENCE, NOW, Scene, domain, issuer, key, sign, with_header};

#[test]
fn r009_a_token_and_its_proof_name_a_workload_and_neither_does_alone() {
    let scene = Scene::new();
    let token = scene.good();
    let verified = scene.verify(&token).unwrap();
    assert_eq!(verified.identifier().as_str(), "spiffe://example.org/pay");
    let proof = scene.proof(&scene.proof_claims(&token));
    scene.judge(&token, &proof, Profile::Wpt02, (None, None)).unwrap();
    // A token that is minted here is one that is verified here.
    let identifier = WorkloadId::parse("spiffe://example.org/pay").unwrap();
    let jwk = Jwk::new(scene.workload.public_key().clone()).unwrap();
    let minted = wit::Wit {
        identifier: &identifier,
        key: &jwk,
        cmw: &json!(["application/eat-ucs+json", "e30"]),
        issued_at: NOW,
        expires_at: NOW + 3_600,
        id: [1; 16],
    };
    let token = wit::mint(&minted, "k1", &scene.signer).unwrap();
    assert!(scene.verify(&token).unwrap().cmw().is_some());
    let wpt = wpt::Wpt {
        wit: &token,
        audience: AUDIENCE,
        expires_at: NOW + 60,
        id: [2; 16],
        access: None,
        transaction: None,
    };
    let proof = wpt::mint(&wpt, &scene.workload).unwrap();
    scene.judge(&token, &proof, Profile::Wpt02, (None, None)).unwrap();
}

#[test]
fn t01_algorithms_are_those_of_the_keys_and_no_others() {
    let scene = Scene::new();
    let token = scene.good();
    for alg in ["none", "None", "HS256", "ES384", "RS256", "es256", "EdDSA", ""] {
        let header = json!({"typ": "wit+jwt", "kid": "k1", "alg": alg});
        assert_eq!(
            scene.refused(&with_header(&token, &header)),
            TokenError::AlgNotAllowed,
            "{alg}"
        );
    }
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    let none = with_header(&unsigned, &json!({"typ": "wit+jwt", "kid": "k1", "alg": "none"}));
    assert_eq!(scene.refused(&none), TokenError::AlgNotAllowed);
    // The proof's algorithm is that of cnf.jwk, by string.
    let proof = scene.proof(&scene.proof_claims(&token));
    for (alg, error) in [
        ("none", TokenError::AlgNotAllowed),
        ("HS256", TokenError::AlgNotAllowed),
        ("Es256", TokenError::AlgNotAllowed),
        ("ES384", TokenError::AlgMismatch),
    ] {
        let proof = with_header(&proof, &json!({"typ": "wpt+jwt", "alg": alg}));
        assert_eq!(
            scene.judge(&token, &proof, Profile::Wpt02, (None, None)),
            Err(error),
            "{alg}"
        );
    }
    // A key that names no algorithm, or one that its trust domain does not accept.
    assert_eq!(
        scene.with_claims(|claims| {
            claims["cnf"]["jwk"].as_object_mut().unwrap().remove("alg");
        }),
        TokenError::CnfAlgMissing
    );
    let p384 = Jwk::new(
        SoftwareKey::generate(SigningAlg::Es384)
            .unwrap()
            .public_key()
            .clone(),
    )
    .unwrap();
    assert_eq!(
        scene.with_claims(|claims| claims["cnf"]["jwk"] = Value::Object(p384.to_json())),
        TokenError::AlgNotAllowed
    );
    for (name, value, reason) in [
        ("d", json!("AA"), TokenError::CnfPrivateMaterial),
        ("kty", json!("oct"), TokenError::CnfInvalid),
        ("alg", json!("ECDH-ES"), TokenError::CnfInvalid),
        ("x", json!("AA"), TokenError::CnfInvalid),
    ] {
        assert_eq!(
            scene.with_claims(|claims| claims["cnf"]["jwk"][name] = value),
            reason,
            "{name}"
        );
    }
}

#[test]
fn a_token_of_a_spiffe_domain_has_no_audience() {
    let refused = Scene::new().with_claims(|claims| claims["aud"] = json!("https://api.example.org/"));
    assert_eq!(refused, TokenError::ClaimInvalid("aud"));
}

#[test]
fn t02_one_kind_of_token_is_not_another() {
    let scene = Scene::new();
    let good = scene.good();
    for typ in [
        "wpt+jwt",
        "JWT",
        "txntoken+jwt",
        "wit-jwt",
        "application/wpt+jwt",
        "",
    ] {
        let token = sign(&json!({"typ": typ, "kid": "k1"}), &scene.claims(), &scene.signer);
        assert_eq!(scene.refused(&token), TokenError::WrongTyp, "{typ}");
        if typ.ends_with("wpt+jwt") {
            continue;
        }
        let proof = sign(&json!({"typ": typ}), &scene.proof_claims(&good), &scene.workload);
        assert_eq!(
            scene.judge(&good, &proof, Profile::Wpt02, (None, None)),
            Err(TokenError::WrongTyp),
            "{typ}"
        );
    }
    // A proof shown as a token, and a token shown as its own proof.
    let proof = scene.proof(&scene.proof_claims(&good));
    assert_eq!(scene.refused(&proof), TokenError::ClaimMissing("sub"));
    assert_eq!(
        scene.judge(&good, &good, Profile::Wpt02, (None, None)),
        Err(TokenError::SignatureInvalid)
    );
}

#[test]
fn t03_times_are_there_are_numbers_and_hold() {
    let scene = Scene::new();
    type Change = fn(&mut Value);
    let cases: [(Change, TokenError); 8] = [
        (
            |claims| {
                claims.as_object_mut().unwrap().remove("exp");
            },
            TokenError::ClaimMissing("exp"),
        ),
        (
            |claims| claims["exp"] = json!("1900003600"),
            TokenError::ClaimInvalid("exp"),
        ),
        (
            |claims| claims["exp"] = json!(1_900_003_600.5),
            TokenError::ClaimInvalid("exp"),
        ),
        (
            |claims| claims["exp"] = json!(u64::MAX),
            TokenError::ClaimInvalid("exp"),
        ),
        (
            |claims| claims["exp"] = json!(-1),
            TokenError::ClaimInvalid("exp"),
        ),
        (|claims| claims["exp"] = json!(NOW - 60), TokenError::Expired),
        (
            |claims| claims["exp"] = json!(NOW + 90_000),
            TokenError::LifetimeTooLong,
        ),
        (|claims| claims["nbf"] = json!(NOW + 61), TokenError::NotYetValid),
    ];
    for (number, (change, reason)) in cases.into_iter().enumerate() {
        assert_eq!(scene.with_claims(change), reason, "{number}");
    }
    // Within the leeway it holds, and when it was issued is no reason.
    for change in [
        (|claims| claims["exp"] = json!(NOW - 59)) as Change,
        |claims| claims["nbf"] = json!(NOW + 60),
        |claims| claims["iat"] = json!(NOW + 500),
    ] {
        let mut claims = scene.claims();
        change(&mut claims);
        scene.verify(&scene.token(&claims)).unwrap();
    }
    let proof = |change: Change| scene.with_proof(Profile::Wpt02, (None, None), change);
    assert_eq!(
        proof(|claims| claims["exp"] = json!(NOW - 60)),
        Err(TokenError::Expired)
    );
    assert_eq!(
        proof(|claims| claims["exp"] = json!(NOW + 361)),
        Err(TokenError::LifetimeTooLong)
    );
    assert_eq!(
        proof(|claims| claims["exp"] = json!("soon")),
        Err(TokenError::ClaimInvalid("exp"))
    );
}

#[test]
fn r026_r027_r028_an_issuer_speaks_for_its_own_trust_domain_only() {
    let (a, b) = (key(), key());
    let workload = key();
    let mut issuers = Issuers::default();
    // The same kid in two trust domains, and the same path.
    issuers.insert(domain("spiffe://a.example"), issuer(&[("k", &a)]));
    issuers.insert(domain("wimse://b.example"), issuer(&[("k", &b)]));
    let token = |sub: &str, signer: &SoftwareKey| {
        let claims = json!({
            "iss": "https://a.example", "sub": sub, "exp": NOW + 60,
            "cnf": {"jwk": Jwk::new(workload.public_key().clone()).unwrap().to_json()},
        });
        sign(&json!({"typ": "wit+jwt", "kid": "k"}), &claims, signer)
    };
    let verify = |sub: &str, signer: &SoftwareKey| wit::verify(&token(sub, signer), &issuers, NOW);
    let one = verify("spiffe://a.example/x", &a).unwrap();
    let two = verify("wimse://b.example/x", &b).unwrap();
    assert_ne!(one.identifier(), two.identifier());
    for (sub, signer, reason) in [
        ("spiffe://a.example/x", &b, TokenError::SignatureInvalid),
        ("wimse://b.example/x", &a, TokenError::SignatureInvalid),
        ("wimse://a.example/x", &a, TokenError::TrustDomainUnknown),
        ("spiffe://c.example/x", &a, TokenError::TrustDomainUnknown),
        ("spiffe://A.example/x", &a, TokenError::IdentifierNotCanonical),
        ("spiffe://a.example", &a, TokenError::IdentifierInvalid),
    ] {
        assert_eq!(verify(sub, signer).unwrap_err(), reason, "{sub}");
    }
    // An issuer that is withdrawn is believed no more, and only that one.
    let mut left = issuers.clone();
    left.remove(&domain("spiffe://a.example"));
    assert_eq!(
        wit::verify(&token("spiffe://a.example/x", &a), &left, NOW),
        Err(TokenError::TrustDomainUnknown)
    );
    wit::verify(&token("wimse://b.example/x", &b), &left, NOW).unwrap();
    // iss is held against what speaks for that trust domain, where that is configured.
    let mut named = Issuers::default();
    let only = Issuer {
        issuers: Some(vec!["https://other.example".to_owned()]),
        ..issuer(&[("k", &a)])
    };
    named.insert(domain("spiffe://a.example"), only);
    assert_eq!(
        wit::verify(&token("spiffe://a.example/x", &a), &named, NOW),
        Err(TokenError::IssuerNotAllowed)
    );
}

#[test]
fn t12_keys_come_from_configuration_whatever_a_header_says() {
    let scene = Scene::new();
    let attacker = key();
    let jwk = Jwk::new(attacker.public_key().clone()).unwrap().to_json();
    for (name, value) in [
        ("jwk", Value::Object(jwk)),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/chain")),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"typ": "wit+jwt", "kid": "k1"});
        header[name] = value;
        let token = sign(&header, &scene.claims(), &attacker);
        assert_eq!(scene.refused(&token), TokenError::SignatureInvalid, "{name}");
    }
    for kid in ["k2", "../k1", "k1 ", "", "' OR 1=1"] {
        let token = sign(
            &json!({"typ": "wit+jwt", "kid": kid}),
            &scene.claims(),
            &scene.signer,
        );
        assert_eq!(scene.refused(&token), TokenError::KidUnknown, "{kid}");
    }
    for header in [
        json!({"typ": "wit+jwt", "kid": "k1", "crit": ["exp"], "exp": 1}),
        json!({"typ": "wit+jwt", "kid": "k1", "b64": false}),
    ] {
        let token = sign(&header, &scene.claims(), &scene.signer);
        assert_eq!(scene.refused(&token), TokenError::UnsupportedCrit, "{header}");
    }
    // A kid that names two keys names none, and without kid there has to be one key only.
    let other = key();
    let mut issuers = Issuers::default();
    let both = issuer(&[("k1", &scene.signer), ("k1", &other)]);
    issuers.insert(domain("spiffe://example.org"), both);
    assert_eq!(
        wit::verify(&scene.good(), &issuers, NOW),
        Err(TokenError::KidUnknown)
    );
    let silent = sign(&json!({"typ": "wit+jwt"}), &scene.claims(), &scene.signer);
    assert_eq!(wit::verify(&silent, &issuers, NOW), Err(TokenError::KidUnknown));
    scene.verify(&silent).unwrap();
}

#[test]
fn what_is_no_token_is_refused_without_harm() {
    let scene = Scene::new();
    let good = scene.good();
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        panic!("three parts")
    };
    let object = |text: &str| b64u(text.as_bytes());
    for token in [
        String::new(),
        "a.b".into(),
        format!("{good}."),
        format!("{good} "),
        format!("{good}="),
        format!("{header}.{payload}"),
        format!("{header}.{}.{signature}", object("null")),
        format!("{header}.{}.{signature}", object("[]")),
        format!("{header}.{}.{signature}", object(&"[".repeat(3_000))),
        format!("{}.{payload}.{signature}", object("{}x")),
        "x".repeat(100_000),
    ] {
        assert_eq!(scene.refused(&token), TokenError::Malformed, "{token:.60}");
    }
    let twice = format!("{header}.{}.{signature}", object("{\"sub\":\"a\",\"sub\":\"a\"}"));
    assert_eq!(scene.refused(&twice), TokenError::DuplicateMember);
    // Every other signature of this key's length.
    let bytes = b64u_decode(signature).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let token = format!("{header}.{payload}.{}", b64u(&changed));
        assert_eq!(scene.refused(&token), TokenError::SignatureInvalid);
    }
    let subject = |sub: Value| scene.with_claims(|claims| claims["sub"] = sub);
    assert_eq!(
        subject(json!(["spiffe://example.org/pay"])),
        TokenError::ClaimInvalid("sub")
    );
    assert_eq!(subject(json!("/pay")), TokenError::IdentifierInvalid);
    assert_eq!(
        scene.with_claims(|claims| claims["cnf"] = json!({"x5t#S256": "AA"})),
        TokenError::CnfMissing
    );
}

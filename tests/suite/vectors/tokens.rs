//! Tokens and proofs of other projects and of the drafts, judged as their cases say.

use touchmark_crypto::jose::{JoseAlg, VerifyingKey, json};
use touchmark_identity::TrustDomain;
use touchmark_wimse::{
    Issuer, Issuers, TokenError, wit,
    wpt::{self, Carried, Expected, Profile, Replays},
};

use super::{Case, cases};

/// What this verifier reports beside its verdict.
struct Found {
    refused: Option<TokenError>,
    warned: Vec<&'static str>,
}

fn text(case: &Case, role: &str) -> Option<String> {
    let bytes = case.file(role)?;
    Some(String::from_utf8(bytes).unwrap().trim_end().to_owned())
}

fn now(case: &Case) -> u64 {
    let time = case.text["params"]["verify_time"].as_str().unwrap();
    touchmark_tls::clock::from_rfc3339(time).unwrap()
}

/// The case's key as the only one of its trust domain, which cases name without its scheme.
fn issuers(case: &Case) -> Issuers {
    let jwk = json::object(&case.file("issuer_jwk").unwrap()).unwrap();
    let kid = jwk.get("kid").and_then(|kid| kid.as_str()).map(str::to_owned);
    let algorithms = case.text["policy"]["allowed_algs"].as_array().unwrap();
    let issuer = Issuer {
        keys: vec![(kid, VerifyingKey::from_anchor(&jwk).unwrap())],
        algorithms: algorithms
            .iter()
            .map(|name| JoseAlg::from_name(name.as_str().unwrap()).unwrap())
            .collect(),
        issuers: case.text["params"]["expected_issuer"]
            .as_str()
            .map(|issuer| vec![issuer.to_owned()]),
        max_lifetime: 365 * 86_400,
    };
    let name = case.text["params"]["trust_domain"].as_str().unwrap();
    let mut issuers = Issuers::default();
    for scheme in ["spiffe", "wimse"] {
        let domain = TrustDomain::parse_origin(&format!("{scheme}://{name}")).unwrap();
        issuers.insert(domain, issuer.clone());
    }
    issuers
}

fn token(case: &Case) -> Found {
    let token = text(case, "wit").unwrap();
    match wit::verify(&token, &issuers(case), now(case)) {
        Err(refused) => Found {
            refused: Some(refused),
            warned: Vec::new(),
        },
        Ok(verified) => Found {
            refused: None,
            warned: verified
                .has_unusual_typ()
                .then_some("typ_spelling")
                .into_iter()
                .collect(),
        },
    }
}

fn proof(case: &Case) -> Found {
    let judged = judge(case);
    let mut warned = Vec::new();
    if let Ok(true) = judged {
        warned.push("typ_spelling");
    }
    Found {
        refused: judged.err(),
        warned,
    }
}

/// Whether a type was spelt in an unusual way, of a request that holds.
fn judge(case: &Case) -> Result<bool, TokenError> {
    let profile = match case.text["profile"].as_str() {
        Some("wpt-01") => Profile::Wpt01,
        _ => Profile::Wpt02,
    };
    let (request, wit, proof) = (text(case, "http_request"), text(case, "wit"), text(case, "wpt"));
    let carried = match &request {
        // What the request carries counts.
        Some(request) => {
            let head = request.split("\r\n\r\n").next().unwrap().replace("\r\n", "\n");
            let head = head.split("\n\n").next().unwrap().to_owned();
            let fields: Vec<(String, String)> = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect();
            let leaked: &'static [(String, String)] = Vec::leak(fields);
            Carried::from_fields(
                leaked
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_bytes())),
                profile,
            )?
        }
        None => Carried {
            wit: wit.as_deref().unwrap(),
            proof: proof.as_deref().ok_or(TokenError::ProofMissing)?,
            transaction: None,
            access: case.text["params"]["access_token"].as_str(),
        },
    };
    let verified = wit::verify(carried.wit, &issuers(case), now(case))?;
    let expected = Expected {
        max_lifetime: case.text["policy"]["max_proof_lifetime_s"].as_u64().unwrap(),
        profile,
        ..Expected::at(case.text["params"]["audience"].as_str().unwrap())
    };
    let mut replays = Replays::new(16);
    let proof = wpt::verify(&carried, &verified, &expected, &mut replays, now(case))?;
    // Once only.
    let again = wpt::verify(&carried, &verified, &expected, &mut replays, now(case));
    assert_eq!(again, Err(TokenError::Replayed), "{}", case.id);
    Ok(verified.has_unusual_typ() || proof.has_unusual_typ())
}

#[test]
fn tokens_are_judged_as_their_cases_say() {
    let mut wrong = Vec::new();
    for case in cases("wit") {
        let found = token(&case);
        wrong.extend(case.disagreement(found.refused.map(TokenError::name), &found.warned));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn proofs_are_judged_as_their_cases_say() {
    let mut wrong = Vec::new();
    for case in cases("wpt") {
        let found = proof(&case);
        wrong.extend(case.disagreement(found.refused.map(TokenError::name), &found.warned));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

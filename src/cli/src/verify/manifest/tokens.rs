//! Workload identity tokens and their proofs.

use touchmark_crypto::jose::{JoseAlg, JwkError, VerifyingKey, json, jws::Jws};
use touchmark_identity::TrustDomain;
use touchmark_rats::Reason;
use touchmark_wimse::{
    Issuer, Issuers, TokenError, wit,
    wpt::{self, Carried, Expected, Profile, Replays},
};

use super::{case::Case, finding::Finding, jose::allowed};

/// Longest life that is accepted of a token, in seconds.
const MAX_LIFETIME: u64 = 86_400;
/// Longest life of a proof, likewise.
const MAX_PROOF_LIFETIME: u64 = 300;
/// Most fields of a request that are looked at.
const MAX_FIELDS: usize = 256;
/// Seconds that clocks may differ by.
const LEEWAY: u64 = 60;

pub(super) fn identity(case: &Case) -> Result<Finding, String> {
    let token = text(case, "wit")?.ok_or("there is no file of role wit")?;
    let issuers = match issuers(case)? {
        Ok(issuers) => issuers,
        Err(finding) => return Ok(finding),
    };
    let now = case.time()?;
    let mut finding = match wit::verify(&token, &issuers, now) {
        Err(refused) => of(refused),
        Ok(verified) => accepted(verified.has_unusual_typ()),
    };
    notes(&token, now, &mut finding);
    named(case, &token, &mut finding);
    mismatched(case, &token, &mut finding);
    Ok(finding)
}

/// What is worth knowing of a token besides: a key that it brings along and nobody looks at, a time of issue that is still to come.
fn notes(token: &str, now: u64, finding: &mut Finding) {
    let Ok(jws) = Jws::parse(token) else { return };
    if ["jwk", "jku", "x5u", "x5c"]
        .iter()
        .any(|name| jws.has_header(name))
    {
        finding.note(Reason::EmbeddedKey);
    }
    let claims = jws.unverified_claims();
    let issued = claims
        .as_ref()
        .ok()
        .and_then(|claims| claims.claims().get("iat")?.as_u64());
    if issued.is_some_and(|issued| issued > now + LEEWAY) {
        finding.note(Reason::NotYetValid);
    }
}

/// An algorithm that is allowed, and is not that of the issuer's key.
fn mismatched(case: &Case, token: &str, finding: &mut Finding) {
    let named = Jws::parse(token)
        .ok()
        .and_then(|jws| JoseAlg::from_name(jws.header("alg")?));
    let may = |alg| allowed(case).is_none_or(|allowed| allowed.contains(&alg));
    if finding.refused.contains(&"alg_not_allowed") && named.is_some_and(may) {
        finding.refuse(Reason::AlgMismatch);
    }
}

/// Names that a workload identity token leaves out.
fn named(case: &Case, token: &str, finding: &mut Finding) {
    let Ok(jws) = Jws::parse(token) else { return };
    if !jws.has_header("kid") {
        finding.remark("kid_missing");
    }
    let silent = jws
        .unverified_claims()
        .is_ok_and(|claims| !claims.claims().contains_key("iss"));
    if silent && case.text("expected_issuer").is_some() {
        finding.remark("issuer_mismatch");
    }
}

pub(super) fn proof(case: &Case) -> Result<Finding, String> {
    let issuers = match issuers(case)? {
        Ok(issuers) => issuers,
        Err(finding) => return Ok(finding),
    };
    let mut finding = match judge(case, &issuers)? {
        Err(refused) => of(refused),
        Ok(unusual) => accepted(unusual),
    };
    let now = case.time()?;
    let request = text(case, "http_request")?
        .as_deref()
        .map(fields)
        .unwrap_or_default();
    let carried = request
        .iter()
        .filter(|(name, _)| {
            ["workload-identity-token", "workload-proof-token"].contains(&name.to_ascii_lowercase().as_str())
        })
        .map(|(_, value)| value.clone());
    let apart = [text(case, "wit")?, text(case, "wpt")?].into_iter().flatten();
    for token in carried.chain(apart) {
        notes(&token, now, &mut finding);
        elsewhere(case, &token, &mut finding);
    }
    Ok(finding)
}

/// A list of audiences, of which none is the one that is asked for.
fn elsewhere(case: &Case, token: &str, finding: &mut Finding) {
    let Ok(jws) = Jws::parse(token) else { return };
    let Ok(claims) = jws.unverified_claims() else {
        return;
    };
    let own = case.text("audience").unwrap_or_default();
    let named = claims.claims().get("aud").and_then(serde_json::Value::as_array);
    if named.is_some_and(|list| !list.iter().any(|one| one == own))
        && finding.refused.contains(&"audience_array")
    {
        finding.add("audience_mismatch");
    }
}

/// Whether a type was spelt in an unusual way, of a request that holds.
fn judge(case: &Case, issuers: &Issuers) -> Result<Result<bool, TokenError>, String> {
    let profile = Profile::Wpt01;
    let (request, wit, proof) = (
        text(case, "http_request")?,
        text(case, "wit")?,
        text(case, "wpt")?,
    );
    let now = case.time()?;
    let fields: Vec<(String, String)> = request.as_deref().map(fields).unwrap_or_default();
    if fields.len() > MAX_FIELDS {
        return Ok(Err(TokenError::Malformed));
    }
    let carried = match (&request, &wit) {
        // What the request carries counts.
        (Some(_), _) => Carried::from_fields(
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
            profile,
        ),
        (None, Some(wit)) => match proof.as_deref() {
            None => Err(TokenError::ProofMissing),
            Some(proof) => Ok(Carried {
                wit,
                proof,
                transaction: None,
                access: case.text("access_token"),
            }),
        },
        (None, None) => return Err("there is no file of role wit or http_request".to_owned()),
    };
    let audience = case.text("audience").ok_or("there is no audience")?;
    let demanded = case
        .demands("max_proof_lifetime_s")
        .and_then(serde_json::Value::as_u64);
    let expected = Expected {
        max_lifetime: demanded.unwrap_or(MAX_PROOF_LIFETIME),
        profile,
        ..Expected::at(audience)
    };
    Ok(carried.and_then(|carried| {
        let verified = wit::verify(carried.wit, issuers, now)?;
        let proof = wpt::verify(&carried, &verified, &expected, &mut Replays::new(16), now)?;
        Ok(verified.has_unusual_typ() || proof.has_unusual_typ())
    }))
}

/// The fields of a request as it is recorded: lines, an empty one before the body.
fn fields(request: &str) -> Vec<(String, String)> {
    let lines = request.lines().take_while(|line| !line.is_empty());
    lines
        .skip(1)
        .take(MAX_FIELDS + 1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The case's key as the only one of its trust domain, which cases name without its scheme.
fn issuers(case: &Case) -> Result<Result<Issuers, Finding>, String> {
    let jwk = json::object(&case.file("issuer_jwk")?).map_err(|error| format!("issuer_jwk: {error}"))?;
    let key = match VerifyingKey::from_anchor(&jwk) {
        Ok(key) => key,
        Err(JwkError::Alg | JwkError::NoAlg) => return Ok(Err(Finding::refused(Reason::AlgNotAllowed))),
        Err(_) => return Ok(Err(Finding::refused(Reason::KeyInvalid))),
    };
    let kid = jwk.get("kid").and_then(|kid| kid.as_str()).map(str::to_owned);
    let issuer = Issuer {
        // Where nobody says which: every one that is no MAC, and is not `none`.
        algorithms: allowed(case).unwrap_or_else(|| JoseAlg::ALL.to_vec()),
        keys: vec![(kid, key)],
        issuers: case.text("expected_issuer").map(|issuer| vec![issuer.to_owned()]),
        max_lifetime: MAX_LIFETIME,
    };
    let name = case.text("trust_domain").ok_or("there is no trust_domain")?;
    let mut issuers = Issuers::default();
    for scheme in ["spiffe", "wimse"] {
        let domain = TrustDomain::parse_origin(&format!("{scheme}://{name}"))
            .map_err(|error| format!("trust_domain: {error}"))?;
        issuers.insert(domain, issuer.clone());
    }
    Ok(Ok(issuers))
}

fn text(case: &Case, role: &str) -> Result<Option<String>, String> {
    let bytes = case.optional(role)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// The manifests' names of a refusal: where theirs is another than ours, and where two of theirs have its meaning.
fn of(refused: TokenError) -> Finding {
    let wider = match refused.name() {
        "duplicate_member" => Some("malformed"),
        "tth_missing" => Some("claim_missing"),
        "tth_mismatch" => Some("claim_invalid"),
        _ => None,
    };
    let name = match refused.name() {
        // The manifests have fewer names for the same.
        "identifier_not_canonical" => "identifier_invalid",
        "issuer_not_allowed" => "issuer_mismatch",
        "wit_missing" | "wrong_scheme" => "proof_missing",
        "oth_mismatch" => "oth_unknown",
        name => name,
    };
    Finding {
        refused: std::iter::once(name).chain(wider).collect(),
        noted: Vec::new(),
    }
}

fn accepted(unusual_typ: bool) -> Finding {
    Finding {
        refused: Vec::new(),
        noted: unusual_typ.then_some("typ_spelling").into_iter().collect(),
    }
}

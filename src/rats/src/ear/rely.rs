//! A relying party's steps with a result, in their order: signature by the key that is pinned for this verifier, profile, times, nonce, the
//! verifier's name, the submodules and what they say (draft-ietf-rats-ear, section 8; RFC 9334 section 7.5).

use serde_json::{Map, Value};
use touchmark_crypto::{
    ct_eq,
    jose::{JoseAlg, JwkError, VerifyingKey, jws::Jws},
};

use super::{AttestationResult, Profile, Tier, VECTOR_CLAIMS};
use crate::{
    Check, Reason,
    eat::{self, ClaimsSet, bytes_of},
};

/// Seconds that clocks may differ by.
const LEEWAY: i64 = 30;
/// What whoever refuses a result suggests.
const REMEDY: &str = "ask the verifier for another result; look at what it knows of the host";

/// What has to be in a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// The profile that the verifier follows.
    pub profile: Profile,
    /// Whether a result may have no end.
    pub without_exp: bool,
    /// The developer in the verifier's identity; `None` for whatever the holder of its key says.
    pub developer: Option<String>,
    /// The submodules that decide; empty for all that there are.
    pub submodules: Vec<String>,
    /// Entries of the vector that each of them has to have, affirming: positions in [`VECTOR_CLAIMS`].
    pub vector: Vec<usize>,
}

/// The nonce that a result has to carry.
#[derive(Debug, Clone, Copy)]
pub enum Nonce<'a> {
    /// As it is.
    Text(&'a str),
    /// In base64, of either alphabet, with or without padding: verifiers differ.
    Bytes(&'a [u8]),
}

/// A result, judged.
#[derive(Debug, Clone)]
pub struct Relied {
    /// What was looked at, in order, up to what made the rest pointless.
    pub checks: Vec<Check>,
    /// The result, where it is this verifier's, and about this: what it says counts, for or against.
    pub heard: Option<AttestationResult>,
    /// The result, where its signature held.
    pub signed: Option<AttestationResult>,
}

impl Relied {
    /// The first check that failed.
    pub fn failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.reason().is_some())
    }
}

/// Judges a result, a compact JWS, by the key of the verifier that it is expected of. No key that comes with it is looked at.
pub fn rely(
    token: &str,
    key: &Map<String, Value>,
    demands: &Demands,
    nonce: Option<Nonce<'_>>,
    now: u64,
) -> Relied {
    let mut relied = Relied {
        checks: Vec::new(),
        heard: None,
        signed: None,
    };
    let result = match signed(token, key, demands.profile, &mut relied.checks) {
        Ok(result) => result,
        Err(check) => {
            relied.checks.push(check);
            return relied;
        }
    };
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let checks = &mut relied.checks;
    checks.push(times(&result, demands.without_exp, now));
    checks.extend(nonce.map(|nonce| fresh(&result, nonce)));
    checks.extend(demands.developer.as_deref().map(|own| named(&result, own)));
    if relied.failure().is_none() {
        relied.heard = Some(result.clone());
    }
    relied.checks.extend(says(&result, demands));
    relied.signed = Some(result);
    relied
}

fn refuse(name: &'static str, reason: Reason, expected: &str, found: impl Into<String>) -> Check {
    Check::failed(name, reason, expected, told(&found.into()), REMEDY)
}

/// Longest account of what a result says that is passed on, in characters.
const MAX_TOLD: usize = 500;

/// A result's own words: short, and of printable characters.
fn told(text: &str) -> String {
    let mut told: String = text.chars().take(MAX_TOLD).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_TOLD).is_some() {
        told.push_str(" ...");
    }
    told
}

/// The result, once its signature and its profile hold.
fn signed(
    token: &str,
    key: &Map<String, Value>,
    profile: Profile,
    checks: &mut Vec<Check>,
) -> Result<AttestationResult, Check> {
    let jws = Jws::parse_within(token.trim(), eat::MAX_CLAIMS).map_err(|error| {
        refuse(
            "ear.structure",
            Reason::Malformed,
            "a compact JWS",
            error.to_string(),
        )
    })?;
    let named = jws.header("alg").unwrap_or("none");
    let alg = JoseAlg::from_name(named).ok_or_else(|| {
        refuse(
            "ear.algorithm",
            Reason::AlgNotAllowed,
            "a signature algorithm",
            named,
        )
    })?;
    let key = VerifyingKey::for_alg(key, alg).map_err(|error| {
        let reason = match error {
            JwkError::Alg => Reason::AlgMismatch,
            _ => Reason::KeyUnavailable,
        };
        refuse(
            "ear.algorithm",
            reason,
            "an algorithm of the verifier's key",
            format!("{named}: {error}"),
        )
    })?;
    let payload = jws.verify_signature(&key).map_err(|error| {
        refuse(
            "ear.signature",
            Reason::SignatureInvalid,
            "the verifier's signature",
            error.to_string(),
        )
    })?;
    checks.push(Check::passed(
        "ear.signature",
        "verifies under the verifier's key",
    ));
    let read = ClaimsSet::from_json(payload).and_then(|claims| {
        claims.check()?;
        AttestationResult::read(&claims, profile)
    });
    let result = read.map_err(|error| refuse("ear.claims", error.reason, profile.uri(), error.what))?;
    checks.push(Check::passed("ear.claims", profile.uri()));
    Ok(result)
}

fn times(result: &AttestationResult, without_exp: bool, now: i64) -> Check {
    const NAME: &str = "ear.times";
    let begins = result.not_before.unwrap_or(i64::MIN).max(result.issued_at);
    match result.expires_at {
        Some(end) if end <= now - LEEWAY => refuse(
            NAME,
            Reason::Expired,
            "a result that has not ended",
            format!("it ended at {end}"),
        ),
        None if !without_exp => refuse(
            NAME,
            Reason::ClaimMissing,
            "a result that says when it ends",
            "no exp",
        ),
        _ if begins > now + LEEWAY => refuse(
            NAME,
            Reason::NotYetValid,
            "a result that holds already",
            format!("it is of {begins}"),
        ),
        _ => Check::passed(NAME, "holds"),
    }
}

fn fresh(result: &AttestationResult, nonce: Nonce<'_>) -> Check {
    const NAME: &str = "ear.nonce";
    let Some(found) = &result.nonce else {
        return refuse(NAME, Reason::NonceMissing, "the nonce that was given", "none");
    };
    let held = match nonce {
        Nonce::Text(text) => ct_eq(found, text.as_bytes()),
        Nonce::Bytes(bytes) => decoded(found).is_some_and(|found| ct_eq(&found, bytes)),
    };
    if held {
        Check::passed(NAME, "the one that was given")
    } else {
        refuse(NAME, Reason::NonceMismatch, "the nonce that was given", "another")
    }
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    bytes_of(&text.trim_end_matches('=').replace('+', "-").replace('/', "_"))
}

fn named(result: &AttestationResult, developer: &str) -> Check {
    const NAME: &str = "ear.verifier";
    let (found, build) = &result.verifier;
    if found == developer {
        Check::passed(NAME, format!("{found}, {build}"))
    } else {
        refuse(
            NAME,
            Reason::VerifierMismatch,
            developer,
            format!("{found}, {build}"),
        )
    }
}

/// What it says of the submodules that decide. Of the others, and of the whole, only the worst counts.
fn says(result: &AttestationResult, demands: &Demands) -> Vec<Check> {
    let mut checks = Vec::new();
    let all = demands.submodules.is_empty();
    let missing: Vec<&str> = demands
        .submodules
        .iter()
        .map(String::as_str)
        .filter(|name| result.submodules.iter().all(|one| one.name != *name))
        .collect();
    if !missing.is_empty() {
        let there: Vec<&str> = result.submodules.iter().map(|one| one.name.as_str()).collect();
        checks.push(refuse(
            "ear.submodules",
            Reason::ClaimMissing,
            &missing.join(", "),
            there.join(", "),
        ));
    }
    let decides = |name: &String| all || demands.submodules.contains(name);
    let fits = |status: Tier, decides: bool| match decides {
        true => status == Tier::Affirming,
        false => status != Tier::Contraindicated,
    };
    let mut wrong: Vec<String> = result
        .submodules
        .iter()
        .filter(|one| !fits(one.status, decides(&one.name)))
        .map(|one| format!("{}: {}", one.name, one.status.name()))
        .collect();
    if let Some(status) = result.status.filter(|status| !fits(*status, all)) {
        wrong.push(format!("the whole: {}", status.name()));
    }
    checks.push(if wrong.is_empty() {
        Check::passed("ear.status", "affirming")
    } else {
        refuse(
            "ear.status",
            Reason::ResultNotAffirming,
            "affirming",
            wrong.join(", "),
        )
    });
    let lacking: Vec<String> = result
        .submodules
        .iter()
        .filter(|one| decides(&one.name))
        .flat_map(|one| demands.vector.iter().map(move |at| (one, *at)))
        .filter_map(|(one, at)| {
            let entry = one
                .vector
                .iter()
                .find(|(found, _)| *found == at)
                .map(|(_, value)| *value);
            let found = match entry {
                Some(value) if Tier::of(value) == Tier::Affirming => return None,
                Some(value) => format!("{value}, {}", Tier::of(value).name()),
                None => "not there".to_owned(),
            };
            Some(format!(
                "{}: {} {found}",
                one.name,
                VECTOR_CLAIMS.get(at).unwrap_or(&"?")
            ))
        })
        .collect();
    if !lacking.is_empty() {
        checks.push(refuse(
            "ear.vector",
            Reason::ResultNotAffirming,
            "affirming entries",
            lacking.join(", "),
        ));
    } else if !demands.vector.is_empty() {
        checks.push(Check::passed("ear.vector", "what has to be there is affirming"));
    }
    checks
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use touchmark_crypto::{
        Purpose, Signer, SigningAlg, SoftwareKey,
        jose::{Jwk, b64u, jws},
    };

    use super::*;
    use crate::ear::PROFILE;

    const NOW: u64 = 1_800_000_000;
    const BIND: [u8; 32] = [0xfb; 32];

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
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let token = jws::sign("eat+jwt", None, claims, Purpose::AttestationResult, &key).unwrap();
        let jwk = Jwk::new(key.public_key().clone()).unwrap().to_json();
        let relied = rely(&token, &jwk, demands, Some(Nonce::Bytes(&BIND)), NOW);
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
        let relied = rely(&token, &jwk, &demands(), Some(Nonce::Bytes(&BIND)), NOW);
        assert_eq!(
            relied.failure().and_then(Check::reason),
            Some(Reason::SignatureInvalid)
        );
        assert!(relied.heard.is_none() && relied.signed.is_none());
        let cut = rely(&token[..token.len() / 2], &jwk, &demands(), None, NOW);
        assert_eq!(cut.failure().and_then(Check::reason), Some(Reason::Malformed));
    }
}

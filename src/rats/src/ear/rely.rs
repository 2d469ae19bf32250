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
fn remedy(name: &str, reason: Reason) -> &'static str {
    match (name, reason) {
        (_, Reason::WrongProfile) => {
            "read it by the profile that its verifier writes (--profile, or verifier.profile in server.toml)"
        }
        ("ear.times", Reason::ClaimMissing) => {
            "have the verifier say when its results end, or accept those without (--without-exp, or verifier.without_exp)"
        }
        ("ear.times", _) => "ask the verifier for a new result; look at both clocks",
        ("ear.nonce", _) => "a result counts for the question it answers: ask anew with a nonce of its own",
        ("ear.verifier" | "ear.submodules", _) => {
            "look at what is demanded of results, and at what this verifier says in them"
        }
        (_, Reason::KeyUnavailable | Reason::AlgMismatch | Reason::SignatureInvalid) => {
            "give the public key (JWK) of the verifier that signed it"
        }
        _ => "ask the verifier for another result; look at what it knows of the host",
    }
}

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

/// The key that the evidence was made with, SubjectPublicKeyInfo: a nonce says that some attester answered, this says which.
#[derive(Debug, Clone, Copy)]
pub enum EvidenceKey<'a> {
    /// Each submodule that decides has to name it.
    Demanded(&'a [u8]),
    /// Where one names a key, it has to be this.
    IfNamed(&'a [u8]),
}

/// What a result is held against beside what is demanded of every one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Occasion<'a> {
    /// The nonce that it has to carry.
    pub nonce: Option<Nonce<'a>>,
    /// The key behind the evidence.
    pub key: Option<EvidenceKey<'a>>,
    /// Now, seconds since the epoch.
    pub now: u64,
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
pub fn rely(token: &str, key: &Map<String, Value>, demands: &Demands, occasion: Occasion<'_>) -> Relied {
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
    let now = i64::try_from(occasion.now).unwrap_or(i64::MAX);
    let checks = &mut relied.checks;
    checks.push(times(&result, demands.without_exp, now));
    checks.extend(occasion.nonce.map(|nonce| fresh(&result, nonce)));
    checks.extend(demands.developer.as_deref().map(|own| named(&result, own)));
    let bound = occasion.key.map(|key| of_key(&result, demands, key));
    checks.extend(bound);
    if relied.failure().is_none() {
        relied.heard = Some(result.clone());
    }
    relied.checks.extend(says(&result, demands));
    relied.signed = Some(result);
    relied
}

fn refuse(name: &'static str, reason: Reason, expected: &str, found: impl Into<String>) -> Check {
    Check::failed(name, reason, expected, told(&found.into()), remedy(name, reason))
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
    if !is_of_results(&jws) {
        return Err(refuse(
            "ear.type",
            Reason::WrongTyp,
            "a token of no other kind than a result",
            jws.header("typ").unwrap_or("not text"),
        ));
    }
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

/// Whether a token may be a result by its `typ`: one that says nothing, or what any token or an entity attestation token is. A proof, or a
/// workload's identity, is something else, whoever signed it (RFC 8725 section 3.11).
pub fn is_of_results(token: &Jws<'_>) -> bool {
    const KNOWN: [&str; 4] = ["JWT", "eat+jwt", "eat-ucs+json", "ear+jwt"];
    token.header("typ").map_or(!token.has_header("typ"), |typ| {
        let bare = typ
            .get(..12)
            .filter(|prefix| prefix.eq_ignore_ascii_case("application/"));
        let name = if bare.is_some() {
            typ.get(12..).unwrap_or_default()
        } else {
            typ
        };
        KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
    })
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
    if result.nonces.is_empty() {
        return refuse(NAME, Reason::NonceMissing, "the nonce that was given", "none");
    }
    let is_it = |found: &Vec<u8>| match nonce {
        Nonce::Text(text) => ct_eq(found, text.as_bytes()),
        Nonce::Bytes(bytes) => decoded(found).is_some_and(|found| ct_eq(&found, bytes)),
    };
    if result.nonces.iter().any(is_it) {
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

/// Whether the submodules that decide are about evidence of this key.
fn of_key(result: &AttestationResult, demands: &Demands, key: EvidenceKey<'_>) -> Check {
    const NAME: &str = "ear.key";
    let (wanted, demanded) = match key {
        EvidenceKey::Demanded(key) => (key, true),
        EvidenceKey::IfNamed(key) => (key, false),
    };
    let decides = |name: &String| demands.submodules.is_empty() || demands.submodules.contains(name);
    let wrong = result
        .submodules
        .iter()
        .filter(|one| decides(&one.name))
        .find_map(|one| match &one.key {
            Some(found) if ct_eq(found, wanted) => None,
            Some(_) => Some(format!("{}: another key", one.name)),
            None => demanded.then(|| format!("{}: none", one.name)),
        });
    match wrong {
        None => Check::passed(NAME, "of the key behind the evidence, where it names one"),
        Some(found) => refuse(
            NAME,
            Reason::AttestationKeyMismatch,
            "the key behind the evidence (key attestation, akpub)",
            found,
        ),
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
mod tests;

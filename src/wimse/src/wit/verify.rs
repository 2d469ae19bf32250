//! Whom a token names, for whoever receives it (draft-ietf-wimse-workload-creds, section 5.1.4 of the next revision).

use serde_json::{Map, Value};
use touchmark_crypto::{
    jose::{JwkError, VerifyingKey, jws::Jws},
    sha256,
};
use touchmark_identity::{Scheme, WorkloadId};

use super::TYP;
use crate::{Issuers, TokenError, claims};

/// Seconds by which clocks may differ.
pub(crate) const LEEWAY: u64 = 60;

/// A token that was verified. It says whom its issuer named, and by which key that workload proves itself; a request that
/// carries it is that workload's only with a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedWit {
    identifier: WorkloadId,
    key: VerifyingKey,
    hash: [u8; 32],
    expires_at: u64,
    cmw: Option<Value>,
    typ_spelling: bool,
}

impl VerifiedWit {
    /// Whom it names.
    pub fn identifier(&self) -> &WorkloadId {
        &self.identifier
    }

    /// The key that proofs are made with.
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// SHA-256 of the token as it was sent: `wth` of its proofs.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// When it expires, seconds since the epoch.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// The attestation result, a CMW, where there is one.
    pub fn cmw(&self) -> Option<&Value> {
        self.cmw.as_ref()
    }

    /// Whether `typ` was spelt in another case than ours, which media types allow.
    pub fn has_unusual_typ(&self) -> bool {
        self.typ_spelling
    }

    /// Whether it holds at this time, for whoever keeps it over several requests.
    pub fn holds_at(&self, now: u64) -> bool {
        now < self.expires_at + LEEWAY
    }
}

/// Verifies a token: form, subject, type, key and algorithm, signature, times, key for proofs, issuer.
///
/// # Errors
///
/// The first check in that order that does not hold.
pub fn verify(token: &str, issuers: &Issuers, now: u64) -> Result<VerifiedWit, TokenError> {
    let jws = Jws::parse(token)?;
    // Before verification the subject only selects whose keys are asked.
    let unverified = jws.unverified_claims()?;
    let sub = claims::text(unverified.claims(), "sub")?.ok_or(TokenError::ClaimMissing("sub"))?;
    let (identifier, issuer) = issuers.select(sub)?;
    let typ_spelling = typ(jws.header("typ"), TYP)?;
    let key = issuer.key(jws.header("kid"))?;
    if !issuer.algorithms.contains(&key.alg()) {
        return Err(TokenError::AlgNotAllowed);
    }
    let claims = unverified.verify_by(key)?;
    let expires_at = claims::time(&claims, "exp")?.ok_or(TokenError::ClaimMissing("exp"))?;
    if expires_at + LEEWAY <= now {
        return Err(TokenError::Expired);
    }
    if claims::time(&claims, "nbf")?.is_some_and(|begin| begin > now + LEEWAY) {
        return Err(TokenError::NotYetValid);
    }
    // When it was issued is for audit; a clock that is a little ahead there is no reason to refuse.
    claims::time(&claims, "iat")?;
    claims::text(&claims, "jti")?;
    // Where the domain is SPIFFE's its form of the token holds as well, which has no audience.
    if *identifier.trust_domain().scheme() == Scheme::Spiffe && claims.contains_key("aud") {
        return Err(TokenError::ClaimInvalid("aud"));
    }
    let key = confirmation(&claims)?;
    if !issuer.algorithms.contains(&key.alg()) {
        return Err(TokenError::AlgNotAllowed);
    }
    if expires_at > now.saturating_add(issuer.max_lifetime) {
        return Err(TokenError::LifetimeTooLong);
    }
    if let (Some(iss), Some(allowed)) = (claims::text(&claims, "iss")?, &issuer.issuers)
        && !allowed.iter().any(|allowed| allowed == iss)
    {
        return Err(TokenError::IssuerNotAllowed);
    }
    Ok(VerifiedWit {
        identifier,
        key,
        hash: sha256(&[token.as_bytes()]),
        expires_at,
        cmw: claims.get("cmw").cloned(),
        typ_spelling,
    })
}

/// Whether `typ` is the one that is wanted, and whether it was spelt in another way: media types compare without regard to
/// case, and the prefix may be there (RFC 7515 section 4.1.9).
pub(crate) fn typ(found: Option<&str>, wanted: &str) -> Result<bool, TokenError> {
    let found = found.ok_or(TokenError::WrongTyp)?;
    let bare = match found.split_once('/') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("application") => rest,
        _ => found,
    };
    if bare.eq_ignore_ascii_case(wanted) {
        Ok(found != wanted)
    } else {
        Err(TokenError::WrongTyp)
    }
}

fn confirmation(claims: &Map<String, Value>) -> Result<VerifyingKey, TokenError> {
    let jwk = match claims.get("cnf") {
        None => return Err(TokenError::CnfMissing),
        Some(Value::Object(cnf)) => cnf.get("jwk").ok_or(TokenError::CnfMissing)?,
        Some(_) => return Err(TokenError::CnfInvalid),
    };
    let jwk = jwk.as_object().ok_or(TokenError::CnfInvalid)?;
    VerifyingKey::from_jwk(jwk).map_err(|error| match error {
        JwkError::Private => TokenError::CnfPrivateMaterial,
        JwkError::NoAlg => TokenError::CnfAlgMissing,
        JwkError::Alg | JwkError::Key => TokenError::CnfInvalid,
    })
}

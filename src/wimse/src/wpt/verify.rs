//! Whether a proof is one for this request (draft-ietf-wimse-wpt-02; -01 by configuration).

use serde_json::Value;
use touchmark_crypto::{
    ct_eq,
    jose::{JoseAlg, b64u_decode, jws::Jws},
    sha256,
};

use super::{Carried, MAX_LIFETIME, Profile, Replays, TYP};
use crate::{
    TokenError, claims,
    wit::{LEEWAY, VerifiedWit, typ},
};

/// What this service expects of proofs. Authorities come from configuration, never from a `Host` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// URIs that this request may be addressed to, without query and fragment; compared as strings.
    pub audiences: Vec<String>,
    /// Longest life of a proof in seconds, from now.
    pub max_lifetime: u64,
    /// How proofs are carried.
    pub profile: Profile,
}

impl Expected {
    /// One audience, proofs of at most five minutes, carried as in the current draft.
    pub fn at(audience: impl Into<String>) -> Self {
        Self {
            audiences: vec![audience.into()],
            max_lifetime: MAX_LIFETIME,
            profile: Profile::default(),
        }
    }
}

/// A proof that was verified for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedProof {
    typ_spelling: bool,
}

impl VerifiedProof {
    /// Whether `typ` was spelt in another case than ours, which media types allow.
    pub fn has_unusual_typ(&self) -> bool {
        self.typ_spelling
    }
}

/// Verifies the proof of a request whose token was verified, and notes it.
///
/// # Errors
///
/// The first check in the order of the text that does not hold.
pub fn verify(
    carried: &Carried<'_>,
    wit: &VerifiedWit,
    expected: &Expected,
    replays: &mut Replays,
    now: u64,
) -> Result<VerifiedProof, TokenError> {
    let jws = Jws::parse(carried.proof)?;
    match jws.header("alg").map(JoseAlg::from_name) {
        // None, none, of a MAC, or unknown.
        None | Some(None) => return Err(TokenError::AlgNotAllowed),
        Some(Some(alg)) if alg != wit.key().alg() => return Err(TokenError::AlgMismatch),
        _ => {}
    }
    let claims = jws.verify_by(wit.key())?;
    let typ_spelling = typ(jws.header("typ"), TYP)?;
    audience(claims.get("aud"), expected)?;
    let expires_at = claims::time(&claims, "exp")?.ok_or(TokenError::ClaimMissing("exp"))?;
    if expires_at + LEEWAY <= now {
        return Err(TokenError::Expired);
    }
    if expires_at > now.saturating_add(expected.max_lifetime).saturating_add(LEEWAY) {
        return Err(TokenError::LifetimeTooLong);
    }
    if claims::time(&claims, "nbf")?.is_some_and(|begin| begin > now + LEEWAY) {
        return Err(TokenError::NotYetValid);
    }
    claims::time(&claims, "iat")?;
    let wth = claims::text(&claims, "wth")?.ok_or(TokenError::ClaimMissing("wth"))?;
    // The token that this proof is for, and the one whose verification is at hand, are the one that came along.
    let arrived = sha256(&[carried.wit.as_bytes()]);
    if !is_hash(wth, &arrived) || !ct_eq(&arrived, &wit.hash()) {
        return Err(TokenError::WthMismatch);
    }
    let id = claims::text(&claims, "jti")?.ok_or(TokenError::ClaimMissing("jti"))?;
    if id.is_empty() || id.len() > 256 {
        return Err(TokenError::ClaimInvalid("jti"));
    }
    companion(
        claims::text(&claims, "tth")?,
        carried.transaction,
        TokenError::TthMissing,
        TokenError::TthMismatch,
    )?;
    match expected.profile {
        Profile::Wpt01 => companion(
            claims::text(&claims, "ath")?,
            carried.access,
            TokenError::AthMissing,
            TokenError::AthMismatch,
        )?,
        // No access token can come along, so a proof that names one is for another request.
        Profile::Wpt02 if claims.contains_key("ath") => return Err(TokenError::AthMismatch),
        Profile::Wpt02 => {}
    }
    // Every entry has to be understood, and none is.
    match claims.get("oth") {
        None => {}
        Some(Value::Object(others)) if others.is_empty() => {}
        Some(_) => return Err(TokenError::OthMismatch),
    }
    replays.note(wit.key().thumbprint(), id, expires_at + LEEWAY, now)?;
    Ok(VerifiedProof { typ_spelling })
}

/// One audience, ours, query and fragment aside. A list could be shown to everybody on it.
fn audience(aud: Option<&Value>, expected: &Expected) -> Result<(), TokenError> {
    let aud = match aud {
        None => return Err(TokenError::ClaimMissing("aud")),
        Some(Value::String(aud)) => aud,
        Some(Value::Array(_)) => return Err(TokenError::AudienceArray),
        Some(_) => return Err(TokenError::ClaimInvalid("aud")),
    };
    let end = aud.find(['?', '#']).unwrap_or(aud.len());
    let bare = aud.get(..end).unwrap_or(aud);
    if expected.audiences.iter().any(|wanted| wanted == bare) {
        Ok(())
    } else {
        Err(TokenError::AudienceMismatch)
    }
}

/// A token beside the WIT is named by its hash; a hash without a token is for another request.
fn companion(
    hash: Option<&str>,
    token: Option<&str>,
    missing: TokenError,
    mismatch: TokenError,
) -> Result<(), TokenError> {
    match (hash, token) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(missing),
        (Some(hash), Some(token)) if is_hash(hash, &sha256(&[token.as_bytes()])) => Ok(()),
        (Some(_), _) => Err(mismatch),
    }
}

fn is_hash(text: &str, hash: &[u8; 32]) -> bool {
    b64u_decode(text).is_ok_and(|found| ct_eq(&found, hash))
}

//! Bare JWS, and messages in COSE.

use serde_json::{Map, Value};
use touchmark_crypto::{
    CryptoError,
    cose::{Certificates, CoseError, CoseMessage},
    jose::{JoseAlg, JwkError, VerifyingKey, json, jws::Jws},
    x509::{DeviceCertificate, Habits},
};
use touchmark_rats::Reason;

use super::{case::Case, certificates, finding::Finding};

/// Longest JWS, in bytes: reports with their certificates are longer than tokens.
const MAX_JWS: usize = 1 << 20;

pub(super) fn jws(case: &Case) -> Result<Finding, String> {
    let bytes = case.file("jws")?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(Finding::refused(Reason::Malformed));
    };
    let compact = match compact(text.trim()) {
        Ok(compact) => compact,
        Err(reason) => return Ok(Finding::refused(reason)),
    };
    let jws = match Jws::parse_within(&compact, MAX_JWS) {
        Ok(jws) => jws,
        Err(error) => return Ok(Finding::refused(reason(&error))),
    };
    let Some(alg) = jws.header("alg").and_then(JoseAlg::from_name) else {
        return Ok(Finding::refused(Reason::AlgNotAllowed));
    };
    if !allowed(case).is_none_or(|allowed| allowed.contains(&alg)) {
        return Ok(Finding::refused(Reason::AlgNotAllowed));
    }
    let key = match case.optional("key_jwk")? {
        Some(jwk) => pinned(&jwk, alg),
        None => carried(case, &jws, alg)?,
    };
    let key = match key {
        Ok(key) => key,
        Err(finding) => return Ok(finding),
    };
    let mut finding = match jws.verify_signature(&key) {
        Ok(_) => Finding::default(),
        Err(error) => Finding::refused(reason(&error)),
    };
    // A certificate chain is what was asked for where no key is pinned.
    let pinned = case.optional("key_jwk")?;
    let embedded: &[&str] = if pinned.is_some() {
        &["jwk", "jku", "x5u", "x5c"]
    } else {
        &["jwk", "jku", "x5u"]
    };
    if embedded.iter().any(|name| jws.has_header(name)) {
        finding.note(Reason::EmbeddedKey);
    }
    if let Some(jwk) = pinned {
        kid(&jws, &jwk, &mut finding);
    }
    Ok(finding)
}

/// A name of a key that is not that of the one that is pinned: which does not matter where there is one key.
pub(super) fn kid(jws: &Jws<'_>, jwk: &[u8], finding: &mut Finding) {
    let own = json::object(jwk).ok();
    let own = own.as_ref().and_then(|jwk| jwk.get("kid")?.as_str());
    if let (Some(own), Some(kid)) = (own, jws.header("kid"))
        && own != kid
    {
        finding.note(Reason::KidUnknown);
    }
}

/// Whether a pinned key is on Ed448, which the cryptographic provider does not have (docs/VECTORS.md).
pub(super) fn needs_ed448(case: &Case) -> Result<bool, String> {
    let keys = case.files("key_jwk")?;
    Ok(keys.iter().any(|jwk| {
        json::object(jwk).is_ok_and(|jwk| jwk.get("crv").and_then(Value::as_str) == Some("Ed448"))
    }))
}

/// The compact form of a JWS; the flattened JSON form is turned into it (RFC 7515 section 7.2.2).
fn compact(text: &str) -> Result<String, Reason> {
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let object = json::object(text.as_bytes()).map_err(|error| reason(&error))?;
    // The general form has signatures, this one a signature, and nothing both (RFC 7515 section 7.2.2).
    if object.contains_key("signatures") {
        return Err(Reason::Malformed);
    }
    let part = |name: &str| object.get(name).and_then(Value::as_str).ok_or(Reason::Malformed);
    let unprotected = object.get("header").map(Value::as_object);
    if let Some(unprotected) = unprotected {
        // What is not signed is not looked at, but a name must not stand in both headers.
        let unprotected = unprotected.ok_or(Reason::Malformed)?;
        // What is critical has to be signed.
        if ["crit", "b64"].iter().any(|name| unprotected.contains_key(*name)) {
            return Err(Reason::UnsupportedCrit);
        }
        // Nothing is signed besides the payload.
        if !object.contains_key("protected") && unprotected.contains_key("alg") {
            return Err(Reason::AlgUnprotected);
        }
        let protected =
            touchmark_crypto::jose::b64u_decode(part("protected")?).map_err(|_| Reason::Malformed)?;
        let protected = json::object(&protected).map_err(|error| reason(&error))?;
        if unprotected.keys().any(|name| protected.contains_key(name)) {
            return Err(Reason::DuplicateMember);
        }
        if !protected.contains_key("alg") && unprotected.contains_key("alg") {
            return Err(Reason::AlgUnprotected);
        }
    }
    Ok([part("protected")?, part("payload")?, part("signature")?].join("."))
}

pub(super) fn reason(error: &CryptoError) -> Reason {
    match error {
        CryptoError::Critical => Reason::UnsupportedCrit,
        CryptoError::DuplicateMember(_) => Reason::DuplicateMember,
        CryptoError::AlgNotAllowed(_) => Reason::AlgMismatch,
        CryptoError::SignatureInvalid => Reason::SignatureInvalid,
        CryptoError::KeyNotAccepted(_) => Reason::KeyInvalid,
        _ => Reason::Malformed,
    }
}

/// The algorithms that the relying party allows, where it says.
pub(super) fn allowed(case: &Case) -> Option<Vec<JoseAlg>> {
    let names = case.demands("allowed_algs")?.as_array()?;
    Some(
        names
            .iter()
            .filter_map(|name| JoseAlg::from_name(name.as_str()?))
            .collect(),
    )
}

/// A key that the relying party pinned.
pub(super) fn pinned(jwk: &[u8], alg: JoseAlg) -> Result<VerifyingKey, Finding> {
    let jwk: Map<String, Value> = json::object(jwk).map_err(|_| Finding::refused(Reason::KeyInvalid))?;
    VerifyingKey::for_alg(&jwk, alg).map_err(|error| {
        Finding::refused(match error {
            JwkError::Alg | JwkError::NoAlg => Reason::AlgMismatch,
            JwkError::Private | JwkError::Key => Reason::KeyInvalid,
        })
    })
}

/// The key of the certificate chain in `x5c` (RFC 7515 section 4.1.6), if it leads to the root that the relying party pinned.
fn carried(case: &Case, jws: &Jws<'_>, alg: JoseAlg) -> Result<Result<VerifyingKey, Finding>, String> {
    let Some(chain) = jws.chain() else {
        return Ok(Err(Finding::refused(Reason::KeyUnavailable)));
    };
    let Ok(chain) = chain else {
        return Ok(Err(Finding::refused(Reason::Malformed)));
    };
    certified(case, &chain, alg)
}

/// The key of the first certificate of a chain.
fn certified(case: &Case, chain: &[Vec<u8>], alg: JoseAlg) -> Result<Result<VerifyingKey, Finding>, String> {
    let Some((leaf, rest)) = chain.split_first() else {
        return Ok(Err(Finding::refused(Reason::KeyUnavailable)));
    };
    let anchors = match certificates::anchors(case)? {
        Ok(anchors) => anchors,
        Err(finding) => return Ok(Err(finding)),
    };
    let mut found = certificates::path(leaf, rest, &anchors, Habits::NONE, case.time_or_now()?);
    if !found.refused.is_empty() {
        if anchors.is_empty() {
            found.refuse(Reason::KeyUnavailable);
        }
        return Ok(Err(found));
    }
    let Ok(certificate) = DeviceCertificate::parse(leaf) else {
        return Ok(Err(Finding::refused(Reason::Malformed)));
    };
    // A certificate for something else than signatures certifies no signer (RFC 5280 section 4.2.1.3).
    if !certificate.may_sign() {
        return Ok(Err(Finding::refused(Reason::KeyInvalid)));
    }
    let key = VerifyingKey::of_certificate(&certificate.facts.spki, alg);
    Ok(key.map_err(|error| {
        Finding::refused(match error {
            JwkError::Key | JwkError::Private => Reason::KeyInvalid,
            JwkError::Alg | JwkError::NoAlg => Reason::AlgMismatch,
        })
    }))
}

pub(super) fn sign1(case: &Case) -> Result<Finding, String> {
    let bytes = case.file("cose")?;
    let message = match CoseMessage::parse_in_context(&bytes) {
        Ok(message) => message,
        Err(error) => return Ok(Finding::refused(cose_reason(&error))),
    };
    let aad = case.bytes("external_aad")?.unwrap_or_default();
    let detached = case.optional("detached_payload")?;
    let verified = verify(case, &message, "key_jwk", &aad, detached.as_deref())?;
    let mut finding = match verified {
        Ok(_) => Finding::default(),
        Err(finding) => finding,
    };
    if !message.is_deterministic() {
        finding.note(Reason::CborNotDeterministic);
    }
    // Who asks knows what it is; that it does not say so itself is worth knowing.
    if !message.is_tagged() {
        finding.note(Reason::WrongType);
    }
    Ok(finding)
}

/// Checks a message under one of the keys of a role, or under the certificate that came along; gives out the payload.
pub(super) fn verify<'a>(
    case: &Case,
    message: &'a CoseMessage,
    role: &str,
    aad: &[u8],
    detached: Option<&'a [u8]>,
) -> Result<Result<&'a [u8], Finding>, String> {
    let jwks = case.files(role)?;
    let mut keys: Vec<Result<VerifyingKey, Finding>> =
        jwks.iter().map(|jwk| pinned(jwk, message.alg())).collect();
    if keys.is_empty() {
        match message.certificates() {
            None => {}
            Some(Certificates::Chain(chain)) => keys.push(certified(case, &chain, message.alg())?),
            // In a bag the order says nothing: each certificate may be the signer's.
            Some(Certificates::Bag(bag)) => {
                for at in 0..bag.len() {
                    let mut turned = bag.clone();
                    turned.rotate_left(at);
                    keys.push(certified(case, &turned, message.alg())?);
                }
            }
        }
    }
    if keys.is_empty() {
        return Ok(Err(Finding::refused(Reason::KeyUnavailable)));
    }
    let mut telling = Finding::default();
    for key in keys {
        let verified = key.and_then(|key| {
            message
                .verify(&key, aad, detached)
                .map_err(|error| Finding::refused(cose_reason(&error)))
        });
        match verified {
            Ok(payload) => return Ok(Ok(payload)),
            Err(finding) => telling.extend(finding),
        }
    }
    Ok(Err(telling))
}

pub(super) fn cose_reason(error: &CoseError) -> Reason {
    match error {
        CoseError::Malformed(_) => Reason::Malformed,
        CoseError::WrongTag => Reason::WrongType,
        CoseError::DuplicateLabel => Reason::DuplicateMember,
        CoseError::Critical => Reason::UnsupportedCrit,
        CoseError::AlgUnprotected => Reason::AlgUnprotected,
        CoseError::AlgNotAllowed => Reason::AlgNotAllowed,
        CoseError::AlgMismatch => Reason::AlgMismatch,
        CoseError::KeyInvalid => Reason::KeyInvalid,
        CoseError::PayloadMissing => Reason::PayloadMissing,
        CoseError::SignatureInvalid => Reason::SignatureInvalid,
    }
}

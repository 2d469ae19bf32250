//! Attestation results, claims sets and wrappers.

use touchmark_crypto::{
    cose::{ContentType, CoseMessage},
    jose::{JoseAlg, jws::Jws},
    x509::DeviceCertificate,
};
use touchmark_rats::{
    Reason,
    cmw::{self, Cmw, CmwError},
    ear::{AttestationResult, Profile, is_of_results},
    eat::{self, ClaimsError, ClaimsSet},
};

use super::{
    case::Case,
    finding::Finding,
    jose::{self, allowed, pinned},
};

/// Seconds that clocks may differ by.
const LEEWAY: i64 = 30;
/// The profile of results by the manifests' name of it.
pub(super) fn profile(name: &str) -> Option<Profile> {
    match name {
        "ear-03" => Some(Profile::Ear03),
        "ear-veraison" => Some(Profile::Veraison),
        "ear-trustee" => Some(Profile::Trustee),
        _ => None,
    }
}

/// A signed result, in the relying party's order: signature, profile, times, status.
pub(super) fn ear(case: &Case, profile: Profile) -> Result<Finding, String> {
    let bytes = case.file("ear")?;
    let text = String::from_utf8_lossy(&bytes);
    let jws = match Jws::parse_within(text.trim(), eat::MAX_CLAIMS) {
        Ok(jws) => jws,
        Err(error) => return Ok(Finding::refused(jose::reason(&error))),
    };
    let Some(alg) = jws.header("alg").and_then(JoseAlg::from_name) else {
        return Ok(Finding::refused(Reason::AlgNotAllowed));
    };
    if allowed(case).is_some_and(|allowed| !allowed.contains(&alg)) {
        return Ok(Finding::refused(Reason::AlgNotAllowed));
    }
    if !is_of_results(&jws) {
        return Ok(Finding::refused(Reason::WrongTyp));
    }
    let Some(jwk) = case.optional("verifier_jwk")? else {
        return Ok(Finding::refused(Reason::KeyUnavailable));
    };
    let key = match pinned(&jwk, alg) {
        Ok(key) => key,
        Err(finding) => return Ok(finding),
    };
    let mut finding = match jws.verify_signature(&key) {
        Err(error) => Finding::refused(jose::reason(&error)),
        Ok(payload) => judge(case, payload, profile)?,
    };
    if ["jwk", "jku", "x5u", "x5c"]
        .iter()
        .any(|name| jws.has_header(name))
    {
        finding.note(Reason::EmbeddedKey);
    }
    jose::kid(&jws, &jwk, &mut finding);
    Ok(finding)
}

fn judge(case: &Case, payload: &[u8], profile: Profile) -> Result<Finding, String> {
    let read = ClaimsSet::from_json(payload).and_then(|claims| {
        claims.check()?;
        AttestationResult::read(&claims, profile)
    });
    let result = match read {
        Ok(result) => result,
        Err(error) => return Ok(Finding::refused(error.reason)),
    };
    let now = i64::try_from(case.time()?).unwrap_or(i64::MAX);
    let mut finding = Finding::default();
    match result.expires_at {
        Some(end) if end <= now - LEEWAY => finding.refuse(Reason::Expired),
        None if case.demands("require_exp") != Some(&false.into()) => finding.refuse(Reason::ClaimMissing),
        _ => {}
    }
    if result.issued_at > now + LEEWAY || result.not_before.is_some_and(|begin| begin > now + LEEWAY) {
        finding.refuse(Reason::NotYetValid);
    }
    if !result.is_affirming() {
        if case.demands("require_affirming") == Some(&false.into()) {
            finding.note(Reason::ResultNotAffirming);
        } else {
            finding.refuse(Reason::ResultNotAffirming);
        }
    }
    Ok(finding)
}

/// The claims of a result, unsigned.
pub(super) fn ear_claims(case: &Case, profile: Profile) -> Result<Finding, String> {
    let claims = match case.optional("claims_json")? {
        Some(json) => ClaimsSet::from_json(&json),
        None => ClaimsSet::from_cbor(&case.file("claims_cbor")?),
    };
    let read = claims.and_then(|claims| {
        claims.check()?;
        AttestationResult::read(&claims, profile)
    });
    Ok(match read {
        Ok(result) if result.is_affirming() => Finding::default(),
        Ok(_) => {
            let mut finding = Finding::default();
            finding.note(Reason::ResultNotAffirming);
            finding
        }
        Err(error) => Finding::refused(error.reason),
    })
    .and_then(|finding| with_form(case, "claims_cbor", finding))
}

/// The same, with a note where a document is well-formed CBOR and not in its deterministic form.
pub(super) fn with_form(case: &Case, role: &str, mut finding: Finding) -> Result<Finding, String> {
    let document = case.optional(role)?;
    let shape = document.and_then(|bytes| touchmark_crypto::cbor::shape(&bytes).ok());
    if shape.is_some_and(|shape| !shape.deterministic) {
        finding.note(Reason::CborNotDeterministic);
    }
    Ok(finding)
}

pub(super) fn eat_claims(case: &Case) -> Result<Finding, String> {
    let json = case.optional("claims_json")?;
    let checked: Result<(), ClaimsError> = match &json {
        Some(json) => ClaimsSet::from_json(json).and_then(|claims| claims.check()),
        None => eat::check_document(&case.file("claims_cbor")?),
    };
    let mut finding = checked.map_or_else(|error| Finding::refused(error.reason), |()| Finding::default());
    let claims = match json {
        Some(json) => ClaimsSet::from_json(&json),
        None => ClaimsSet::from_cbor(&case.file("claims_cbor")?),
    };
    if claims.is_ok_and(|claims| claims.bare_versions().next().is_some()) {
        finding.note(Reason::ClaimInvalid);
    }
    with_form(case, "claims_cbor", finding)
}

pub(super) fn wrapper(case: &Case) -> Result<Finding, String> {
    let finding = of(&Cmw::parse(&case.file("cmw")?));
    with_form(case, "cmw", finding)
}

/// A wrapper in COSE: content type, signature, and what is in it.
pub(super) fn signed_wrapper(case: &Case) -> Result<Finding, String> {
    let bytes = case.file("cmw")?;
    signed(case, &bytes, "application/cmw+cbor", |_, payload| {
        of(&Cmw::from_cbor(payload))
    })
}

/// A COSE_Sign1 of a content type, signed by the signer that is pinned.
pub(super) fn signed(
    case: &Case,
    bytes: &[u8],
    media_type: &str,
    judge: impl FnOnce(&CoseMessage, &[u8]) -> Finding,
) -> Result<Finding, String> {
    let message = match CoseMessage::parse(bytes) {
        Ok(message) => message,
        Err(error) => return Ok(Finding::refused(jose::cose_reason(&error))),
    };
    if message.content_type() != Some(&ContentType::Media(media_type.to_owned())) {
        return Ok(Finding::refused(Reason::WrongContentType));
    }
    Ok(match jose::verify(case, &message, "signer_jwk", &[], None)? {
        Ok(payload) => judge(&message, payload),
        Err(finding) => finding,
    })
}

/// A wrapper in the extension of a certificate, which nobody is asked to vouch for here.
pub(super) fn certificate(case: &Case) -> Result<Finding, String> {
    let found = case.certificates("certificate")?.into_iter().next();
    let der = found.ok_or("there is no file of role certificate")?;
    let Ok(certificate) = DeviceCertificate::parse(&der) else {
        return Ok(Finding::refused(Reason::Malformed));
    };
    let Some(value) = certificate.facts.extension(cmw::EXTENSION) else {
        return Ok(Finding::refused(Reason::ClaimMissing));
    };
    let now = i64::try_from(case.time_or_now()?).unwrap_or(i64::MAX);
    let mut finding = of(&cmw::read_extension(value));
    if certificate.facts.is_critical(cmw::EXTENSION) {
        finding.note(Reason::ClaimInvalid);
    }
    if now < certificate.facts.not_before || now > certificate.facts.not_after {
        finding.refuse(Reason::CertExpired);
    }
    Ok(finding)
}

fn of(read: &Result<Cmw, CmwError>) -> Finding {
    match read {
        Ok(_) => Finding::default(),
        Err(CmwError::Malformed(_)) => Finding::refused(Reason::Malformed),
        Err(CmwError::Duplicate) => Finding::refused(Reason::DuplicateMember),
    }
}

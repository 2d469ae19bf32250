//! Workload identity tokens (draft-ietf-wimse-workload-creds): a JWS that names a workload and is bound to its key.

mod verify;

use serde::Serialize;
use serde_json::{Map, Value};
use touchmark_crypto::{
    PublicKey, Purpose, SignError, Signer, SigningAlg,
    jose::{Jwk, b64u, jws},
};
use touchmark_identity::{TrustDomain, WorkloadId};

pub(crate) use verify::{LEEWAY, typ};
pub use verify::{VerifiedWit, verify};

/// The JOSE `typ`.
pub const TYP: &str = "wit+jwt";

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Wit<'a> {
    /// The identifier: `sub`.
    pub identifier: &'a WorkloadId,
    /// The workload's key: `cnf.jwk`.
    pub key: &'a Jwk,
    /// The attestation result: `cmw`.
    pub cmw: &'a Value,
    /// When it is issued, seconds since the epoch.
    pub issued_at: u64,
    /// When it expires.
    pub expires_at: u64,
    /// 16 random bytes: `jti`.
    pub id: [u8; 16],
}

/// The claims as they are written.
#[derive(Serialize)]
struct Claims<'a> {
    iss: String,
    sub: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    cnf: Confirmation,
    cmw: &'a Value,
}

#[derive(Serialize)]
struct Confirmation {
    jwk: Map<String, Value>,
}

/// Mints a token. `aud` is never set; `iss` is the trust domain, for audit only.
pub fn mint(wit: &Wit<'_>, kid: &str, signer: &dyn Signer) -> Result<String, SignError> {
    let claims = Claims {
        iss: wit.identifier.trust_domain().to_string(),
        sub: wit.identifier.as_str(),
        iat: wit.issued_at,
        exp: wit.expires_at,
        jti: b64u(&wit.id),
        cnf: Confirmation {
            jwk: wit.key.to_json(),
        },
        cmw: wit.cmw,
    };
    jws::sign(TYP, Some(kid), &claims, Purpose::Wit, signer)
}

/// Why a token that was just received is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAsAsked(&'static str);

/// What a received token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The identifier.
    pub identifier: WorkloadId,
    /// When it expires, seconds since the epoch.
    pub expires_at: u64,
}

/// Checks a token that a holder received for `key` from its own credential service, against the service's signing keys
/// by `kid`: type, signature, subject, expiry and binding. This is the holder's check of its own credential.
pub fn check_received(
    token: &str,
    key: &PublicKey,
    trust_domain: &TrustDomain,
    anchors: &[(String, PublicKey)],
    now: u64,
) -> Result<Received, NotAsAsked> {
    let jws = jws::Jws::parse(token).map_err(|_| NotAsAsked("not a compact JWS"))?;
    if jws.header("typ") != Some(TYP) {
        return Err(NotAsAsked("typ is not wit+jwt"));
    }
    let kid = jws.header("kid").ok_or(NotAsAsked("no kid"))?;
    let anchor = anchors
        .iter()
        .find(|(id, _)| id == kid)
        .ok_or(NotAsAsked("kid is not in the bundle"))?;
    let alg = SigningAlg::for_key(anchor.1.kind()).ok_or(NotAsAsked("key in the bundle does not sign"))?;
    let claims = jws
        .verify(&anchor.1, alg)
        .map_err(|_| NotAsAsked("signature does not verify"))?;
    let identifier = claims
        .get("sub")
        .and_then(Value::as_str)
        .and_then(|sub| trust_domain.workload(sub).ok())
        .ok_or(NotAsAsked("sub is not an identifier of this trust domain"))?;
    let expires_at = claims
        .get("exp")
        .and_then(Value::as_u64)
        .ok_or(NotAsAsked("no exp"))?;
    if expires_at <= now {
        return Err(NotAsAsked("expired"));
    }
    let bound = claims
        .get("cnf")
        .and_then(|cnf| cnf.get("jwk"))
        .and_then(Value::as_object);
    let bound = bound
        .and_then(|jwk| Jwk::from_json(jwk).ok())
        .ok_or(NotAsAsked("no usable cnf.jwk"))?;
    if bound.key() != key {
        return Err(NotAsAsked("bound to another key"));
    }
    Ok(Received {
        identifier,
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use touchmark_crypto::SoftwareKey;

    use super::*;

    #[test]
    fn a_token_is_bound_to_its_key_and_issuer() {
        let key = || SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let (issuer, workload, other) = (key(), key(), key());
        let identifier = WorkloadId::parse("spiffe://example.org/api").unwrap();
        let jwk = Jwk::new(workload.public_key().clone()).unwrap();
        let wit = Wit {
            identifier: &identifier,
            key: &jwk,
            cmw: &json!(["application/eat-ucs+json", "e30"]),
            issued_at: 1_000,
            expires_at: 2_000,
            id: [1; 16],
        };
        let token = mint(&wit, "k1", &issuer).unwrap();
        let anchors = [("k1".to_owned(), issuer.public_key().clone())];
        let received = check_received(
            &token,
            workload.public_key(),
            identifier.trust_domain(),
            &anchors,
            1_500,
        );
        let received = received.unwrap();
        assert_eq!(received.identifier, identifier);
        let refused = |key: &PublicKey, anchors: &[(String, PublicKey)], now| {
            check_received(&token, key, identifier.trust_domain(), anchors, now)
                .unwrap_err()
                .0
        };
        assert_eq!(
            refused(other.public_key(), &anchors, 1_500),
            "bound to another key"
        );
        assert_eq!(refused(workload.public_key(), &anchors, 2_000), "expired");
        assert_eq!(
            refused(workload.public_key(), &[], 1_500),
            "kid is not in the bundle"
        );
        let wrong = [("k1".to_owned(), other.public_key().clone())];
        assert_eq!(
            refused(workload.public_key(), &wrong, 1_500),
            "signature does not verify"
        );
    }
}

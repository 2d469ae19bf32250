//! Which keys speak for which trust domain: configured, never taken from a token.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use touchmark_crypto::jose::{JoseAlg, VerifyingKey};
use touchmark_identity::{IdentifierClass, TrustDomain, WorkloadId};

use crate::TokenError;

/// The issuer of one trust domain: its keys, what it may sign with, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Keys by `kid`; one without is chosen where a token names none and there is no other.
    pub keys: Vec<(Option<String>, VerifyingKey)>,
    /// Algorithms accepted, of this issuer and of the keys that its tokens name.
    pub algorithms: Vec<JoseAlg>,
    /// Values of `iss` that are accepted where a token has one; `None`: `iss` is not looked at.
    pub issuers: Option<Vec<String>>,
    /// Longest life of a token in seconds, from now.
    pub max_lifetime: u64,
}

impl Issuer {
    /// An issuer with the keys of a trust bundle (SPIFFE Trust Domain and Bundle, section 4), P-256 and P-384 only, tokens of
    /// at most a day.
    pub fn from_jwks(jwks: &Map<String, Value>) -> Self {
        Self {
            keys: crate::bundle::wit_keys(jwks)
                .into_iter()
                .filter_map(|(kid, key)| Some((Some(kid), VerifyingKey::new(key).ok()?)))
                .collect(),
            algorithms: vec![JoseAlg::Es256, JoseAlg::Es384],
            issuers: None,
            max_lifetime: 24 * 3600 + 300,
        }
    }

    /// The key that a token's header names.
    pub(crate) fn key(&self, kid: Option<&str>) -> Result<&VerifyingKey, TokenError> {
        let found = match kid {
            Some(kid) => {
                let mut named = self.keys.iter().filter(|(id, _)| id.as_deref() == Some(kid));
                match (named.next(), named.next()) {
                    (Some((_, key)), None) => Some(key),
                    _ => None,
                }
            }
            None => match self.keys.as_slice() {
                [(_, key)] => Some(key),
                _ => None,
            },
        };
        found.ok_or(TokenError::KidUnknown)
    }
}

/// The trust domains that a verifier believes, each with its issuer. A key in one of them says nothing about another, even
/// under an equal `kid`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers(BTreeMap<TrustDomain, Issuer>);

impl Issuers {
    /// Trusts an issuer for one trust domain; one that was trusted for it before is replaced.
    pub fn insert(&mut self, domain: TrustDomain, issuer: Issuer) {
        self.0.insert(domain, issuer);
    }

    /// Trusts nobody for this trust domain any more.
    pub fn remove(&mut self, domain: &TrustDomain) {
        self.0.remove(domain);
    }

    /// The identifier that a claim names, in one of the trust domains, with the issuer of that one.
    pub(crate) fn select(&self, sub: &str) -> Result<(WorkloadId, &Issuer), TokenError> {
        // An identifier under a scheme of its own is read by its own trust domain only.
        if let Some(found) = self
            .0
            .iter()
            .find_map(|(domain, issuer)| Some((domain.workload(sub).ok()?, issuer)))
        {
            return Ok(found);
        }
        match WorkloadId::parse(sub) {
            Ok(_) => Err(TokenError::TrustDomainUnknown),
            Err(error) if error.class() == IdentifierClass::NotCanonical => {
                Err(TokenError::IdentifierNotCanonical)
            }
            Err(_) => Err(TokenError::IdentifierInvalid),
        }
    }
}

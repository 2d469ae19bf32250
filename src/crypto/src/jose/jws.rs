//! Compact JWS (RFC 7515): made by a [`Signer`], taken apart without trusting anything, verified over the bytes that
//! arrived.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{VerifyingKey, b64u, b64u_decode, json};
use crate::{CryptoError, PublicKey, Purpose, SignError, Signer, SigningAlg};

/// Longest compact serialization accepted, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// A protected header as it is made here.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// Signs `payload` as a token of type `typ`. The signer's key does the choosing of the algorithm.
pub fn sign(
    typ: &str,
    kid: Option<&str>,
    payload: &impl Serialize,
    purpose: Purpose,
    signer: &dyn Signer,
) -> Result<String, SignError> {
    let header = Header {
        alg: signer.algorithm().jose(),
        typ,
        kid,
    };
    // Neither can fail: both are maps of text.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let payload = serde_json::to_vec(payload).unwrap_or_default();
    let mut token = b64u(&header);
    token.push('.');
    token += &b64u(&payload);
    let signature = signer.sign(purpose, token.as_bytes())?;
    token.push('.');
    token += &b64u(&signature);
    Ok(token)
}

/// A token taken apart. Nothing in it is to be believed before [`Jws::verify`] has returned `Ok`.
pub struct Jws<'a> {
    input: &'a str,
    header: Map<String, Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Splits and decodes: three parts, strict base64url, a JSON object as header, nothing in it that would change how the
    /// rest is read. Keys and places of keys in a header are never looked at.
    pub fn parse(token: &'a str) -> Result<Self, CryptoError> {
        Self::parse_within(token, MAX_TOKEN)
    }

    /// The same with another limit on the length, in bytes: attestation results may carry the evidence.
    pub fn parse_within(token: &'a str, limit: usize) -> Result<Self, CryptoError> {
        const WHAT: CryptoError = CryptoError::Malformed("compact JWS");
        if token.len() > limit {
            return Err(WHAT);
        }
        let (input, signature) = token.rsplit_once('.').ok_or(WHAT)?;
        let (header, payload) = input.split_once('.').ok_or(WHAT)?;
        let header = json::object(&b64u_decode(header)?)?;
        if ["crit", "b64", "zip"]
            .iter()
            .any(|name| header.contains_key(*name))
        {
            return Err(CryptoError::Critical);
        }
        // A key identifier of another type would not count as one.
        if header.get("kid").is_some_and(|kid| !kid.is_string()) {
            return Err(WHAT);
        }
        Ok(Self {
            input,
            header,
            payload: b64u_decode(payload)?,
            signature: b64u_decode(signature)?,
        })
    }

    /// A member of the header that is text. Unverified.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// Whether the header has a member. Unverified.
    pub fn has_header(&self, name: &str) -> bool {
        self.header.contains_key(name)
    }

    /// The certificates of `x5c` (RFC 7515 section 4.1.6), DER, the signer's first; an error where it is no such list. They prove nothing
    /// by themselves.
    pub fn chain(&self) -> Option<Result<Vec<Vec<u8>>, CryptoError>> {
        let list = self.header.get("x5c")?.as_array();
        let read = |value: &Value| -> Result<Vec<u8>, CryptoError> {
            let text = value.as_str().ok_or(CryptoError::Malformed("x5c"))?;
            STANDARD.decode(text).map_err(|_| CryptoError::Malformed("x5c"))
        };
        Some(
            list.ok_or(CryptoError::Malformed("x5c"))
                .and_then(|list| list.iter().map(read).collect()),
        )
    }

    /// Checks the signature under a key of somebody else, and that `alg` is the one algorithm of that key; gives out the payload,
    /// whatever it is.
    pub fn verify_signature(&self, key: &VerifyingKey) -> Result<&[u8], CryptoError> {
        if self.header("alg") != Some(key.alg().name()) {
            return Err(CryptoError::AlgNotAllowed(
                "alg of the token is not that of the key",
            ));
        }
        key.verify(self.input.as_bytes(), &self.signature)?;
        Ok(&self.payload)
    }

    /// The same, and parses the claims.
    pub fn verify_by(&self, key: &VerifyingKey) -> Result<Map<String, Value>, CryptoError> {
        json::object(self.verify_signature(key)?)
    }

    /// The claims without verification: for choosing a key only.
    pub fn unverified_claims(&self) -> Result<Unverified<'_, 'a>, CryptoError> {
        Ok(Unverified {
            claims: json::object(&self.payload)?,
            of: self,
        })
    }

    /// Checks that `alg` is the one algorithm of the key and that the signature is the key's, then parses the claims.
    pub fn verify(&self, key: &PublicKey, alg: SigningAlg) -> Result<Map<String, Value>, CryptoError> {
        if self.header("alg") != Some(alg.jose()) {
            return Err(CryptoError::AlgNotAllowed(
                "alg of the token is not that of the key",
            ));
        }
        key.verify(alg.scheme(), self.input.as_bytes(), &self.signature)?;
        json::object(&self.payload)
    }
}

/// Claims whose token has not been verified: they say nothing yet but whose keys to ask.
pub struct Unverified<'j, 'a> {
    claims: Map<String, Value>,
    of: &'j Jws<'a>,
}

impl Unverified<'_, '_> {
    /// The claims, for choosing a key only.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Checks the token that they are of as [`Jws::verify_by`] does, and gives out what was parsed of it: the same bytes.
    pub fn verify_by(self, key: &VerifyingKey) -> Result<Map<String, Value>, CryptoError> {
        if self.of.header("alg") != Some(key.alg().name()) {
            return Err(CryptoError::AlgNotAllowed(
                "alg of the token is not that of the key",
            ));
        }
        key.verify(self.of.input.as_bytes(), &self.of.signature)?;
        Ok(self.claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SoftwareKey;

    #[test]
    fn a_token_verifies_under_its_key_and_algorithm_only() {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let claims = json!({"sub": "x"}).as_object().unwrap().clone();
        let token = sign("x", None, &claims, Purpose::Wit, &key).unwrap();
        let jws = Jws::parse(&token).unwrap();
        assert_eq!(jws.verify(key.public_key(), SigningAlg::Es256).unwrap(), claims);
        assert!(jws.verify(key.public_key(), SigningAlg::Es384).is_err());
        let other = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        assert_eq!(
            jws.verify(other.public_key(), SigningAlg::Es256).unwrap_err(),
            CryptoError::SignatureInvalid
        );
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for token in [
            "",
            "a",
            "a.b",
            "e30.e30",
            "e30.e30.",
            "e30=.e30.AA",
            "e30.e30.AB",
            "W10.e30.AA",
        ] {
            let refused = Jws::parse(token).is_err()
                || Jws::parse(token)
                    .unwrap()
                    .verify(
                        SoftwareKey::generate(SigningAlg::Es256).unwrap().public_key(),
                        SigningAlg::Es256,
                    )
                    .is_err();
            assert!(refused, "{token}");
        }
        for header in [
            &br#"{"alg":"ES256","crit":["x"]}"#[..],
            br#"{"alg":"ES256","b64":false}"#,
            br#"{"alg":"ES256","zip":"DEF"}"#,
        ] {
            let token = format!("{}.e30.AA", b64u(header));
            assert!(matches!(Jws::parse(&token), Err(CryptoError::Critical)));
        }
    }
}

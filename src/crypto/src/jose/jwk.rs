//! JSON Web Keys of the kinds that Touchmark issues credentials for.

use serde_json::{Map, Value, json};

use super::{b64u, b64u_decode};
use crate::{CryptoError, KeyKind, PublicKey, SigningAlg, sha256};

/// Members that only private or symmetric keys have (RFC 7518): their presence in public material is refused.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public elliptic-curve JWK with the one algorithm it may be used with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    key: PublicKey,
    alg: SigningAlg,
}

impl Jwk {
    /// The JWK of a key; the algorithm follows from the curve.
    pub fn new(key: PublicKey) -> Result<Self, CryptoError> {
        let alg =
            SigningAlg::for_key(key.kind()).ok_or(CryptoError::KeyNotAccepted("not a P-256 or P-384 key"))?;
        Ok(Self { key, alg })
    }

    /// Reads a JWK whose `alg` is mandatory, as in `cnf.jwk` of a WIT.
    pub fn from_json(jwk: &Map<String, Value>) -> Result<Self, CryptoError> {
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(CryptoError::KeyNotAccepted("JWK holds private members"));
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let alg = text("alg")
            .and_then(SigningAlg::from_jose)
            .ok_or(CryptoError::AlgNotAllowed("JWK alg"))?;
        let kind = match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => KeyKind::P256,
            (Some("EC"), Some("P-384")) => KeyKind::P384,
            _ => return Err(CryptoError::KeyNotAccepted("JWK is not a P-256 or P-384 key")),
        };
        let coordinate = |name| b64u_decode(text(name).ok_or(CryptoError::Malformed("JWK"))?);
        let key = PublicKey::from_ec_coordinates(kind, &coordinate("x")?, &coordinate("y")?)?;
        if SigningAlg::for_key(kind) != Some(alg) {
            return Err(CryptoError::AlgNotAllowed("JWK alg does not go with its curve"));
        }
        Ok(Self { key, alg })
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The only algorithm the key may be used with.
    pub fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// The JWK as a JSON object: `kty`, `crv`, `x`, `y`, `alg`.
    pub fn to_json(&self) -> Map<String, Value> {
        let (x, y) = self.key.ec_coordinates().unwrap_or_default();
        let mut map = Map::new();
        map.insert("kty".into(), "EC".into());
        map.insert("crv".into(), self.crv().into());
        map.insert("x".into(), b64u(x).into());
        map.insert("y".into(), b64u(y).into());
        map.insert("alg".into(), self.alg.jose().into());
        map
    }

    /// The RFC 7638 thumbprint (SHA-256), base64url.
    pub fn thumbprint(&self) -> String {
        let (x, y) = self.key.ec_coordinates().unwrap_or_default();
        // serde_json keeps members sorted, which is the lexicographic order the RFC asks for.
        let canonical = json!({"crv": self.crv(), "kty": "EC", "x": b64u(x), "y": b64u(y)}).to_string();
        b64u(&sha256(&[canonical.as_bytes()]))
    }

    fn crv(&self) -> &'static str {
        match self.alg {
            SigningAlg::Es256 => "P-256",
            SigningAlg::Es384 => "P-384",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Signer, SoftwareKey};

    /// The issuer key of the WIT example in draft-ietf-wimse-workload-creds and its thumbprint.
    #[test]
    fn the_draft_example_key_has_its_known_thumbprint() {
        let map = json!({"kty": "EC", "crv": "P-256", "alg": "ES256",
            "x": "kXqnA2Op7hgd4zRMbw0iFcc_hDxUxhojxOFVGjE2gks", "y": "n__VndPMR021-59UAs0b9qDTFT-EZtT6xSNs_xFskLo"});
        let jwk = Jwk::from_json(map.as_object().unwrap()).unwrap();
        assert_eq!(jwk.thumbprint(), "-PTiuiMwpW_0dv_Y5tpXxsmMU-XmSZwUNdKRS79oyYk");
    }

    #[test]
    fn private_members_missing_alg_and_wrong_alg_are_refused() {
        let good = Jwk::new(
            SoftwareKey::generate(SigningAlg::Es256)
                .unwrap()
                .public_key()
                .clone(),
        )
        .unwrap();
        assert_eq!(Jwk::from_json(&good.to_json()).unwrap(), good);
        for (name, value) in [
            ("d", json!("AA")),
            ("k", json!("AA")),
            ("alg", json!("ES384")),
            ("alg", json!(null)),
        ] {
            let mut map = good.to_json();
            map.insert(name.into(), value);
            assert!(Jwk::from_json(&map).is_err(), "{name}");
        }
    }
}

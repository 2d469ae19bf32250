//! Public keys that others prove with: bound to one algorithm, which is the only one they are ever asked for.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Map, Value, json};

use super::{b64u, b64u_decode};
use crate::{CryptoError, HashAlg, KeyKind, PublicKey, SigScheme, sha256};

/// Algorithms that signatures are accepted of (RFC 7518, 8037, 9864). Names are compared as strings: `EdDSA` and `Ed25519`
/// are two, and so are `RS256` and `PS256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JoseAlg {
    /// ECDSA, P-256, SHA-256.
    Es256,
    /// ECDSA, P-384, SHA-384.
    Es384,
    /// ECDSA, P-521, SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5, SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
    /// RSASSA-PSS, SHA-256.
    Ps256,
    /// RSASSA-PSS, SHA-384.
    Ps384,
    /// RSASSA-PSS, SHA-512.
    Ps512,
    /// Ed25519 under its older name.
    EdDsa,
    /// Ed25519.
    Ed25519,
}

impl JoseAlg {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The algorithm that an `alg` value names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|alg| alg.name() == name)
    }

    /// The one algorithm of a key that does not say; RSA keys have to say.
    fn of_kind(kind: KeyKind) -> Option<Self> {
        match kind {
            KeyKind::P256 => Some(Self::Es256),
            KeyKind::P384 => Some(Self::Es384),
            KeyKind::P521 => Some(Self::Es512),
            KeyKind::Secp256k1 | KeyKind::Rsa { .. } => None,
        }
    }

    /// How a key of this kind is asked; `None` where the two do not go together.
    fn scheme(self, kind: KeyKind) -> Option<SigScheme> {
        let scheme = match self {
            Self::Es256 => SigScheme::Ecdsa(HashAlg::Sha256),
            Self::Es384 => SigScheme::Ecdsa(HashAlg::Sha384),
            Self::Es512 => SigScheme::Ecdsa(HashAlg::Sha512),
            Self::Rs256 => SigScheme::RsaPkcs1(HashAlg::Sha256),
            Self::Rs384 => SigScheme::RsaPkcs1(HashAlg::Sha384),
            Self::Rs512 => SigScheme::RsaPkcs1(HashAlg::Sha512),
            Self::Ps256 => SigScheme::RsaPss(HashAlg::Sha256),
            Self::Ps384 => SigScheme::RsaPss(HashAlg::Sha384),
            Self::Ps512 => SigScheme::RsaPss(HashAlg::Sha512),
            Self::EdDsa | Self::Ed25519 => return None,
        };
        let fits = match (kind, scheme) {
            (KeyKind::Rsa { .. }, SigScheme::RsaPkcs1(_) | SigScheme::RsaPss(_)) => true,
            _ => Self::of_kind(kind) == Some(self),
        };
        fits.then_some(scheme)
    }
}

/// Why a JWK is not a key to verify with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Private or symmetric members: whoever publishes those has no secret left.
    #[error("the JWK holds private or symmetric members")]
    Private,
    /// No `alg` where one is mandatory.
    #[error("the JWK names no algorithm")]
    NoAlg,
    /// An `alg` that is none of [`JoseAlg`], or does not go with the key.
    #[error("the JWK's algorithm is not one for signatures of this key")]
    Alg,
    /// A key of another type, a point off its curve, or numbers out of range.
    #[error("the JWK is not a usable public key")]
    Key,
}

/// Members that only private or symmetric keys have (RFC 7518).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key and the one algorithm that it is used with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    key: Key,
    alg: JoseAlg,
    thumbprint: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Public(PublicKey),
    Ed25519([u8; 32]),
}

impl VerifyingKey {
    /// The key of a credential of ours, or of an anchor; the algorithm follows from the curve.
    pub fn new(key: PublicKey) -> Result<Self, JwkError> {
        let alg = JoseAlg::of_kind(key.kind()).ok_or(JwkError::NoAlg)?;
        let (x, y) = key.ec_coordinates().ok_or(JwkError::Key)?;
        let crv = match key.kind() {
            KeyKind::P256 => "P-256",
            KeyKind::P384 => "P-384",
            KeyKind::P521 => "P-521",
            KeyKind::Secp256k1 | KeyKind::Rsa { .. } => return Err(JwkError::Key),
        };
        let thumbprint = thumbprint(&json!({"crv": crv, "kty": "EC", "x": b64u(x), "y": b64u(y)}));
        Ok(Self {
            key: Key::Public(key),
            alg,
            thumbprint,
        })
    }

    /// A key of whatever kind, for an algorithm that goes with it.
    pub fn bound(key: PublicKey, alg: JoseAlg) -> Result<Self, JwkError> {
        match key.rsa_parts() {
            Some((n, e)) => Self::rsa(n, e, Some(alg)),
            None => match Self::new(key)? {
                key if key.alg == alg => Ok(key),
                _ => Err(JwkError::Alg),
            },
        }
    }

    /// The key of a certificate (SubjectPublicKeyInfo, DER), for an algorithm that goes with it.
    pub fn of_certificate(spki: &[u8], alg: JoseAlg) -> Result<Self, JwkError> {
        /// id-Ed25519 (RFC 8410), with the key of 32 bytes behind it.
        const ED25519: &[u8] = &[0x30, 42, 0x30, 5, 0x06, 3, 0x2b, 0x65, 0x70, 0x03, 33, 0];
        match spki.strip_prefix(ED25519) {
            Some(point) => Self::edwards(point, Some(alg)),
            None => Self::bound(PublicKey::from_spki(spki).map_err(|_| JwkError::Key)?, alg),
        }
    }

    /// Reads a JWK whose `alg` is mandatory, as in `cnf.jwk` of a WIT.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        Self::is_for_verifying(jwk)?;
        Self::read(jwk, true)
    }

    /// Whether a JWK does not say that it is for something else.
    fn is_for_verifying(jwk: &Map<String, Value>) -> Result<(), JwkError> {
        let operations = jwk.get("key_ops").map(|list| list.as_array().map(Vec::as_slice));
        let verifies = match operations {
            None => true,
            Some(list) => list.unwrap_or_default().iter().any(|one| one == "verify"),
        };
        let purpose = jwk.get("use").is_none_or(|purpose| purpose == "sig");
        if verifies && purpose {
            Ok(())
        } else {
            Err(JwkError::Key)
        }
    }

    /// Reads a JWK that somebody pinned for a message of this algorithm: where it says `alg`, `use` or `key_ops`, they have
    /// to allow this, and the key has to fit.
    pub fn for_alg(jwk: &Map<String, Value>, alg: JoseAlg) -> Result<Self, JwkError> {
        Self::is_for_verifying(jwk)?;
        let mut asked = jwk.clone();
        let edwards = |alg| matches!(alg, JoseAlg::EdDsa | JoseAlg::Ed25519);
        let own = asked
            .get("alg")
            .and_then(Value::as_str)
            .and_then(JoseAlg::from_name);
        // Two names of the same on this curve (RFC 9864).
        if own.is_none_or(|own| edwards(own) && edwards(alg))
            && asked.get("alg").is_none_or(|_| own.is_some())
        {
            asked.insert("alg".to_owned(), alg.name().into());
        }
        match Self::read(&asked, true)? {
            key if key.alg == alg => Ok(key),
            _ => Err(JwkError::Alg),
        }
    }

    /// Reads a JWK of a trust domain's set: where it has no `alg`, that of its curve.
    pub fn from_anchor(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        // Sets name uses of their own (`wit-svid`); none of them is encryption.
        let mut known = jwk.clone();
        if known.get("use").is_some_and(|purpose| purpose != "enc") {
            known.remove("use");
        }
        Self::is_for_verifying(&known)?;
        Self::read(jwk, false)
    }

    fn read(jwk: &Map<String, Value>, mandatory: bool) -> Result<Self, JwkError> {
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(JwkError::Private);
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let alg = match jwk.get("alg") {
            None if mandatory => return Err(JwkError::NoAlg),
            None => None,
            Some(name) => Some(name.as_str().and_then(JoseAlg::from_name).ok_or(JwkError::Alg)?),
        };
        let number = |name| b64u_decode(text(name).ok_or(JwkError::Key)?).map_err(|_| JwkError::Key);
        let usable = |key: Result<PublicKey, CryptoError>| key.map_err(|_| JwkError::Key);
        let curve = |kind| -> Result<PublicKey, JwkError> {
            usable(PublicKey::from_ec_coordinates(kind, &number("x")?, &number("y")?))
        };
        let public = match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => curve(KeyKind::P256)?,
            (Some("EC"), Some("P-384")) => curve(KeyKind::P384)?,
            (Some("EC"), Some("P-521")) => curve(KeyKind::P521)?,
            (Some("RSA"), None) => return Self::rsa(&number("n")?, &number("e")?, alg),
            (Some("OKP"), Some("Ed25519")) => return Self::edwards(&number("x")?, alg),
            _ => return Err(JwkError::Key),
        };
        match (Self::new(public)?, alg) {
            (key, Some(alg)) if key.alg != alg => Err(JwkError::Alg),
            (key, _) => Ok(key),
        }
    }

    fn rsa(n: &[u8], e: &[u8], alg: Option<JoseAlg>) -> Result<Self, JwkError> {
        let key = PublicKey::from_rsa(n, e).map_err(|_| JwkError::Key)?;
        let alg = alg.ok_or(JwkError::NoAlg)?;
        alg.scheme(key.kind()).ok_or(JwkError::Alg)?;
        Ok(Self {
            key: Key::Public(key),
            alg,
            thumbprint: thumbprint(&json!({"e": b64u(e), "kty": "RSA", "n": b64u(n)})),
        })
    }

    fn edwards(point: &[u8], alg: Option<JoseAlg>) -> Result<Self, JwkError> {
        let alg = alg.unwrap_or(JoseAlg::EdDsa);
        if !matches!(alg, JoseAlg::EdDsa | JoseAlg::Ed25519) {
            return Err(JwkError::Alg);
        }
        Ok(Self {
            key: Key::Ed25519(point.try_into().map_err(|_| JwkError::Key)?),
            alg,
            thumbprint: thumbprint(&json!({"crv": "Ed25519", "kty": "OKP", "x": b64u(point)})),
        })
    }

    /// The only algorithm the key is used with.
    pub fn alg(&self) -> JoseAlg {
        self.alg
    }

    /// The key, unless it is on Edwards25519.
    pub fn public(&self) -> Option<&PublicKey> {
        match &self.key {
            Key::Public(key) => Some(key),
            Key::Ed25519(_) => None,
        }
    }

    /// Checks a signature in the form of RFC 7518: `r ‖ s` for ECDSA.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        match &self.key {
            Key::Public(key) => {
                let scheme = self
                    .alg
                    .scheme(key.kind())
                    .ok_or(CryptoError::AlgNotAllowed("alg does not go with the key"))?;
                key.verify(scheme, message, signature)
            }
            Key::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point)
                .verify(message, signature)
                .map_err(|_| CryptoError::SignatureInvalid),
        }
    }

    /// The RFC 7638 thumbprint (SHA-256).
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }
}

/// Of the mandatory members: serde_json keeps them sorted, which is the lexicographic order the RFC asks for.
fn thumbprint(members: &Value) -> [u8; 32] {
    sha256(&[members.to_string().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(jwk: &Value) -> Result<VerifyingKey, JwkError> {
        VerifyingKey::from_jwk(jwk.as_object().unwrap())
    }

    /// RFC 8037, appendix A: key, thumbprint and signature.
    #[test]
    fn the_example_of_rfc_8037_verifies_under_its_name() {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let key = read(&jwk).unwrap();
        assert_eq!(
            b64u(&key.thumbprint()),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = b64u_decode(
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        )
        .unwrap();
        key.verify(input, &signature).unwrap();
        assert_eq!(
            key.verify(b"another", &signature),
            Err(CryptoError::SignatureInvalid)
        );
    }

    #[test]
    fn keys_that_are_private_weak_or_of_another_algorithm_are_refused() {
        let good = json!({"kty": "EC", "crv": "P-256", "alg": "ES256",
            "x": "kXqnA2Op7hgd4zRMbw0iFcc_hDxUxhojxOFVGjE2gks", "y": "n__VndPMR021-59UAs0b9qDTFT-EZtT6xSNs_xFskLo"});
        read(&good).unwrap();
        let with = |name: &str, value: Value| {
            let mut jwk = good.clone();
            jwk[name] = value;
            read(&jwk).unwrap_err()
        };
        assert_eq!(with("d", json!("AA")), JwkError::Private);
        assert_eq!(with("k", json!("AA")), JwkError::Private);
        for alg in ["ES384", "RS256", "HS256", "none", "ECDH-ES", "EdDSA", "es256"] {
            assert_eq!(with("alg", json!(alg)), JwkError::Alg, "{alg}");
        }
        assert_eq!(with("alg", json!(1)), JwkError::Alg);
        assert_eq!(with("kty", json!("oct")), JwkError::Key);
        assert_eq!(with("crv", json!("secp256k1")), JwkError::Key);
        assert_eq!(with("x", json!("AA")), JwkError::Key);
        let mut silent = good.clone();
        silent.as_object_mut().unwrap().remove("alg");
        assert_eq!(read(&silent), Err(JwkError::NoAlg));
        let anchor = VerifyingKey::from_anchor(silent.as_object().unwrap()).unwrap();
        assert_eq!(anchor.alg(), JoseAlg::Es256);
        // Sets of trust domains have uses of their own; a key that is for encryption, or not for verifying, is none of theirs.
        let anchor = |name: &str, value: Value| {
            let mut jwk = silent.clone();
            jwk[name] = value;
            VerifyingKey::from_anchor(jwk.as_object().unwrap()).err()
        };
        assert_eq!(anchor("use", json!("wit-svid")), None);
        assert_eq!(anchor("use", json!("enc")), Some(JwkError::Key));
        assert_eq!(anchor("key_ops", json!(["deriveBits"])), Some(JwkError::Key));
    }
}

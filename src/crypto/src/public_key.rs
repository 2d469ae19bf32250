//! Public keys: parsed once, checked to be usable, then only compared, named and verified with.

use aws_lc_rs::{digest::Digest, signature as lc};
use x509_parser::{der_parser::oid, prelude::FromDer, public_key::RSAPublicKey, x509::SubjectPublicKeyInfo};

use crate::{CryptoError, HashAlg, SigScheme, der, sha256};

/// The kinds of key that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521: in certificates and signatures of others only; no TPM key of ours is on it.
    P521,
    /// secp256k1: of those who sign files, and of nobody else.
    Secp256k1,
    /// RSA with a modulus of `bits` (2048 to 4096).
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
}

impl KeyKind {
    /// Bytes of one coordinate, for curves.
    pub fn field_len(self) -> Option<usize> {
        match self {
            Self::P256 | Self::Secp256k1 => Some(32),
            Self::P384 => Some(48),
            Self::P521 => Some(66),
            Self::Rsa { .. } => None,
        }
    }
}

/// What is accepted in a SubjectPublicKeyInfo beyond the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    Oaep,
    Secp256k1,
}

/// A usable public key. `from_*` are the only constructors: each checks that a point lies on its curve and that an
/// RSA key has an accepted size.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// SubjectPublicKeyInfo, DER; `rsaEncryption` form for RSA.
    spki: Vec<u8>,
    /// What the provider takes: the uncompressed point, or RSAPublicKey DER.
    raw: Vec<u8>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo. RSA keys must be `rsaEncryption`.
    pub fn from_spki(spki: &[u8]) -> Result<Self, CryptoError> {
        Self::parse_spki(spki, Extra::Nothing)
    }

    /// Reads a SubjectPublicKeyInfo of an endorsement key: RSA keys may also be `id-RSAES-OAEP`, as some makers
    /// encode them. The resulting key is the same as from the `rsaEncryption` form.
    pub fn from_endorsement_spki(spki: &[u8]) -> Result<Self, CryptoError> {
        Self::parse_spki(spki, Extra::Oaep)
    }

    /// Reads a SubjectPublicKeyInfo of somebody who signs files: the kernel also takes keys on secp256k1.
    pub fn from_file_signer_spki(spki: &[u8]) -> Result<Self, CryptoError> {
        Self::parse_spki(spki, Extra::Secp256k1)
    }

    fn parse_spki(spki: &[u8], extra: Extra) -> Result<Self, CryptoError> {
        const WHAT: CryptoError = CryptoError::Malformed("SubjectPublicKeyInfo");
        let (rest, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| WHAT)?;
        if !rest.is_empty() {
            return Err(WHAT);
        }
        let alg = &info.algorithm.algorithm;
        if *alg == oid!(1.2.840.10045.2.1) {
            let curve = info
                .algorithm
                .parameters
                .as_ref()
                .and_then(|p| p.as_oid().ok())
                .ok_or(WHAT)?;
            let kind = if curve == oid!(1.2.840.10045.3.1.7) {
                KeyKind::P256
            } else if curve == oid!(1.3.132.0.34) {
                KeyKind::P384
            } else if curve == oid!(1.3.132.0.35) {
                KeyKind::P521
            } else if curve == oid!(1.3.132.0.10) && extra == Extra::Secp256k1 {
                KeyKind::Secp256k1
            } else {
                return Err(CryptoError::KeyNotAccepted("curve is not P-256, P-384 or P-521"));
            };
            Self::from_ec_point(kind, &info.subject_public_key.data)
        } else if *alg == oid!(1.2.840.113549.1.1.1)
            || (extra == Extra::Oaep && *alg == oid!(1.2.840.113549.1.1.7))
        {
            Self::from_rsa_der(&info.subject_public_key.data, extra == Extra::Oaep)
        } else {
            Err(CryptoError::KeyNotAccepted(
                "neither an elliptic-curve nor an RSA key",
            ))
        }
    }

    /// A key from an uncompressed point (`04 ‖ x ‖ y`), checked to be on the curve.
    pub fn from_ec_point(kind: KeyKind, point: &[u8]) -> Result<Self, CryptoError> {
        const WHAT: CryptoError = CryptoError::Malformed("elliptic-curve point");
        let (alg, curve): (&lc::EcdsaVerificationAlgorithm, &[u8]) = match kind {
            KeyKind::P256 => (
                &lc::ECDSA_P256_SHA256_FIXED,
                &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
            ),
            KeyKind::P384 => (&lc::ECDSA_P384_SHA384_FIXED, &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22]),
            KeyKind::P521 => (&lc::ECDSA_P521_SHA512_FIXED, &[0x06, 5, 0x2b, 0x81, 4, 0, 0x23]),
            KeyKind::Secp256k1 => (&lc::ECDSA_P256K1_SHA256_FIXED, &[0x06, 5, 0x2b, 0x81, 4, 0, 0x0a]),
            KeyKind::Rsa { .. } => return Err(WHAT),
        };
        let field = kind.field_len().ok_or(WHAT)?;
        if point.len() != 1 + 2 * field || point.first() != Some(&4) {
            return Err(WHAT);
        }
        lc::ParsedPublicKey::new(alg, point)
            .map_err(|_| CryptoError::KeyNotAccepted("point is not on the curve"))?;
        const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
        let algorithm = der::tlv(0x30, &[EC_PUBLIC_KEY, curve]);
        let spki = der::tlv(0x30, &[&algorithm, &der::tlv(0x03, &[&[0], point])]);
        Ok(Self {
            kind,
            spki,
            raw: point.to_vec(),
        })
    }

    /// A key from affine coordinates, each exactly as long as the field.
    pub fn from_ec_coordinates(kind: KeyKind, x: &[u8], y: &[u8]) -> Result<Self, CryptoError> {
        let field = kind
            .field_len()
            .ok_or(CryptoError::Malformed("elliptic-curve point"))?;
        if x.len() != field || y.len() != field {
            return Err(CryptoError::Malformed("elliptic-curve point"));
        }
        Self::from_ec_point(kind, &[&[4], x, y].concat())
    }

    /// A key from modulus and exponent, unsigned big-endian.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, CryptoError> {
        Self::from_rsa_der(
            &der::tlv(0x30, &[&der::unsigned(modulus), &der::unsigned(exponent)]),
            false,
        )
    }

    /// `of_maker`: in certificates of chips a first bit that is set is a zero byte that was forgotten.
    fn from_rsa_der(rsa: &[u8], of_maker: bool) -> Result<Self, CryptoError> {
        const WHAT: CryptoError = CryptoError::Malformed("RSA public key");
        let (rest, parsed) = RSAPublicKey::from_der(rsa).map_err(|_| WHAT)?;
        if !rest.is_empty() {
            return Err(WHAT);
        }
        // INTEGERs are signed: a first bit that is set makes a number negative.
        if !of_maker
            && [parsed.modulus, parsed.exponent]
                .iter()
                .any(|number| number.first().is_some_and(|first| first & 0x80 != 0))
        {
            return Err(WHAT);
        }
        let modulus = without_leading_zeros(parsed.modulus);
        let exponent = without_leading_zeros(parsed.exponent);
        let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
        let bits = (modulus.len() * 8).saturating_sub(usize::try_from(unused).unwrap_or(0));
        if !(2048..=8192).contains(&bits) {
            return Err(CryptoError::KeyNotAccepted(
                "RSA modulus outside 2048 to 8192 bits",
            ));
        }
        if exponent.len() > 4
            || exponent.last().is_none_or(|byte| byte % 2 == 0)
            || exponent == [1].as_slice()
        {
            return Err(CryptoError::KeyNotAccepted("RSA exponent"));
        }
        let raw = der::tlv(0x30, &[&der::unsigned(modulus), &der::unsigned(exponent)]);
        const RSA_ENCRYPTION: &[u8] = &[
            0x30, 13, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0,
        ];
        let spki = der::tlv(0x30, &[RSA_ENCRYPTION, &der::tlv(0x03, &[&[0], &raw])]);
        Ok(Self {
            kind: KeyKind::Rsa { bits },
            spki,
            raw,
        })
    }

    /// Whether the key is known to be weak although it is long enough: an RSA key of the flawed library of CVE-2017-15361.
    pub fn is_weak(&self) -> bool {
        self.rsa_parts()
            .is_some_and(|(modulus, _)| crate::roca::marked(modulus))
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`]: how a key without a TPM Name is named, and how endorsement keys are enrolled.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[&self.spki])
    }

    /// The contents of the BIT STRING of [`Self::spki`]: the uncompressed point, or RSAPublicKey DER.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The affine coordinates of a curve point.
    pub fn ec_coordinates(&self) -> Option<(&[u8], &[u8])> {
        let field = self.kind.field_len()?;
        Some((self.raw.get(1..1 + field)?, self.raw.get(1 + field..)?))
    }

    /// Modulus and exponent of an RSA key, without leading zeros.
    pub fn rsa_parts(&self) -> Option<(&[u8], &[u8])> {
        if self.kind.field_len().is_some() {
            return None;
        }
        let (_, rsa) = RSAPublicKey::from_der(&self.raw).ok()?;
        Some((
            without_leading_zeros(rsa.modulus),
            without_leading_zeros(rsa.exponent),
        ))
    }

    /// Checks `signature` over `message`. ECDSA signatures are fixed-length `r ‖ s`. SHA-1 is never accepted, nor a
    /// scheme that does not go with the key.
    pub fn verify(&self, scheme: SigScheme, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let alg = self.algorithm(scheme)?;
        // The provider verifies the fixed form only where curve and hash are of one size.
        let der;
        let signature = match (self.kind.field_len(), scheme.hash().len()) {
            (Some(field), hash) if field != hash => {
                if signature.len() != 2 * field {
                    return Err(CryptoError::SignatureInvalid);
                }
                der = crate::ecdsa_der_from_fixed(signature);
                &der
            }
            _ => signature,
        };
        lc::UnparsedPublicKey::new(alg, &self.raw)
            .verify(message, signature)
            .map_err(|_| CryptoError::SignatureInvalid)
    }

    /// The provider's algorithm of a scheme, if it goes with the key.
    fn algorithm(&self, scheme: SigScheme) -> Result<&'static dyn lc::VerificationAlgorithm, CryptoError> {
        use HashAlg::{Sha1, Sha256, Sha384, Sha512};
        Ok(match (self.kind, scheme) {
            (_, SigScheme::Ecdsa(Sha1) | SigScheme::RsaPkcs1(Sha1) | SigScheme::RsaPss(Sha1)) => {
                return Err(CryptoError::AlgNotAllowed("SHA-1"));
            }
            (KeyKind::P256, SigScheme::Ecdsa(Sha256)) => &lc::ECDSA_P256_SHA256_FIXED,
            (KeyKind::P256, SigScheme::Ecdsa(Sha384)) => &lc::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P256, SigScheme::Ecdsa(Sha512)) => &lc::ECDSA_P256_SHA512_ASN1,
            (KeyKind::P384, SigScheme::Ecdsa(Sha256)) => &lc::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, SigScheme::Ecdsa(Sha384)) => &lc::ECDSA_P384_SHA384_FIXED,
            (KeyKind::P384, SigScheme::Ecdsa(Sha512)) => &lc::ECDSA_P384_SHA512_ASN1,
            (KeyKind::Secp256k1, SigScheme::Ecdsa(Sha256)) => &lc::ECDSA_P256K1_SHA256_FIXED,
            (KeyKind::P521, SigScheme::Ecdsa(Sha256)) => &lc::ECDSA_P521_SHA256_ASN1,
            (KeyKind::P521, SigScheme::Ecdsa(Sha384)) => &lc::ECDSA_P521_SHA384_ASN1,
            (KeyKind::P521, SigScheme::Ecdsa(Sha512)) => &lc::ECDSA_P521_SHA512_ASN1,
            (KeyKind::Rsa { .. }, SigScheme::RsaPkcs1(Sha256)) => &lc::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa { .. }, SigScheme::RsaPkcs1(Sha384)) => &lc::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa { .. }, SigScheme::RsaPkcs1(Sha512)) => &lc::RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::Rsa { .. }, SigScheme::RsaPss(Sha256)) => &lc::RSA_PSS_2048_8192_SHA256,
            (KeyKind::Rsa { .. }, SigScheme::RsaPss(Sha384)) => &lc::RSA_PSS_2048_8192_SHA384,
            (KeyKind::Rsa { .. }, SigScheme::RsaPss(Sha512)) => &lc::RSA_PSS_2048_8192_SHA512,
            _ => return Err(CryptoError::AlgNotAllowed("scheme does not go with the key")),
        })
    }

    /// Checks a signature over a digest that was made elsewhere, in the form that X.509 has signatures in: DER for ECDSA.
    pub fn verify_digest(
        &self,
        scheme: SigScheme,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let alg: &'static dyn lc::VerificationAlgorithm = match (self.kind, scheme) {
            (KeyKind::P256, SigScheme::Ecdsa(HashAlg::Sha256)) => &lc::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P384, SigScheme::Ecdsa(HashAlg::Sha384)) => &lc::ECDSA_P384_SHA384_ASN1,
            (KeyKind::Secp256k1, SigScheme::Ecdsa(HashAlg::Sha256)) => &lc::ECDSA_P256K1_SHA256_ASN1,
            _ => self.algorithm(scheme)?,
        };
        let digest = Digest::import_less_safe(digest, scheme.hash().algorithm())
            .map_err(|_| CryptoError::Malformed("digest"))?;
        lc::UnparsedPublicKey::new(alg, &self.raw)
            .verify_digest(&digest, signature)
            .map_err(|_| CryptoError::SignatureInvalid)
    }

    /// Checks a signature that a TPM made: with RSASSA-PSS the salt may be of any length.
    pub fn verify_of_tpm(
        &self,
        scheme: SigScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        match (self.verify(scheme, message, signature), scheme) {
            (Err(CryptoError::SignatureInvalid), SigScheme::RsaPss(hash)) => {
                let (modulus, exponent) = self.rsa_parts().ok_or(CryptoError::SignatureInvalid)?;
                crate::pss::verify(modulus, exponent, hash, message, signature)
            }
            (verified, _) => verified,
        }
    }

    /// Checks a signature in the form that X.509 has it in: DER for ECDSA.
    pub fn verify_der(&self, scheme: SigScheme, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        match self.kind.field_len() {
            Some(field) => {
                let fixed = crate::ecdsa_fixed_from_der(signature, field)
                    .map_err(|_| CryptoError::SignatureInvalid)?;
                self.verify(scheme, message, &fixed)
            }
            None => self.verify(scheme, message, signature),
        }
    }

    /// Checks an RSASSA-PKCS1-v1_5 signature with SHA-1: how some makers signed the certificates of their chips before
    /// 2017. For certificates below an anchor that is pinned as theirs, and for nothing else.
    pub(crate) fn verify_sha1_of_maker(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if !matches!(self.kind, KeyKind::Rsa { .. }) {
            return Err(CryptoError::AlgNotAllowed("SHA-1"));
        }
        lc::UnparsedPublicKey::new(&lc::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, &self.raw)
            .verify(message, signature)
            .map_err(|_| CryptoError::SignatureInvalid)
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, ..] = self.digest();
        write!(
            f,
            "PublicKey({:?}, sha256 {a:02x}{b:02x}{c:02x}{d:02x}..)",
            self.kind
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, Signer, SigningAlg, SoftwareKey};

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let mut point = key.public_key().raw().to_vec();
        point[64] ^= 1;
        assert_eq!(
            PublicKey::from_ec_point(KeyKind::P256, &point),
            Err(CryptoError::KeyNotAccepted("point is not on the curve"))
        );
        assert!(PublicKey::from_ec_point(KeyKind::P384, key.public_key().raw()).is_err());
        assert!(PublicKey::from_ec_point(KeyKind::P256, &[0; 65]).is_err());
    }

    #[test]
    fn spki_is_read_back_and_verifies() {
        for alg in [SigningAlg::Es256, SigningAlg::Es384] {
            let key = SoftwareKey::generate(alg).unwrap();
            let public = PublicKey::from_spki(key.public_key().spki()).unwrap();
            assert_eq!(&public, key.public_key());
            let signature = key.sign(Purpose::Wit, b"message").unwrap();
            public.verify(alg.scheme(), b"message", &signature).unwrap();
            assert_eq!(
                public.verify(alg.scheme(), b"messagf", &signature),
                Err(CryptoError::SignatureInvalid)
            );
            assert!(matches!(
                public.verify(SigScheme::RsaPkcs1(HashAlg::Sha256), b"message", &signature),
                Err(CryptoError::AlgNotAllowed(_))
            ));
        }
    }

    #[test]
    fn small_rsa_keys_and_trailing_bytes_are_refused() {
        assert!(PublicKey::from_rsa(&[0xff; 128], &[1, 0, 1]).is_err());
        let key = SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let spki = [key.public_key().spki(), &[0]].concat();
        assert_eq!(
            PublicKey::from_spki(&spki),
            Err(CryptoError::Malformed("SubjectPublicKeyInfo"))
        );
    }
}

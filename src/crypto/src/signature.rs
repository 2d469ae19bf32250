//! Signature schemes and encodings.
//!
//! JOSE and this crate's [`crate::Signer`] use fixed-length `r ‖ s` for ECDSA; X.509 and TLS use DER. TPMs hand over
//! `r` and `s` as numbers of varying length.

use crate::{CryptoError, HashAlg, KeyKind, der};

/// How a signature was made, apart from the key: what a TPMT_SIGNATURE or an AlgorithmIdentifier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigScheme {
    /// ECDSA, the signature as fixed-length `r ‖ s`.
    Ecdsa(HashAlg),
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(HashAlg),
    /// RSASSA-PSS with a salt as long as the digest.
    RsaPss(HashAlg),
}

impl SigScheme {
    /// The hash of the scheme.
    pub fn hash(self) -> HashAlg {
        match self {
            Self::Ecdsa(hash) | Self::RsaPkcs1(hash) | Self::RsaPss(hash) => hash,
        }
    }
}

/// An algorithm that Touchmark signs with, by its JOSE name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256: the one that every TPM, HSM and verifier has.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl SigningAlg {
    /// The JOSE `alg` value (RFC 7518).
    pub fn jose(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    /// The algorithm a JOSE `alg` value names, compared by string.
    pub fn from_jose(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            _ => None,
        }
    }

    /// The algorithm that goes with a key of this kind, if we sign with it.
    pub fn for_key(kind: KeyKind) -> Option<Self> {
        match kind {
            KeyKind::P256 => Some(Self::Es256),
            KeyKind::P384 => Some(Self::Es384),
            KeyKind::P521 | KeyKind::Secp256k1 | KeyKind::Rsa { .. } => None,
        }
    }

    /// The scheme for verification.
    pub fn scheme(self) -> SigScheme {
        SigScheme::Ecdsa(self.hash())
    }

    /// The hash of the scheme.
    pub fn hash(self) -> HashAlg {
        match self {
            Self::Es256 => HashAlg::Sha256,
            Self::Es384 => HashAlg::Sha384,
        }
    }
}

/// `r ‖ s` with each half padded on the left to `field` bytes, from numbers of any length up to that.
pub fn ecdsa_fixed_from_parts(r: &[u8], s: &[u8], field: usize) -> Result<Vec<u8>, CryptoError> {
    let mut out = vec![0; 2 * field];
    let (left, right) = out.split_at_mut(field);
    for (half, number) in [(left, r), (right, s)] {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        let digits = number.get(start..).unwrap_or_default();
        let at = field
            .checked_sub(digits.len())
            .ok_or(CryptoError::Malformed("ECDSA signature"))?;
        half.get_mut(at..).unwrap_or_default().copy_from_slice(digits);
    }
    Ok(out)
}

/// The DER `SEQUENCE { r, s }` of a fixed-length signature.
pub fn ecdsa_der_from_fixed(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    der::tlv(0x30, &[&der::unsigned(r), &der::unsigned(s)])
}

/// The fixed-length form of a DER signature, each half `field` bytes.
pub fn ecdsa_fixed_from_der(der: &[u8], field: usize) -> Result<Vec<u8>, CryptoError> {
    const WHAT: CryptoError = CryptoError::Malformed("ECDSA signature");
    let numbers = der::contents(0x30, der).ok_or(WHAT)?;
    // No field is so long that its length takes more than a byte.
    let (r, rest) = match numbers {
        [0x02, length, rest @ ..] if *length < 0x80 => {
            rest.split_at_checked(usize::from(*length)).ok_or(WHAT)?
        }
        _ => return Err(WHAT),
    };
    let s = der::contents(0x02, rest).ok_or(WHAT)?;
    // Positive, and in the shortest form.
    let proper = |number: &[u8]| match number {
        [] => false,
        [0, second, ..] => *second >= 0x80,
        [first, ..] => *first < 0x80,
    };
    if !proper(r) || !proper(s) {
        return Err(WHAT);
    }
    ecdsa_fixed_from_parts(r, s, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_are_padded_and_long_ones_refused() {
        assert_eq!(
            ecdsa_fixed_from_parts(&[1], &[0, 0, 2, 3], 2).unwrap(),
            [0, 1, 2, 3]
        );
        assert!(ecdsa_fixed_from_parts(&[1, 2, 3], &[1], 2).is_err());
    }

    #[test]
    fn der_and_fixed_forms_convert_both_ways() {
        let fixed: Vec<u8> = [vec![0x80; 32], vec![0x01; 32]].concat();
        let der = ecdsa_der_from_fixed(&fixed);
        assert_eq!(ecdsa_fixed_from_der(&der, 32).unwrap(), fixed);
        assert!(ecdsa_fixed_from_der(&der[..der.len() - 1], 32).is_err());
        assert!(ecdsa_fixed_from_der(&[der, vec![0]].concat(), 32).is_err());
    }
}

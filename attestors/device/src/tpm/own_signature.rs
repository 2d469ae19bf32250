//! Signatures of this TPM's own keys, checked before they leave this process.

use touchmark_crypto::{CryptoError, HashAlg, KeyKind, PublicKey, SigScheme, ecdsa_fixed_from_parts};
use tss_esapi::{
    interface_types::{algorithm::HashingAlgorithm, ecc::EccCurve},
    structures::{EccSignature, Public, Signature},
};

use super::Failure;

/// Whether `key` made `signature` over `message`.
pub(crate) fn verify(key: &Public, message: &[u8], signature: &Signature) -> Result<(), Failure> {
    let another = || Failure::untrusted("the TPM signed with another scheme than its key's");
    let public = public_key(key).ok_or_else(|| Failure::refused("a key that nothing can be checked with"))?;
    let (hash, bytes) = match signature {
        Signature::EcDsa(parts) => (
            parts.hashing_algorithm(),
            fixed(parts, public.kind().field_len().unwrap_or_default())?,
        ),
        Signature::RsaSsa(one) | Signature::RsaPss(one) => {
            (one.hashing_algorithm(), one.signature().value().to_vec())
        }
        _ => return Err(another()),
    };
    let hash = match hash {
        HashingAlgorithm::Sha256 => HashAlg::Sha256,
        HashingAlgorithm::Sha384 => HashAlg::Sha384,
        HashingAlgorithm::Sha512 => HashAlg::Sha512,
        _ => return Err(another()),
    };
    let scheme = match signature {
        Signature::EcDsa(_) => SigScheme::Ecdsa(hash),
        Signature::RsaSsa(_) => SigScheme::RsaPkcs1(hash),
        _ => SigScheme::RsaPss(hash),
    };
    public
        .verify_of_tpm(scheme, message, &bytes)
        .map_err(|_: CryptoError| Failure::untrusted("the TPM's own signature does not verify"))
}

/// `r ‖ s`, each at the length of the curve's numbers.
pub(crate) fn fixed(signature: &EccSignature, length: usize) -> Result<Vec<u8>, Failure> {
    ecdsa_fixed_from_parts(signature.signature_r(), signature.signature_s(), length)
        .map_err(|_| Failure::untrusted("the TPM returned numbers longer than the curve's"))
}

/// The key of a public area: RSA, P-256 or P-384.
pub(crate) fn public_key(public: &Public) -> Option<PublicKey> {
    match public {
        Public::Ecc {
            parameters, unique, ..
        } => {
            let (kind, length) = match parameters.ecc_curve() {
                EccCurve::NistP256 => (KeyKind::P256, 32_usize),
                EccCurve::NistP384 => (KeyKind::P384, 48),
                _ => return None,
            };
            let pad =
                |number: &[u8]| Some([vec![0; length.checked_sub(number.len())?], number.to_vec()].concat());
            PublicKey::from_ec_coordinates(kind, &pad(unique.x())?, &pad(unique.y())?).ok()
        }
        Public::Rsa {
            parameters, unique, ..
        } => {
            // 0 stands for 65537 (TPM 2.0 part 2, section 12.2.3.5).
            let exponent = match parameters.exponent().value() {
                0 => 65_537,
                other => other,
            };
            PublicKey::from_rsa(unique.value(), &exponent.to_be_bytes()).ok()
        }
        _ => None,
    }
}

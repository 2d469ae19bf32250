//! The cryptography of Touchmark in one place.
//!
//! One provider (aws-lc-rs) stands behind everything here, so that no other crate names an algorithm's
//! implementation. What the crate offers is what the protocols need and nothing more: digests, MACs and key
//! derivation, one AEAD, public keys with the signature schemes that TPMs, HSMs and JOSE share, the [`Signer`]
//! that every private key implements wherever it lives, JOSE objects, and X.509.
//!
//! Nothing in this crate reads a clock or opens a file. Random bytes are asked of an [`Entropy`] that the caller
//! passes in, except where the provider draws them itself (OAEP, ephemeral ECDH, ECDSA).

pub mod aead;
pub mod cbor;
pub mod cose;
pub mod der;
mod entropy;
mod error;
pub mod hash;
pub mod jose;
pub mod mac;
pub mod pem;
mod pss;
mod public_key;
mod roca;
mod secret;
mod signature;
mod signer;
mod software;
pub mod wrap;
pub mod x509;

pub use entropy::{Entropy, SystemEntropy};
pub use error::CryptoError;
pub use hash::{HashAlg, Sha256Hasher, sha256};
pub use public_key::{KeyKind, PublicKey};
pub use secret::{Secret, ct_eq};
pub use signature::{
    SigScheme, SigningAlg, ecdsa_der_from_fixed, ecdsa_fixed_from_der, ecdsa_fixed_from_parts,
};
pub use signer::{Purpose, SignError, Signer};
pub use software::SoftwareKey;

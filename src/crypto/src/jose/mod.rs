//! JOSE, strictly: compact JWS, JWK and thumbprints (RFC 7515, 7517, 7638), and JSON without duplicate members.

pub mod json;
mod jwk;
pub mod jws;
mod verifying;

pub use jwk::Jwk;
pub use verifying::{JoseAlg, JwkError, VerifyingKey};

use base64::{Engine, alphabet, engine::GeneralPurpose, engine::general_purpose::NO_PAD};

use crate::CryptoError;

/// base64url without padding; spare bits of the last character must be zero.
const B64U: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD);

/// Encodes as base64url without padding.
pub fn b64u(bytes: &[u8]) -> String {
    B64U.encode(bytes)
}

/// Decodes base64url without padding; anything else in the text is an error.
pub fn b64u_decode(text: &str) -> Result<Vec<u8>, CryptoError> {
    B64U.decode(text).map_err(|_| CryptoError::Malformed("base64url"))
}

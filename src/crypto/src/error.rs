//! The one error type of this crate.

use crate::x509::PathError;

/// Why a cryptographic object was refused. Never carries key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Bytes that do not decode as what they claim to be; the text names the structure.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A key of a kind, curve or size that is not accepted.
    #[error("key not accepted: {0}")]
    KeyNotAccepted(&'static str),
    /// An algorithm that does not go with the key, or is not accepted at all.
    #[error("algorithm not accepted: {0}")]
    AlgNotAllowed(&'static str),
    /// The signature does not verify under the key.
    #[error("signature does not verify")]
    SignatureInvalid,
    /// Decryption or authentication of sealed data failed.
    #[error("sealed data does not open")]
    OpenFailed,
    /// No certification path to one of the anchors.
    #[error("no certification path: {0}")]
    PathInvalid(#[from] PathError),
    /// A JOSE header whose members would change how the rest is read (RFC 7515 section 4.1.11).
    #[error("the JOSE header has a member that is not understood and may not be ignored")]
    Critical,
    /// A JSON object names one member twice.
    #[error("member {0:?} appears twice")]
    DuplicateMember(String),
    /// A JSON document deeper or wider than the limits.
    #[error("JSON exceeds the limit on {0}")]
    JsonLimit(&'static str),
    /// The provider failed (out of entropy, internal error).
    #[error("cryptographic provider failed: {0}")]
    Provider(&'static str),
}

//! The attestation protocol on the wire: two messages and their answers, CBOR with versioned media types.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::host::{Bundle, Registration};

/// Where a host asks for a challenge.
pub const CHALLENGE_PATH: &str = "/v1/attest/challenge";
/// Where a host sends its evidence.
pub const EVIDENCE_PATH: &str = "/v1/attest/evidence";
/// Media type of [`ChallengeRequest`].
pub const CHALLENGE_REQUEST: &str = "application/vnd.touchmark.challenge-request.v1+cbor";
/// Media type of [`Challenge`].
pub const CHALLENGE: &str = "application/vnd.touchmark.challenge.v1+cbor";
/// Media type of a second message (see [`crate::frame`]).
pub const MESSAGE: &str = "application/vnd.touchmark.message.v1";
/// Media type of [`Admission`].
pub const ADMISSION: &str = "application/vnd.touchmark.admission.v1+cbor";

/// Largest first message, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Largest answer, in bytes.
pub const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Message 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    /// Media type of the evidence that will follow.
    pub media_type: String,
    /// How the host introduces itself.
    pub introduction: Introduction,
}

/// How a host introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Introduction {
    /// By its endorsement keys and a new attestation key: the platform's opening.
    Opening(ByteBuf),
    /// By the Name of an attestation key that was activated before.
    Known(ByteBuf),
}

/// The answer to message 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The trust domain, an origin.
    pub trust_domain: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the root that the server's chain ends in. A host compares it with what it
    /// pins and with what it saw.
    pub anchor: ByteArray<32>,
    /// The challenge's id.
    pub id: ByteArray<16>,
    /// The nonce.
    pub nonce: ByteArray<32>,
    /// To be returned unchanged.
    pub cookie: ByteBuf,
    /// What to activate; absent where the attestation key is known.
    pub activation: Option<SealedSecret>,
    /// Registers to quote: TCG algorithm identifier and numbers.
    pub selection: Vec<(u16, Vec<u8>)>,
    /// One offset per log.
    pub log_offsets: Vec<u64>,
    /// Seconds until it expires.
    pub expires_in: u64,
}

/// A secret that only one device can open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    /// Name of the endorsement key it is sealed to.
    pub endorsement_name: ByteBuf,
    /// TPM2B_ID_OBJECT.
    pub credential_blob: ByteBuf,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: ByteBuf,
}

/// The offer section of a host's message 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Public area of the attestation key; absent where it is on record.
    pub attestation_public: Option<ByteBuf>,
    /// Public area of the key to be certified.
    pub key: ByteBuf,
}

/// The answer to message 2: the host is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// The host's record.
    pub host: String,
    /// Its name, as the operator calls it.
    pub name: String,
    /// The identifier in its certificate.
    pub identifier: String,
    /// Certificates, the host's first, without the root.
    pub chain: Vec<ByteBuf>,
    /// End of validity of the host's certificate, seconds since the epoch.
    pub not_after: u64,
    /// The trust bundle.
    pub bundle: Bundle,
    /// What this host may ask for.
    pub registrations: Vec<Registration>,
}

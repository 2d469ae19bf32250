//! What a host with a TPM sends, as data. Both ends share these shapes; only `attestors/tpm` gives them meaning.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Media type of TPM evidence.
pub const MEDIA_TYPE: &str = "application/vnd.touchmark.tpm-evidence.v1+cbor";
/// Most endorsement keys in one opening.
pub const MAX_ENDORSEMENTS: usize = 4;

/// The first message of a host whose attestation key is not on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmOpening {
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_public: ByteBuf,
    /// Endorsement keys, in the host's order of preference; at most [`MAX_ENDORSEMENTS`].
    pub endorsements: Vec<TpmEndorsement>,
}

/// One endorsement key with what its maker said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEndorsement {
    /// TPMT_PUBLIC of the endorsement key.
    pub public: ByteBuf,
    /// The endorsement certificate, DER.
    pub certificate: Option<ByteBuf>,
    /// Certificates between it and the maker's root, DER.
    pub intermediates: Vec<ByteBuf>,
}

/// An attestation structure and the signature over it, as the TPM marshalled them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmAttestation {
    /// TPMS_ATTEST.
    pub attest: ByteBuf,
    /// TPMT_SIGNATURE.
    pub signature: ByteBuf,
}

/// The certification of one offered key and the proof of possession of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmCertification {
    /// TPM2_Certify of the key by the attestation key.
    pub certify: TpmAttestation,
    /// The key's signature over [`crate::pop_message`], `r ‖ s`.
    pub possession: ByteBuf,
}

/// The value of one register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmPcrValue {
    /// TCG algorithm identifier of the bank.
    pub bank: u16,
    /// Register number.
    pub index: u8,
    /// The value.
    pub value: ByteBuf,
}

/// Evidence: what is made once the binding is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEvidence {
    /// The quote; absent where only keys are certified.
    pub quote: Option<TpmAttestation>,
    /// One certification per offered key, in the order of the offer.
    pub certifications: Vec<TpmCertification>,
    /// Values of the quoted registers: they explain a refusal, and are believed only as far as the quote confirms them.
    pub pcr_values: Vec<TpmPcrValue>,
}

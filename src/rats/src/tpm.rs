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
    /// The attestation key. A certificate comes along where a cloud certified this one.
    pub attestation: TpmDeviceKey,
    /// Endorsement keys, in the host's order of preference; at most [`MAX_ENDORSEMENTS`].
    pub endorsements: Vec<TpmDeviceKey>,
}

/// A key of the device itself with what its maker said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmDeviceKey {
    /// TPMT_PUBLIC.
    pub public: ByteBuf,
    /// The certificate of the key, DER.
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

/// The count of resets in a TPMS_ATTEST that this host's own TPM has just made (TPM 2.0 part 2, section 10.12.8). Nothing is
/// verified: whoever believes a TPM that is not his own asks an appraiser.
pub fn own_reset_count(attest: &[u8]) -> Option<u32> {
    // Magic and type, then two sized buffers, then the clock.
    let mut rest = attest.get(6..)?;
    for _ in 0..2 {
        let (size, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_be_bytes(*size))..)?;
    }
    let (count, _) = rest.get(8..)?.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*count))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_resets_stands_after_signer_nonce_and_clock() {
        let mut attest = vec![0xff, b'T', b'C', b'G', 0x80, 0x18];
        attest.extend([0, 2, 7, 7, 0, 3, 1, 2, 3]);
        attest.extend([0; 8]);
        attest.extend([0, 0, 1, 2]);
        assert_eq!(own_reset_count(&attest), Some(258));
        for length in 0..attest.len() {
            assert_eq!(own_reset_count(&attest[..length]), None, "{length}");
        }
    }
}

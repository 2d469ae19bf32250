//! The attestation key: judged by its public area before any secret is made for it.
//!
//! A TPM activates a credential for a software key that was loaded from outside just as happily: the attributes are
//! what stops that. `restricted` is what makes the magic number in an attestation mean something.

use touchmark_rats::{Check, Reason};

use crate::public_area::{AreaError, Attributes, PublicArea};

const REQUIRED: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::RESTRICTED
    | Attributes::SIGN;
const FORBIDDEN: u32 =
    Attributes::DECRYPT | Attributes::X509_SIGN | Attributes::ENCRYPTED_DUPLICATION | Attributes::RESERVED;

const NAME: &str = "tpm.attestation_key";

/// Reads and judges an attestation key.
pub(crate) fn judge(public: &[u8]) -> Result<PublicArea, Check> {
    let refuse = |reason, found: String| {
        Check::failed(
            NAME,
            reason,
            "a restricted signing key that the TPM made and that cannot leave it",
            found,
            "make the attestation key with touchmark's own agent; a key loaded from outside is never accepted",
        )
    };
    let area = PublicArea::parse(public).map_err(|error| match error {
        AreaError::Malformed => refuse(Reason::Malformed, error.to_string()),
        AreaError::NameAlgorithm => refuse(Reason::WeakHash, error.to_string()),
        AreaError::NotAccepted(_) => refuse(Reason::KeyInvalid, error.to_string()),
    })?;
    if !area.attributes.has(REQUIRED) || area.attributes.has_any(FORBIDDEN) {
        return Err(refuse(
            Reason::AttestationKeyAttributes,
            format!("attributes {}", area.attributes),
        ));
    }
    match area.scheme_hash {
        None => Err(refuse(
            Reason::AlgNotAllowed,
            "a key without a signing scheme".into(),
        )),
        Some(hash) if hash.is_weak() => {
            Err(refuse(Reason::WeakHash, format!("a scheme with {}", hash.name())))
        }
        Some(_) => Ok(area),
    }
}

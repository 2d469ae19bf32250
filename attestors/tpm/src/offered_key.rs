//! Keys offered for certification: made in the TPM, not exportable, sign only; a host's own key usable only in the boot
//! state that was quoted.

use touchmark_crypto::HashAlg;
use touchmark_rats::{Check, PcrSelection, Reason};

use crate::{
    attest::marshal_selection,
    public_area::{Attributes, PublicArea},
};

const REQUIRED: u32 =
    Attributes::FIXED_TPM | Attributes::FIXED_PARENT | Attributes::SENSITIVE_DATA_ORIGIN | Attributes::SIGN;
const FORBIDDEN: u32 = Attributes::RESTRICTED
    | Attributes::DECRYPT
    | Attributes::X509_SIGN
    | Attributes::ENCRYPTED_DUPLICATION
    | Attributes::RESERVED;

/// Checks the attributes of an offered key.
pub(crate) fn attributes(area: &PublicArea) -> Check {
    const NAME: &str = "tpm.key.attributes";
    let attributes = area.attributes;
    if attributes.has(REQUIRED) && !attributes.has_any(FORBIDDEN) {
        return Check::passed(NAME, attributes.to_string());
    }
    Check::failed(
        NAME,
        Reason::KeyNotHardware,
        "fixedTPM, fixedParent, sensitiveDataOrigin and sign; neither restricted, decrypt nor x509sign",
        attributes.to_string(),
        "offer a key that the agent made in the TPM; imported and exportable keys are never certified",
    )
}

/// Checks that a key answers only in the boot state with this PCR digest: the policy is one PolicyPCR over exactly the
/// quoted registers, and neither the empty password nor the administrator can go around it.
pub(crate) fn sealed_to_boot(
    area: &PublicArea,
    selection: &PcrSelection,
    pcr_digest: Option<&[u8]>,
) -> Check {
    const NAME: &str = "tpm.key.boot_policy";
    let Some(pcr_digest) = pcr_digest else {
        return Check::failed(
            NAME,
            Reason::KeyPolicy,
            "register values, since the key's policy is in another hash than the quote",
            "none",
            "send the values of the quoted registers",
        );
    };
    let expected = policy_pcr(area.name_alg, selection, pcr_digest);
    let open = area
        .attributes
        .has_any(Attributes::USER_WITH_AUTH | Attributes::ADMIN_WITH_POLICY);
    if !open && area.auth_policy == expected {
        return Check::passed(NAME, "use is sealed to the quoted registers");
    }
    let found = if open {
        format!("attributes {}", area.attributes)
    } else {
        format!("authPolicy {}", hex::encode(&area.auth_policy))
    };
    Check::failed(
        NAME,
        Reason::KeyPolicy,
        format!(
            "userWithAuth and adminWithPolicy clear, authPolicy {}",
            hex::encode(expected)
        ),
        found,
        "let the agent make a new host key; if this repeats, a register moves between key creation and quote",
    )
}

/// The policy digest after one TPM2_PolicyPCR (part 3, 23.7).
fn policy_pcr(hash: HashAlg, selection: &PcrSelection, pcr_digest: &[u8]) -> Vec<u8> {
    const TPM_CC_POLICY_PCR: u32 = 0x17f;
    hash.digest(&[
        &vec![0; hash.len()],
        &TPM_CC_POLICY_PCR.to_be_bytes(),
        &marshal_selection(selection),
        pcr_digest,
    ])
}

//! Endorsement keys and the makers that vouch for them (TCG EK Credential Profile 2.5).

use touchmark_crypto::{
    PublicKey,
    x509::{Anchors, Certificate, PathError, Usage, verify_path},
};
use touchmark_rats::{Candidate, Check, MakerKind, Reason, Voucher};

use crate::public_area::{ALG_AES, ALG_CFB, ALG_NULL, AreaError, Attributes, PublicArea};

/// A maker of TPMs whose roots are pinned.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Name in configuration and in claims.
    pub name: String,
    /// Its roots.
    pub anchors: Anchors,
    /// What it vouches for.
    pub kind: MakerKind,
    /// Whether it is a simulation.
    pub simulated: bool,
}

/// The low-range templates (L-1, L-2): use takes PolicySecret of the endorsement hierarchy.
const ATTRIBUTES_LOW: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::ADMIN_WITH_POLICY
    | Attributes::RESTRICTED
    | Attributes::DECRYPT;
/// The high-range templates (H-1 and up) set userWithAuth as well and use PolicyB.
const ATTRIBUTES_HIGH: u32 = ATTRIBUTES_LOW | Attributes::USER_WITH_AUTH;
/// PolicySecret(endorsement), SHA-256.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyOR(PolicyA, PolicyAuthorizeNV), SHA-256.
const POLICY_B: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3,
    0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE_USAGE: &str = "2.23.133.8.1";
/// tcg-at-tpmManufacturer, tcg-at-tpmModel, tcg-at-tpmVersion.
const TCG_NAMES: [&str; 3] = ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"];

/// Reads an endorsement key and checks that it is of a TCG template, so that only a TPM can open what is sealed to it.
pub(crate) fn template(public: &[u8]) -> Result<PublicArea, Check> {
    let refuse = |reason, found: String| {
        Check::failed(
            "tpm.endorsement_key.template",
            reason,
            "a key of a TCG EK template: restricted decryption key, fixed to its TPM, AES-128-CFB",
            found,
            "let the agent use the endorsement key that the maker certified",
        )
    };
    let area = PublicArea::parse(public).map_err(|error| match error {
        AreaError::Malformed => refuse(Reason::Malformed, error.to_string()),
        AreaError::NameAlgorithm => refuse(Reason::WeakHash, error.to_string()),
        AreaError::NotAccepted(_) => refuse(Reason::KeyInvalid, error.to_string()),
    })?;
    let low = area.attributes.0 & !Attributes::NO_DA == ATTRIBUTES_LOW && area.auth_policy == POLICY_A;
    let high = area.attributes.0 & !Attributes::NO_DA == ATTRIBUTES_HIGH && area.auth_policy == POLICY_B;
    if !low && !high {
        let found = format!(
            "attributes {}, authPolicy {}",
            area.attributes,
            hex::encode(&area.auth_policy)
        );
        return Err(refuse(Reason::EndorsementTemplate, found));
    }
    if area.symmetric != (ALG_AES, 128, ALG_CFB) || area.scheme != ALG_NULL {
        return Err(refuse(
            Reason::EndorsementTemplate,
            "another inner cipher or a signing scheme".into(),
        ));
    }
    Ok(area)
}

/// Whether a pinned maker vouches for the candidate. No certificate: nobody does, which is not an error.
pub(crate) fn vouch(candidate: &Candidate, makers: &[Maker], now: u64) -> Result<Option<Voucher>, Check> {
    let area = template(&candidate.public)?;
    let Some(der) = &candidate.certificate else {
        return Ok(None);
    };
    let refuse = |reason, expected: &str, found: String, remedy: &str| {
        Check::failed("tpm.endorsement_certificate", reason, expected, found, remedy)
    };
    let certificate = Certificate::parse(der).map_err(|error| {
        refuse(
            Reason::Malformed,
            "an X.509 certificate",
            error.to_string(),
            "read the certificate from the TPM again",
        )
    })?;
    let key = PublicKey::from_endorsement_spki(&certificate.spki).map_err(|error| {
        refuse(
            Reason::KeyInvalid,
            "an RSA, P-256 or P-384 key",
            error.to_string(),
            "ask the maker about this chip",
        )
    })?;
    if key != area.key {
        return Err(refuse(
            Reason::EndorsementMismatch,
            "a certificate for the endorsement key that was presented",
            format!(
                "a certificate for another key (subject {})",
                subject(&certificate)
            ),
            "the certificate does not belong to this TPM: read it again, and treat a mismatch that stays as an attack",
        ));
    }
    let (maker, anchor) = path(&certificate, candidate, makers, now).map_err(|error| {
        let found = printable(&format!("{error} (issuer {})", certificate.issuer));
        match error {
            PathError::Expired | PathError::NotYetValid => refuse(
                Reason::CertExpired,
                "a certificate within its validity",
                found,
                "check the server's clock",
            ),
            PathError::Usage => refuse(
                Reason::Eku,
                "extended key usage tcg-kp-EKCertificate (2.23.133.8.1)",
                found,
                "this is not an endorsement certificate",
            ),
            _ => refuse(
                Reason::PathInvalid,
                "a chain to the root of a pinned maker",
                found,
                "if you trust this maker, add its root under [[tpm.maker]] in server.toml; otherwise this chip is not \
                 what it claims",
            ),
        }
    })?;
    if !certificate
        .extended_key_usages
        .iter()
        .any(|oid| oid == EK_CERTIFICATE_USAGE)
    {
        return Err(refuse(
            Reason::Eku,
            "extended key usage tcg-kp-EKCertificate (2.23.133.8.1)",
            "a certificate without it".into(),
            "this is not an endorsement certificate of the TCG profile",
        ));
    }
    if !TCG_NAMES.iter().all(|oid| {
        certificate
            .directory_sans
            .iter()
            .any(|attribute| attribute.oid == *oid)
    }) {
        return Err(refuse(
            Reason::Eku,
            "TPM manufacturer, model and version in the SubjectAltName",
            "a certificate without them".into(),
            "this is not an endorsement certificate of the TCG profile",
        ));
    }
    Ok(Some(Voucher {
        maker: maker.name.clone(),
        kind: maker.kind,
        simulated: maker.simulated,
        anchor,
    }))
}

fn path<'a>(
    certificate: &Certificate,
    candidate: &Candidate,
    makers: &'a [Maker],
    now: u64,
) -> Result<(&'a Maker, [u8; 32]), PathError> {
    let mut telling = PathError::UnknownIssuer;
    for maker in makers {
        match verify_path(
            &certificate.der,
            &candidate.intermediates,
            &maker.anchors,
            Usage::EndorsementKey,
            now,
        ) {
            Ok(index) => {
                let root = maker.anchors.certificates().get(index);
                return Ok((maker, root.map(Certificate::spki_digest).unwrap_or_default()));
            }
            // A path that was found but is expired says more than one that was not found.
            Err(PathError::UnknownIssuer) => {}
            Err(error) => telling = error,
        }
    }
    Err(telling)
}

/// What a certificate says, fit for a terminal and a log: nobody has vouched for it.
fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

fn subject(certificate: &Certificate) -> String {
    let values: Vec<&str> = certificate
        .directory_sans
        .iter()
        .map(|attribute| attribute.value.as_str())
        .collect();
    if values.is_empty() {
        certificate.subject.clone()
    } else {
        values.join(" ")
    }
}

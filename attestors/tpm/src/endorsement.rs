//! Endorsement keys, and the makers that vouch for a device by a certificate of one of its keys (TCG EK Credential Profile 2.5).

use serde_bytes::{ByteArray, ByteBuf};
use touchmark_crypto::{
    HashAlg, KeyKind,
    x509::{DeviceAnchors, DeviceCertificate},
};
use touchmark_rats::{Candidate, CertifiedKey, Check, MakerKind, Reason, Voucher};

use crate::{
    attestation_key,
    certificate::{self, CertificateUse, printable},
    public_area::{ALG_AES, ALG_CFB, ALG_NULL, AreaError, Attributes, PublicArea},
};

/// Most intermediates that a host presents.
const MAX_PRESENTED: usize = 4;

/// A maker of TPMs whose roots are pinned.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Name in configuration and in claims.
    pub name: String,
    /// Its roots.
    pub anchors: DeviceAnchors,
    /// Certificates between its roots and its chips, where the chips do not bring them. They are believed no more than those
    /// that come along.
    pub intermediates: DeviceAnchors,
    /// What it vouches for.
    pub kind: MakerKind,
    /// Whether it is a simulation.
    pub simulated: bool,
    /// Whether its certificates lack the extended key usage and, those of endorsement keys, the names of the profile, as Google Cloud's do.
    pub bare_certificates: bool,
    /// Whether it certifies attestation keys, as clouds do. Of others, a certificate for a key that signs says nothing about where that key
    /// is.
    pub attestation_certificates: bool,
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

/// PolicyOR(PolicyA, PolicyAuthorizeNV), SHA-384: of the P-384 template (H-3), which the low range does not have.
const POLICY_B_384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07,
    0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47,
    0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// Reads an endorsement key and checks that it is of a TCG template, so that only a TPM can open what is sealed to it.
pub(crate) fn template(public: &[u8]) -> Result<PublicArea, Check> {
    let refuse = |reason, found: String| {
        Check::failed(
            "tpm.endorsement_key.template",
            reason,
            "a key of a TCG EK template: restricted decryption key, fixed to its TPM, AES-CFB of the template's length",
            found,
            "let the agent use the endorsement key that the maker certified",
        )
    };
    let area = PublicArea::parse(public).map_err(|error| match error {
        AreaError::Malformed => refuse(Reason::Malformed, error.to_string()),
        AreaError::NameAlgorithm => refuse(Reason::WeakHash, error.to_string()),
        AreaError::NotAccepted(_) => refuse(Reason::KeyInvalid, error.to_string()),
    })?;
    let attributes = area.attributes.0 & !Attributes::NO_DA;
    let policy: &[u8] = match (area.key.kind(), area.name_alg, attributes) {
        (KeyKind::P384, HashAlg::Sha384, ATTRIBUTES_HIGH) => &POLICY_B_384,
        (_, HashAlg::Sha256, ATTRIBUTES_LOW) => &POLICY_A,
        (_, HashAlg::Sha256, ATTRIBUTES_HIGH) => &POLICY_B,
        _ => &[],
    };
    if policy.is_empty() || area.auth_policy != policy {
        let found = format!(
            "attributes {}, authPolicy {}",
            area.attributes,
            hex::encode(&area.auth_policy)
        );
        return Err(refuse(Reason::EndorsementTemplate, found));
    }
    let inner = if area.name_alg == HashAlg::Sha384 {
        256
    } else {
        128
    };
    if area.symmetric != (ALG_AES, inner, ALG_CFB) || area.scheme != ALG_NULL {
        return Err(refuse(
            Reason::EndorsementTemplate,
            "another inner cipher or a signing scheme".into(),
        ));
    }
    Ok(area)
}

/// A tpmManufacturer, `id:` and four characters in hexadecimal, in plain text; whatever else it is, short.
fn manufacturer(named: &str) -> String {
    let characters = named
        .strip_prefix("id:")
        .and_then(|digits| hex::decode(digits).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let plain = characters.as_deref().unwrap_or(named);
    plain
        .trim_end_matches(['\0', ' '])
        .chars()
        .filter(char::is_ascii_graphic)
        .take(16)
        .collect()
}

/// Most bytes of a serial number that are looked at: more than any text allows (RFC 5280 section 4.1.2.2: 20).
const MAX_SERIAL: usize = 40;

impl Maker {
    /// Whether it is believed about such keys.
    pub fn certifies(&self, certified: CertifiedKey) -> bool {
        self.usage(certified).is_some()
    }

    /// As what a certificate of one of its devices' keys is read; `None` where it does not certify such keys.
    fn usage(&self, certified: CertifiedKey) -> Option<CertificateUse> {
        match certified {
            CertifiedKey::EndorsementKey if self.bare_certificates => Some(CertificateUse::BareEndorsement),
            CertifiedKey::EndorsementKey => Some(CertificateUse::Endorsement),
            CertifiedKey::AttestationKey if !self.attestation_certificates => None,
            CertifiedKey::AttestationKey if self.bare_certificates => Some(CertificateUse::BareAttestation),
            CertifiedKey::AttestationKey => Some(CertificateUse::Attestation),
        }
    }
}

/// What is said where the certificate of a key does not hold.
struct Words {
    usage: CertificateUse,
    expected: &'static str,
    nobody: &'static str,
    pin: &'static str,
}

const ENDORSEMENT: Words = Words {
    usage: CertificateUse::Endorsement,
    expected: "a certificate for the endorsement key that was presented",
    nobody: "no maker is pinned",
    pin: "add the root of this maker under [[tpm.maker]] in server.toml",
};
const ATTESTATION: Words = Words {
    usage: CertificateUse::Attestation,
    expected: "a certificate for the attestation key that was presented",
    nobody: "no maker is pinned that certifies attestation keys",
    pin: "add the root of this cloud under [[tpm.maker]] in server.toml, with attestation_certificates = true",
};

/// Whether a pinned maker vouches for the candidate. No certificate: nobody does, which is not an error.
pub(crate) fn vouch(candidate: &Candidate, makers: &[Maker], now: u64) -> Result<Option<Voucher>, Check> {
    let endorsement = template(&candidate.public)?;
    let Some(presented) = &candidate.certificate else {
        return Ok(None);
    };
    let certified = presented.certified();
    // Where nobody is believed about attestation keys, their certificates say nothing, and nothing is wrong with them.
    if certified == CertifiedKey::AttestationKey && !makers.iter().any(|maker| maker.certifies(certified)) {
        return Ok(None);
    }
    let (words, area) = match &presented.attestation_public {
        None => (&ENDORSEMENT, endorsement),
        Some(public) => (&ATTESTATION, attestation_key::judge(public)?),
    };
    let (certificate, key) = certificate::read(&presented.der, words.usage)?;
    let names = words.usage.names();
    if key != area.key {
        return Err(Check::failed(
            names.key,
            Reason::EndorsementMismatch,
            words.expected,
            format!(
                "a certificate for another key (subject {})",
                printable(&certificate.label())
            ),
            "the certificate does not belong to this TPM: read it again, and treat a mismatch that stays as an attack",
        ));
    }
    if presented.intermediates.len() > MAX_PRESENTED {
        return Err(Check::failed(
            names.path,
            Reason::PathInvalid,
            format!("at most {MAX_PRESENTED} certificates beside that of the key"),
            presented.intermediates.len().to_string(),
            "give the service the maker's intermediates in a file, under [[tpm.maker]] in server.toml",
        ));
    }
    // What came along and cannot be read helps nobody, and harms nobody.
    let along: Vec<DeviceCertificate> = presented
        .intermediates
        .iter()
        .filter_map(|der| DeviceCertificate::parse(der).ok())
        .collect();
    let mut telling: Option<Check> = None;
    for maker in makers {
        let Some(usage) = maker.usage(certified) else {
            continue;
        };
        let known = maker.intermediates.certificates();
        let helpers: Vec<&DeviceCertificate> = along.iter().chain(known).collect();
        let judged = certificate::judge(
            certificate.clone(),
            key.clone(),
            &helpers,
            &maker.anchors,
            usage,
            now,
        );
        match judged {
            Ok(chip) => {
                let root = maker.anchors.certificates().get(chip.path.anchor);
                let serial = &chip.certificate.facts.serial;
                return Ok(Some(Voucher {
                    manufacturer: chip.names()[0].map(manufacturer).unwrap_or_default(),
                    serial: ByteBuf::from(serial.get(..MAX_SERIAL).unwrap_or(serial)),
                    issuers: chip.path.issuers.into_iter().map(ByteArray::new).collect(),
                    maker: maker.name.clone(),
                    kind: maker.kind,
                    certified,
                    simulated: maker.simulated,
                    anchor: root.map(|root| root.facts.spki_digest()).unwrap_or_default(),
                }));
            }
            // A path that was found but is expired says more than one that was not found.
            Err(check) => {
                let found_one = check.reason() != Some(Reason::PathInvalid);
                if found_one || telling.is_none() {
                    telling = Some(check);
                }
            }
        }
    }
    Err(telling.unwrap_or_else(|| {
        Check::failed(
            names.path,
            Reason::PathInvalid,
            "a chain to the root of a pinned maker",
            printable(&format!("{} (issuer {})", words.nobody, certificate.facts.issuer)),
            words.pin,
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manufacturers_are_named_as_in_the_registry_of_vendors() {
        for (named, plain) in [
            ("id:494E5443", "INTC"),
            ("id:53544D20", "STM"),
            ("id:49465800", "IFX"),
            ("id:4E544300", "NTC"),
            ("id:zz", "id:zz"),
            ("IFX", "IFX"),
        ] {
            assert_eq!(manufacturer(named), plain);
        }
    }
}

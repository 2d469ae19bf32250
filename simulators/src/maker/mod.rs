//! The test maker: a root, an intermediate, and the EK certificates that it signs (TCG EK Credential Profile
//! for TPM Family 2.0, section 3).
//!
//! Validity is fixed (2024 to 2049), so that no clock is read and recorded evidence stays good.

pub mod der;
mod store;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PublicKeyData, date_time_ymd,
};

use crate::ek::EkKind;
use crate::error::SimError;
use crate::primary::PublicPart;

/// What the certificates say about the TPM: the manufacturer's registered id (here the bytes `TMKS`).
const MANUFACTURER: &str = "id:544D4B53";
const MODEL: &str = "touchmark-sim";
const VERSION: &str = "id:00010000";
/// tcg-kp-EKCertificate.
const EK_CERTIFICATE_PURPOSE: [u64; 5] = [2, 23, 133, 8, 1];
/// tcg-kp-AIKCertificate.
const AK_CERTIFICATE_PURPOSE: [u64; 5] = [2, 23, 133, 8, 3];
const SUBJECT_DIRECTORY_ATTRIBUTES: [u64; 4] = [2, 5, 29, 9];
const SUBJECT_ALTERNATIVE_NAME: [u64; 4] = [2, 5, 29, 17];

/// A certificate in both encodings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// DER.
    pub der: Vec<u8>,
    /// PEM.
    pub pem: String,
}

impl From<Certificate> for Encoded {
    fn from(certificate: Certificate) -> Self {
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
        }
    }
}

/// A maker of TPMs for tests.
pub struct Maker {
    root: Encoded,
    intermediate: Encoded,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Maker").finish_non_exhaustive()
    }
}

/// The keys and certificates that make a maker, as [`store`] keeps them.
struct Parts {
    root_key: KeyPair,
    root: String,
    intermediate_key: KeyPair,
    intermediate: String,
}

impl Maker {
    /// A new maker, whose keys live as long as this value.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn fresh() -> Result<Self, SimError> {
        Self::from_parts(&Parts::make()?)
    }

    /// The maker that `folder` keeps. If the folder is empty or absent, a new one is made and kept there; files
    /// are readable by their owner only.
    ///
    /// # Errors
    /// When the folder cannot be used or has only a part of a maker.
    pub fn kept_in(folder: &std::path::Path) -> Result<Self, SimError> {
        Self::from_parts(&store::load_or_make(folder)?)
    }

    fn from_parts(parts: &Parts) -> Result<Self, SimError> {
        let key = KeyPair::try_from(parts.intermediate_key.serialized_der());
        let key = key.map_err(maker_error("intermediate key"))?;
        let params = authority_params("Intermediate CA", &parts.root_key, Some(0))?;
        Ok(Self {
            root: encoded(&parts.root, "root certificate")?,
            intermediate: encoded(&parts.intermediate, "intermediate certificate")?,
            issuer: Issuer::new(params, key),
        })
    }

    /// The root, which relying parties pin.
    #[must_use]
    pub fn root(&self) -> &Encoded {
        &self.root
    }

    /// The authority that signs EK certificates.
    #[must_use]
    pub fn intermediate(&self) -> &Encoded {
        &self.intermediate
    }

    /// The certificate of an endorsement key.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn certify(&self, kind: EkKind, key: &PublicPart) -> Result<Encoded, SimError> {
        let mut params = base_params()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![match kind {
            EkKind::Rsa2048 => KeyUsagePurpose::KeyEncipherment,
            EkKind::P256 => KeyUsagePurpose::KeyAgreement,
        }];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_CERTIFICATE_PURPOSE.to_vec())];
        let name = der::tpm_alternative_name(MANUFACTURER, MODEL, VERSION);
        let mut name = CustomExtension::from_oid_content(&SUBJECT_ALTERNATIVE_NAME, name);
        // The subject is empty, so the name counts (RFC 5280, section 4.2.1.6).
        name.set_criticality(true);
        let specification = der::tpm_specification("2.0", 0, 164);
        let specification = CustomExtension::from_oid_content(&SUBJECT_DIRECTORY_ATTRIBUTES, specification);
        params.custom_extensions = vec![name, specification];
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(maker_error("EK certificate"))?;
        Ok(certificate.into())
    }
}

impl Maker {
    /// The certificate of an attestation key, as a cloud issues it for a virtual machine.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn certify_attestation(&self, key: &PublicPart) -> Result<Encoded, SimError> {
        let mut params = base_params()?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Simulated virtual machine");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AK_CERTIFICATE_PURPOSE.to_vec())];
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(maker_error("AK certificate"))?;
        Ok(certificate.into())
    }
}

impl Parts {
    fn make() -> Result<Self, SimError> {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(maker_error("root key"))?;
        let root_params = authority_params("Root CA", &root_key, Some(1))?;
        let root = root_params
            .self_signed(&root_key)
            .map_err(maker_error("root certificate"))?;

        let intermediate_key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(maker_error("intermediate key"))?;
        let params = authority_params("Intermediate CA", &root_key, Some(0))?;
        let root_issuer = Issuer::from_params(&root_params, &root_key);
        let intermediate = params
            .signed_by(&intermediate_key, &root_issuer)
            .map_err(maker_error("intermediate certificate"))?;
        Ok(Self {
            root: root.pem(),
            intermediate: intermediate.pem(),
            root_key,
            intermediate_key,
        })
    }
}

fn base_params() -> Result<CertificateParams, SimError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(maker_error("certificate"))?;
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Names carry a mark of the root's key, so that two makers never have the same name.
fn authority_params(
    role: &str,
    root_key: &KeyPair,
    below: Option<u8>,
) -> Result<CertificateParams, SimError> {
    let mark = digest::digest(&digest::SHA256, root_key.der_bytes());
    let mark = hex::encode(&mark.as_ref()[..4]);
    let mut params = base_params()?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Touchmark Simulated TPM Maker");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Simulated TPM Maker {role} {mark}"));
    params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A certificate that is kept as PEM.
fn encoded(pem: &str, what: &'static str) -> Result<Encoded, SimError> {
    use rustls_pki_types::pem::PemObject;
    let der =
        rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| SimError::Maker {
            what,
            source: rcgen::Error::CouldNotParseCertificate,
        })?;
    Ok(Encoded {
        der: der.to_vec(),
        pem: pem.to_owned(),
    })
}

fn maker_error(what: &'static str) -> impl FnOnce(rcgen::Error) -> SimError {
    move |source| SimError::Maker { what, source }
}

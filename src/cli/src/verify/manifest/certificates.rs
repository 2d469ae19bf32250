//! Certificates: of TPM keys, and chains.

use touchmark_attestor_tpm::{CertificateUse, judge_certificate};
use touchmark_crypto::x509::{DeviceAnchors, DeviceCertificate, DeviceError, Sha1, verify_device_path};
use touchmark_rats::Reason;

use super::{case::Case, finding::Finding};

pub(super) fn endorsement(case: &Case) -> Result<Finding, String> {
    let mut der = one(case, "ek_cert")?;
    if let Some(contents) = case.optional("nv_content")? {
        match DeviceCertificate::in_nv(&contents) {
            Err(_) => return Ok(Finding::refused(Reason::Malformed)),
            Ok(read) if read != der => return Ok(Finding::refused(Reason::BindingMismatch)),
            Ok(read) => der = read,
        }
    }
    judge(case, &der, CertificateUse::Endorsement)
}

pub(super) fn attestation(case: &Case) -> Result<Finding, String> {
    judge(case, &one(case, "ak_cert")?, CertificateUse::Attestation)
}

fn judge(case: &Case, der: &[u8], usage: CertificateUse) -> Result<Finding, String> {
    let anchors = anchors(case)?;
    let intermediates = case.certificates("intermediate")?;
    Ok(
        match judge_certificate(der, &intermediates, &anchors, usage, case.time()?) {
            Ok(chip) => Finding::of(&chip.checks),
            Err(check) => Finding::of([&check]),
        },
    )
}

/// A chain outside of any device's profile: DER only, and no SHA-1.
pub(super) fn chain(case: &Case) -> Result<Finding, String> {
    Ok(path(
        &one(case, "certificate")?,
        &case.certificates("intermediate")?,
        &anchors(case)?,
        case.time()?,
    ))
}

/// Whether a chain holds.
pub(super) fn path(leaf: &[u8], intermediates: &[Vec<u8>], anchors: &DeviceAnchors, now: u64) -> Finding {
    let Ok(leaf) = DeviceCertificate::parse(leaf) else {
        return Finding::refused(Reason::Malformed);
    };
    let helpers: Vec<DeviceCertificate> = intermediates
        .iter()
        .filter_map(|der| DeviceCertificate::parse(der).ok())
        .collect();
    let helpers: Vec<&DeviceCertificate> = helpers.iter().collect();
    match verify_device_path(&leaf, &helpers, anchors, Sha1::Refused, now) {
        Ok(path) if path.deviations.is_empty() => Finding::default(),
        Ok(_) => Finding::refused(Reason::NotDer),
        Err(error) => Finding::refused(match error {
            DeviceError::Expired(_) | DeviceError::NotYetValid(_) => Reason::CertExpired,
            DeviceError::NotCa { .. } => Reason::IssuerNotCa,
            DeviceError::AlgNotAllowed("SHA-1") => Reason::WeakHash,
            DeviceError::AlgNotAllowed(_) => Reason::AlgNotAllowed,
            DeviceError::IssuerUnavailable(_) if anchors.is_empty() => Reason::IssuerUnavailable,
            _ => Reason::PathInvalid,
        }),
    }
}

pub(super) fn anchors(case: &Case) -> Result<DeviceAnchors, String> {
    let roots = case.certificates("root")?;
    DeviceAnchors::new(roots.iter().map(Vec::as_slice)).map_err(|error| format!("root: {error}"))
}

fn one(case: &Case, role: &str) -> Result<Vec<u8>, String> {
    let found = case.certificates(role)?.into_iter().next();
    found.ok_or_else(|| format!("there is no file of role {role}"))
}

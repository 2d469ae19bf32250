//! Certificates: of TPM keys, and chains.

use touchmark_attestor_tpm::{CertificateUse, ChipCertificate, judge_certificate};
use touchmark_crypto::{
    PublicKey,
    x509::{DeviceAnchors, DeviceCertificate, DeviceError, Habits, verify_device_path},
};
use touchmark_rats::Reason;

use super::{case::Case, finding::Finding};

/// Kinds of cases with certificates that an issuer could have revoked.
pub(super) const HAVE_ISSUERS: [&str; 4] = ["ek-cert", "ak-cert", "x509-chain", "hsm-attestation"];

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
    judge(case, &one(case, "ak_cert")?, CertificateUse::BareAttestation)
}

fn judge(case: &Case, der: &[u8], usage: CertificateUse) -> Result<Finding, String> {
    let anchors = match anchors(case)? {
        Ok(anchors) => anchors,
        Err(finding) => return Ok(finding),
    };
    let intermediates = case.certificates("intermediate")?;
    Ok(judged(der, &intermediates, &anchors, usage, case.time()?).0)
}

/// A certificate of a chip's key, with the names that a failed path has besides its reason.
pub(super) fn judged(
    der: &[u8],
    intermediates: &[Vec<u8>],
    anchors: &DeviceAnchors,
    usage: CertificateUse,
    now: u64,
) -> (Finding, Option<ChipCertificate>) {
    match judge_certificate(der, intermediates, anchors, usage, now) {
        Ok(chip) => {
            let mut finding = Finding::of(&chip.checks);
            // Whoever pins a root need not care for its dates; who is asked about a chain at a moment does.
            if anchors
                .certificates()
                .get(chip.path.anchor)
                .is_some_and(|anchor| !anchor.holds_at(now))
            {
                finding.refuse(Reason::CertExpired);
            }
            (finding, Some(chip))
        }
        Err(check) => {
            let mut finding = Finding::of([&check]);
            if check.name.ends_with(".path") {
                let failed = path(der, intermediates, anchors, Habits::OF_TPMS, now);
                failed.refused.into_iter().for_each(|name| finding.add(name));
            }
            if check.name.ends_with(".structure") {
                finding.refuse(Reason::NotDer);
            }
            if let (true, Ok(read)) = (check.name.ends_with(".profile"), DeviceCertificate::parse(der)) {
                other_use(&read, usage, &mut finding);
            }
            (finding, None)
        }
    }
}

/// A certificate for another use than that of a chip's key ends no path, and its key is the wrong one.
fn other_use(certificate: &DeviceCertificate, usage: CertificateUse, finding: &mut Finding) {
    let fits = match usage {
        CertificateUse::Attestation | CertificateUse::BareAttestation => certificate.may_sign(),
        CertificateUse::Endorsement | CertificateUse::BareEndorsement => certificate.may_receive_secrets(),
    };
    if certificate.facts.is_ca {
        finding.refuse(Reason::PathInvalid);
    }
    if certificate.facts.is_ca || !fits {
        finding.refuse(Reason::KeyInvalid);
    }
}

/// A chain outside of any device's profile: no BER, and no SHA-1.
pub(super) fn chain(case: &Case) -> Result<Finding, String> {
    let anchors = match anchors(case)? {
        Ok(anchors) => anchors,
        Err(finding) => return Ok(finding),
    };
    let leaf = one(case, "certificate")?;
    let intermediates = case.certificates("intermediate")?;
    let mut finding = path(&leaf, &intermediates, &anchors, Habits::NONE, case.time()?);
    if let Ok(leaf) = DeviceCertificate::parse(&leaf) {
        leaf_key(&leaf, &mut finding);
    }
    Ok(finding)
}

/// An RSA or elliptic-curve key that nobody should hold a certificate for. Keys of other kinds are not known here.
fn leaf_key(leaf: &DeviceCertificate, finding: &mut Finding) {
    /// rsaEncryption and id-ecPublicKey.
    const KNOWN: [&[u8]; 2] = [
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1],
    ];
    let is_known = KNOWN
        .iter()
        .any(|oid| leaf.facts.spki.windows(oid.len()).any(|window| window == *oid));
    match PublicKey::from_spki(&leaf.facts.spki) {
        Ok(key) if key.is_weak() => finding.refuse(Reason::WeakKey),
        Err(_) if is_known => finding.refuse(Reason::KeyInvalid),
        _ => {}
    }
}

/// Whether a chain holds.
pub(super) fn path(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    anchors: &DeviceAnchors,
    habits: Habits,
    now: u64,
) -> Finding {
    let Ok(leaf) = DeviceCertificate::parse(leaf) else {
        let mut finding = Finding::refused(Reason::Malformed);
        finding.refuse(Reason::NotDer);
        return finding;
    };
    let helpers: Vec<Option<DeviceCertificate>> = intermediates
        .iter()
        .map(|der| DeviceCertificate::parse(der).ok())
        .collect();
    let unread = helpers.iter().any(Option::is_none);
    let helpers: Vec<&DeviceCertificate> = helpers.iter().flatten().collect();
    let mut finding = Finding::default();
    match verify_device_path(&leaf, &helpers, anchors, habits, now) {
        Ok(path) => {
            // BER is what has a length that is not the shortest; other deviations are read as they are.
            let ber = path
                .deviations
                .iter()
                .any(|deviation| deviation.contains("length"));
            if ber {
                finding.refuse(Reason::NotDer);
                finding.refuse(Reason::Malformed);
            } else if !path.deviations.is_empty() {
                finding.note(Reason::NotDer);
            }
            if anchors
                .certificates()
                .get(path.anchor)
                .is_some_and(|anchor| !anchor.holds_at(now))
            {
                finding.refuse(Reason::CertExpired);
            }
        }
        Err(error) => {
            let particular = match error {
                DeviceError::Expired(_) | DeviceError::NotYetValid(_) => Some(Reason::CertExpired),
                DeviceError::NotCa { .. } => Some(Reason::IssuerNotCa),
                DeviceError::AlgNotAllowed("SHA-1") => Some(Reason::WeakHash),
                DeviceError::AlgNotAllowed(_) => Some(Reason::AlgNotAllowed),
                DeviceError::IssuerUnavailable(_) => Some(Reason::IssuerUnavailable),
                DeviceError::SignatureInvalid(_) => Some(Reason::SignatureInvalid),
                DeviceError::KeyInvalid(_) => Some(Reason::KeyInvalid),
                DeviceError::UnknownCritical(_) | DeviceError::TooLong => None,
            };
            particular.into_iter().for_each(|reason| finding.refuse(reason));
            finding.refuse(Reason::PathInvalid);
            if anchors.is_empty() {
                finding.refuse(Reason::IssuerUnavailable);
            }
            if unread {
                finding.refuse(Reason::Malformed);
            }
        }
    }
    finding
}

/// The roots, or the refusal where one cannot be read.
pub(super) fn anchors(case: &Case) -> Result<Result<DeviceAnchors, Finding>, String> {
    let roots = case.certificates("root")?;
    Ok(DeviceAnchors::new(roots.iter().map(Vec::as_slice)).map_err(|_| {
        let mut finding = Finding::refused(Reason::Malformed);
        finding.refuse(Reason::PathInvalid);
        finding
    }))
}

fn one(case: &Case, role: &str) -> Result<Vec<u8>, String> {
    let found = case.certificates(role)?.into_iter().next();
    found.ok_or_else(|| format!("there is no file of role {role}"))
}

//! What hardware security modules say of keys, and files of keys that a TPM holds.

use touchmark_attestor_hsm::{AttestedKey, Format, Statement, judge};
use touchmark_crypto::x509::{DeviceAnchors, DeviceCertificate, Habits};
use touchmark_custody::tss2;
use touchmark_rats::{Check, Reason};

use super::{
    case::Case,
    certificates::{anchors, path},
    finding::Finding,
};

/// The maker of Marvell's modules, in the names of its roots; other roots are of owners.
const MARVELL: [&str; 2] = ["Cavium", "Marvell"];

pub(super) fn statement(case: &Case, format: Format) -> Result<Finding, String> {
    let bytes = case.file("hsm_attestation")?;
    let bytes = match format {
        Format::Marvell => bytes,
        _ => super::case::certificates(&bytes)
            .into_iter()
            .next()
            .unwrap_or_default(),
    };
    let all = match anchors(case)? {
        Ok(anchors) => anchors,
        Err(finding) => return Ok(finding),
    };
    let of_maker = |root: &DeviceCertificate| {
        format != Format::Marvell || MARVELL.iter().any(|maker| root.facts.subject.contains(maker))
    };
    let chosen = |maker: bool| {
        let roots = all.certificates().iter().filter(|root| of_maker(root) == maker);
        let ders: Vec<&[u8]> = roots.map(|root| root.facts.der.as_slice()).collect();
        DeviceAnchors::new(ders).map_err(|error| error.to_string())
    };
    let (makers, owners) = (chosen(true)?, chosen(false)?);
    let certificates = case.certificates("intermediate")?;
    let now = case.time()?;
    let wanted = Statement {
        format,
        bytes: &bytes,
        certificates: &certificates,
        makers: &makers,
        owners: case.requires("require_owner_chain").then_some(&owners),
    };
    Ok(match judge(&wanted, now) {
        Ok(attested) => accepted(case, &attested),
        Err(check) => {
            let mut finding = Finding::of([&check]);
            if check.name == "hsm.path" {
                let further = path(&bytes, &certificates, &makers, Habits::NONE, now);
                if format != Format::Marvell {
                    finding.extend(further);
                }
                finding.refuse(Reason::PathInvalid);
            }
            if check.reason() == Some(Reason::ClaimMissing) {
                finding.refuse(Reason::Malformed);
            }
            finding
        }
    })
}

/// What is demanded of a statement that holds.
fn accepted(case: &Case, attested: &AttestedKey) -> Finding {
    let mut checks: Vec<Check> = attested.checks.clone();
    let serial = case.param("expected_serial").map(|serial| match serial.as_str() {
        Some(text) => text.to_owned(),
        None => serial.to_string(),
    });
    checks.extend(serial.map(|serial| attested.has_serial(&serial)));
    checks.extend(case.requires("require_fips").then(|| attested.is_fips()));
    let mut finding = Finding::of(&checks);
    // Whoever pins a root need not care for its dates; who is asked about a chain at a moment does.
    if checks
        .iter()
        .any(|check| check.note() == Some(Reason::CertExpired))
    {
        finding.refuse(Reason::CertExpired);
    }
    finding
}

/// A TSS2 PRIVATE KEY file.
pub(super) fn key_file(case: &Case) -> Result<Finding, String> {
    Ok(match tss2::inspect(&case.file("tss2_key")?) {
        Ok(inspected) => Finding::of(&inspected.checks),
        Err(check) => {
            let mut finding = Finding::of([&check]);
            if check.reason() == Some(Reason::ParentUnusual) {
                finding.refuse(Reason::Malformed);
            }
            finding
        }
    })
}

//! The path from a module's certificate to a root that is pinned.

use touchmark_crypto::x509::{
    DeviceAnchors, DeviceCertificate, DeviceError, DevicePath, Habits, verify_device_path,
};
use touchmark_rats::{Check, Reason};

const NAME: &str = "hsm.path";

/// Finds the path, and adds what there is to know about it.
pub(crate) fn check(
    leaf: &DeviceCertificate,
    helpers: &[&DeviceCertificate],
    anchors: &DeviceAnchors,
    habits: Habits,
    now: u64,
    checks: &mut Vec<Check>,
) -> Result<DevicePath, Check> {
    let path =
        verify_device_path(leaf, helpers, anchors, habits, now).map_err(|error| refused(&error, anchors))?;
    let anchor = anchors.certificates().get(path.anchor);
    let root = anchor.map(DeviceCertificate::label).unwrap_or_default();
    checks.push(Check::passed(NAME, format!("a path to the pinned root {root}")));
    if anchor.is_some_and(|anchor| !anchor.holds_at(now)) {
        let found = "the root is pinned, and outside of its own dates";
        checks.push(Check::noted(NAME, Reason::CertExpired, found));
    }
    if path.issuer_without_ca {
        let found =
            "a certificate on the way issues others and does not say that it may, as this maker's modules do";
        checks.push(Check::noted(NAME, Reason::IssuerNotCa, found));
    }
    if !path.deviations.is_empty() {
        checks.push(Check::noted(NAME, Reason::NotDer, path.deviations.join(", ")));
    }
    Ok(path)
}

fn refused(error: &DeviceError, anchors: &DeviceAnchors) -> Check {
    let remedy = match error {
        DeviceError::Expired(_) | DeviceError::NotYetValid(_) => "check the clock, or say when with --at",
        _ => "if you trust this maker, pin its root; otherwise the statement is not what it claims",
    };
    Check::failed(
        NAME,
        Reason::of_path(error, anchors),
        "a chain to the root of a pinned maker",
        error.to_string(),
        remedy,
    )
}

/// The certificates among these that can be read.
pub(crate) fn readable(ders: &[Vec<u8>]) -> Vec<DeviceCertificate> {
    ders.iter()
        .filter_map(|der| DeviceCertificate::parse(der).ok())
        .collect()
}

//! What this host trusts: the roots it pins, and certificates below them.

use serde_bytes::ByteBuf;
use touchmark_api::host::Bundle;
use touchmark_crypto::x509::{Anchors, Certificate};
use touchmark_identity::WorkloadId;
use touchmark_tls::{Role, clock, peer};

use crate::{Config, attestation::AttestationError};

/// Checks a chain that was issued to this host: for the key of this SubjectPublicKeyInfo, below a pinned root, of the trust domain. Returns whom the
/// leaf names and when it ends.
pub(crate) fn own_certificate(
    config: &Config,
    chain: &[Vec<u8>],
    bundle: &Bundle,
    spki: &[u8],
) -> Result<(WorkloadId, u64), AttestationError> {
    let wrong = |what: String| AttestationError::Answer(what);
    let (leaf, between) = chain
        .split_first()
        .ok_or_else(|| wrong("no certificate".into()))?;
    let certificate = Certificate::parse(leaf).map_err(|error| wrong(error.to_string()))?;
    if certificate.spki != spki {
        return Err(wrong("a certificate for another key".into()));
    }
    let anchors = anchors(config, &bundle.x509)?;
    let domain = &config.pins.trust_domain;
    let (identifier, _) = peer(leaf, between, domain, &anchors, Role::Client, clock::now())
        .map_err(|error| wrong(error.to_string()))?;
    Ok((identifier, u64::try_from(certificate.not_after).unwrap_or(0)))
}

/// A bundle without the roots that this host does not pin: what it hands on is what it trusts itself.
pub(crate) fn pinned(config: &Config, bundle: &Bundle) -> Bundle {
    let mut bundle = bundle.clone();
    bundle.x509.retain(|der| {
        Certificate::parse(der).is_ok_and(|root| config.pins.roots.contains(&root.spki_digest()))
    });
    bundle
}

/// The roots of a bundle that this host pins; one that pins none is not believed.
fn anchors(config: &Config, roots: &[ByteBuf]) -> Result<Anchors, AttestationError> {
    let pinned: Vec<Vec<u8>> = roots
        .iter()
        .filter_map(|der| Certificate::parse(der).ok())
        .filter(|root| config.pins.roots.contains(&root.spki_digest()))
        .map(|root| root.der)
        .collect();
    if pinned.is_empty() {
        return Err(AttestationError::Answer(
            "the bundle holds no root that this host pins".into(),
        ));
    }
    Anchors::new(pinned).map_err(|error| AttestationError::Answer(error.to_string()))
}

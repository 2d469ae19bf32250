//! Peers judged by identifier: exactly one URI, parsed, in the trust domain expected, its chain ending in that trust
//! domain's anchors and no others (RFC 5280; draft-ietf-wimse-mutual-tls; X509-SVID section 5).

use touchmark_crypto::x509::{Anchors, Certificate, Usage, verify_path};
use touchmark_identity::{IdentifierError, TrustDomain, WorkloadId};

/// Which end of a connection the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It connected to us.
    Client,
    /// We connected to it.
    Server,
}

/// Why a peer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The certificate does not parse.
    #[error("certificate: {0}")]
    Malformed(String),
    /// Not exactly one URI in the SubjectAltName.
    #[error("{0} URIs in the SubjectAltName where one is expected")]
    UriCount(usize),
    /// The URI is not an identifier.
    #[error("identifier: {0}")]
    Identifier(String),
    /// An identifier of another trust domain.
    #[error("identifier is not in trust domain {0}")]
    TrustDomain(String),
    /// A leaf that may sign certificates, or may not sign handshakes.
    #[error("certificate is not a leaf for authentication")]
    LeafProfile,
    /// No path to an anchor.
    #[error("{0}")]
    Path(String),
}

/// The identifier of a peer whose chain holds at `now`, and the index of the anchor it ends in.
pub fn peer(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    domain: &TrustDomain,
    anchors: &Anchors,
    role: Role,
    now: u64,
) -> Result<(WorkloadId, usize), PeerError> {
    let certificate = Certificate::parse(leaf).map_err(|error| PeerError::Malformed(error.to_string()))?;
    let [uri] = certificate.uri_sans.as_slice() else {
        return Err(PeerError::UriCount(certificate.uri_sans.len()));
    };
    let identifier = domain.workload(uri).map_err(|error| match error {
        IdentifierError::OtherTrustDomain => PeerError::TrustDomain(domain.to_string()),
        error => PeerError::Identifier(error.to_string()),
    })?;
    if certificate.is_ca || certificate.can_sign_certificates || !certificate.digital_signature {
        return Err(PeerError::LeafProfile);
    }
    let usage = match role {
        Role::Client => Usage::Client,
        Role::Server => Usage::Server,
    };
    let anchor = verify_path(leaf, intermediates, anchors, usage, now)
        .map_err(|error| PeerError::Path(error.to_string()))?;
    Ok((identifier, anchor))
}

//! Path validation with only the anchors that are given (RFC 5280 section 6), by rustls-webpki.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algs};

use super::Certificate;
use crate::CryptoError;

/// Most intermediates accepted with a leaf.
pub const MAX_INTERMEDIATES: usize = 4;

/// Signature algorithms accepted in a path: no SHA-1, RSA from 2048 bits.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algs::ECDSA_P256_SHA256,
    algs::ECDSA_P256_SHA384,
    algs::ECDSA_P384_SHA256,
    algs::ECDSA_P384_SHA384,
    algs::RSA_PKCS1_2048_8192_SHA256,
    algs::RSA_PKCS1_2048_8192_SHA384,
    algs::RSA_PKCS1_2048_8192_SHA512,
    algs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No anchor, or no intermediate on the way to one, issued it.
    #[error("no issuer among the anchors and what came along")]
    UnknownIssuer,
    /// The leaf, or a certificate on the way, has ended.
    #[error("a certificate has expired")]
    Expired,
    /// The leaf, or a certificate on the way, has not begun.
    #[error("a certificate is not valid yet")]
    NotYetValid,
    /// The extended key usage of the leaf, or of a certificate on the way, does not allow this.
    #[error("the extended key usage does not allow this")]
    Usage,
    /// More intermediates than [`MAX_INTERMEDIATES`].
    #[error("more than {MAX_INTERMEDIATES} intermediates")]
    TooLong,
    /// Another reason, in the path builder's words.
    #[error("{0}")]
    Other(String),
}

impl From<webpki::Error> for PathError {
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidYet { .. } => Self::NotYetValid,
            webpki::Error::RequiredEkuNotFoundContext(_) => Self::Usage,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// What a leaf has to be good for. An extended key usage that is present must name it; that it is present is a rule
/// of the profile, checked by the caller on the [`Certificate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS server.
    Server,
    /// TLS client.
    Client,
    /// TPM endorsement key (2.23.133.8.1).
    EndorsementKey,
}

/// A set of trust anchors, parsed once.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<Certificate>,
}

impl Anchors {
    /// Anchors from DER certificates; one that does not parse, or is not a CA, is an error.
    pub fn new(ders: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, CryptoError> {
        let mut out = Self::default();
        for der in ders {
            let certificate = Certificate::parse(&der)?;
            if !certificate.is_ca {
                return Err(CryptoError::Malformed("anchor: not a CA certificate"));
            }
            let der = CertificateDer::from(der);
            let anchor = anchor_from_trusted_cert(&der).map_err(|_| CryptoError::Malformed("anchor"))?;
            out.anchors.push(anchor.to_owned());
            out.certificates.push(certificate);
        }
        Ok(out)
    }

    /// Whether there is no anchor, so that nothing verifies.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The certificates, in the order given.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// Validates `leaf` through `intermediates` to one of `anchors` at `now` (seconds since the epoch) and returns the
/// index of the anchor that the path ends in.
pub fn verify_path(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    anchors: &Anchors,
    usage: Usage,
    now: u64,
) -> Result<usize, PathError> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(PathError::TooLong);
    }
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf)?;
    let intermediates: Vec<_> = intermediates
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let usage = match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
        Usage::EndorsementKey => KeyUsage::required_if_present(TCG_KP_EK_CERTIFICATE),
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let path = leaf.verify_for_usage(
        ALGORITHMS,
        &anchors.anchors,
        &intermediates,
        now,
        usage,
        None,
        None,
    )?;
    let anchor = path.anchor();
    anchors
        .anchors
        .iter()
        .position(|candidate| {
            candidate.subject == anchor.subject
                && candidate.subject_public_key_info == anchor.subject_public_key_info
        })
        .ok_or(PathError::UnknownIssuer)
}

/// tcg-kp-EKCertificate, 2.23.133.8.1, as DER contents.
const TCG_KP_EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

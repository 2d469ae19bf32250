//! The one interface to a private key, wherever it lives.

use crate::{PublicKey, SigningAlg};

/// What a signature is for. Keys are bound to purposes: a key that answers for tokens does not sign TLS handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A TLS 1.3 CertificateVerify input (RFC 8446 section 4.4.3).
    TlsHandshake,
    /// The TBSCertificate of a certificate that this key issues.
    Certificate,
    /// A PKCS #10 request for this key.
    CertificateRequest,
    /// The signing input of a Workload Identity Token.
    Wit,
    /// The signing input of a Workload Proof Token.
    Wpt,
    /// Proof of possession of a key that is offered for certification.
    ProofOfPossession,
    /// An attestation result (EAR).
    AttestationResult,
}

/// Why a key did not sign. Whether trying again can help is part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The device or its helper is away or busy; the same call may succeed later.
    #[error("the key's device did not answer: {0}")]
    Retryable(String),
    /// The key does not answer for this purpose.
    #[error("the key is not for {0:?}")]
    Purpose(Purpose),
    /// The device does not hold the key any more: another has to take its place.
    #[error("the key is gone from its device: {0}")]
    Gone(String),
    /// The device refused, for good.
    #[error("the key's device refused: {0}")]
    Refused(String),
}

/// A private key that signs whole messages. The key may sit behind a socket and a slow chip: calls block, and are
/// made on device workers, never on an asynchronous thread.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// The algorithm of every signature this key makes.
    fn algorithm(&self) -> SigningAlg;

    /// Signs `message` (not a digest). ECDSA signatures come as fixed-length `r ‖ s`.
    fn sign(&self, purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

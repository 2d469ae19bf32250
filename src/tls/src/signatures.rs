//! Signatures in handshakes, as every verifier of ours checks them: TLS 1.3 only, by the provider.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::CertificateDer,
};

/// What a verifier of certificates leaves to the provider.
#[derive(Debug, Clone)]
pub struct Signatures(Arc<CryptoProvider>);

impl Signatures {
    /// By this provider.
    pub fn new(provider: &Arc<CryptoProvider>) -> Self {
        Self(Arc::clone(provider))
    }

    /// Refuses TLS 1.2, which is not spoken.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn tls12(&self) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    /// Verifies a CertificateVerify.
    ///
    /// # Errors
    ///
    /// The signature is not the certificate's.
    pub fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    /// The schemes that are accepted.
    pub fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

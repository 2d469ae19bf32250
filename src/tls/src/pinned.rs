//! A host's view of the server: the root is known only by its digest, comes with the chain, and is verified before
//! anything is sent.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use touchmark_crypto::{
    ct_eq,
    x509::{Anchors, Certificate},
};
use touchmark_identity::{TrustDomain, WorkloadId};

use crate::{Role, Signatures, peer};

/// What a host pins.
#[derive(Debug, Clone)]
pub struct Pins {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// SHA-256 of the SubjectPublicKeyInfo of each accepted root.
    pub roots: Vec<[u8; 32]>,
}

/// What a connection's handshake showed: the digest of the root that its chain ended in.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<[u8; 32]>>>);

impl Seen {
    /// The digest of the root of this connection's chain; `None` before the handshake.
    pub fn anchor(&self) -> Option<[u8; 32]> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Verifies the server against pins and notes the root it ended in.
#[derive(Debug)]
pub(crate) struct PinnedServer {
    pub(crate) pins: Pins,
    pub(crate) seen: Seen,
    pub(crate) signatures: Signatures,
}

impl PinnedServer {
    fn root(&self, intermediates: &[CertificateDer<'_>]) -> Option<Certificate> {
        let root = Certificate::parse(intermediates.last()?).ok()?;
        let digest = root.spki_digest();
        self.pins
            .roots
            .iter()
            .any(|pin| ct_eq(pin, &digest))
            .then_some(root)
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = self
            .root(intermediates)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let anchor = root.spki_digest();
        let refused = |text: String| Error::General(text);
        let anchors = Anchors::new([root.der]).map_err(|error| refused(error.to_string()))?;
        let between: Vec<Vec<u8>> = intermediates
            .iter()
            .take(intermediates.len() - 1)
            .map(|der| der.to_vec())
            .collect();
        let domain = &self.pins.trust_domain;
        let (identifier, _) = peer(
            end_entity,
            &between,
            domain,
            &anchors,
            Role::Server,
            now.as_secs(),
        )
        .map_err(|error| refused(error.to_string()))?;
        // Any workload below the same root has a valid chain: only this identifier is the server.
        if identifier != WorkloadId::server(domain) {
            return Err(refused(format!(
                "{identifier} is not the credential service of {domain}"
            )));
        }
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(anchor);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

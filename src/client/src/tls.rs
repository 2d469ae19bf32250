//! rustls configurations: TLS 1.3 only, X25519MLKEM768 preferred, no resumption, no early data; the certificate and the trust
//! of the moment; signatures by the agent.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use touchmark_crypto::x509::Certificate;
use touchmark_tls::{Role, Signatures, provider};

use crate::{NotAccepted, Peers, Source, peers::Chain};

/// A client under the source's identity, whose servers are judged by identifier; names are compared only where `peers` accepts
/// by a function. Protocols (ALPN) are for the caller to set.
///
/// A connection that was made outside of [`crate::Connector`] is judged at its beginning only.
///
/// # Errors
///
/// What rustls says.
pub fn client_config(source: &Source, peers: &Peers) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Verifier::new(source, peers, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Now(source.clone())));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A server under the source's identity, whose clients have to show certificates and are judged by identifier.
///
/// # Errors
///
/// What rustls says.
pub fn server_config(source: &Source, peers: &Peers) -> Result<ServerConfig, Error> {
    let provider = provider();
    let verifier = Verifier::new(source, peers, &provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Now(source.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The certificate of the moment.
#[derive(Debug)]
struct Now(Source);

impl Now {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.identity()?;
        Some(Arc::clone(&identity.x509()?.certified))
    }
}

impl ResolvesClientCert for Now {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Now {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

/// Judges peers by the trust of the moment.
struct Verifier {
    source: Source,
    peers: Peers,
    signatures: Signatures,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(source: &Source, peers: &Peers, provider: &Arc<CryptoProvider>) -> Self {
        Self {
            source: source.clone(),
            peers: peers.clone(),
            signatures: Signatures::new(provider),
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), Error> {
        let identity = self
            .source
            .identity()
            .ok_or_else(|| Error::General("this program has no identity now".to_owned()))?;
        let chain = Chain {
            leaf: leaf.to_vec(),
            between: between.iter().map(|der| der.to_vec()).collect(),
        };
        self.peers
            .judge(&chain, identity.trust(), role, now.as_secs())
            .map(|_| ())
            .map_err(refused)
    }
}

fn refused(why: NotAccepted) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Server, now)?;
        if self.peers.by_name() {
            let certificate = Certificate::parse(end_entity).map_err(|_| CertificateError::BadEncoding)?;
            let named = matches!(server_name, ServerName::DnsName(name)
                if certificate.dns_sans.iter().any(|san| san.eq_ignore_ascii_case(name.as_ref())));
            if !named {
                return Err(refused(NotAccepted::Name(server_name.to_str().into_owned())));
            }
        }
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

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, Role::Client, now)?;
        Ok(ClientCertVerified::assertion())
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

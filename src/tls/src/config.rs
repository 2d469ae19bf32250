//! rustls configurations.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{ResolvesClientCert, danger::HandshakeSignatureValid},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use touchmark_crypto::x509::Anchors;
use touchmark_identity::TrustDomain;

use crate::{Current, Pins, Role, Seen, Signatures, peer, pinned::PinnedServer};

/// What is spoken with those who show no certificate: one exchange at a time.
const STRANGERS: &[u8] = b"http/1.1";
/// What is spoken with hosts: a stream and requests over one connection, whose handshake costs the host's TPM a signature.
const HOSTS: &[u8] = b"h2";

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS configuration: {0}")]
pub struct ConfigError(#[from] Error);

/// The provider with X25519MLKEM768 first.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .kx_groups
        .sort_by_key(|group| group.name() != rustls::NamedGroup::X25519MLKEM768);
    Arc::new(provider)
}

/// A server: with `clients`, a client certificate below these anchors of this trust domain is required inside the
/// handshake; without, none is asked for.
pub fn server(
    identity: Arc<Current>,
    clients: Option<(TrustDomain, Anchors)>,
) -> Result<ServerConfig, ConfigError> {
    let provider = provider();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
    let protocol = if clients.is_some() { HOSTS } else { STRANGERS };
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((domain, anchors)) => builder.with_client_cert_verifier(Arc::new(Clients {
            domain,
            anchors,
            signatures: Signatures::new(&provider),
        })),
    };
    let mut config = builder.with_cert_resolver(identity);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// A host's client: the server must chain to a pinned root and be the trust domain's credential service. With `identity`
/// the host authenticates itself. What the handshake showed is in the returned [`Seen`]; use one configuration per
/// connection.
pub fn host_client(
    pins: Pins,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<(ClientConfig, Seen), ConfigError> {
    let provider = provider();
    let seen = Seen::default();
    let verifier = PinnedServer {
        pins,
        seen: seen.clone(),
        signatures: Signatures::new(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let protocol = if identity.is_some() { HOSTS } else { STRANGERS };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Always(identity))),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok((config, seen))
}

/// A client of a web server that is named by its domain, below these roots (DER); the machine's own roots are not asked.
pub fn web_client(roots: &[Vec<u8>]) -> Result<ClientConfig, ConfigError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_slice()))?;
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth())
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Clients {
    domain: TrustDomain,
    anchors: Anchors,
    signatures: Signatures,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let between: Vec<Vec<u8>> = intermediates.iter().map(|der| der.to_vec()).collect();
        peer(
            end_entity,
            &between,
            &self.domain,
            &self.anchors,
            Role::Client,
            now.as_secs(),
        )
        .map(|_| ClientCertVerified::assertion())
        .map_err(|error| Error::General(error.to_string()))
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

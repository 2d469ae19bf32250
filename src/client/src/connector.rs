//! Opening connections under this program's identity.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, TlsStream};
use touchmark_tls::Role;
use tower::Service;

use crate::{
    Connection, Peers, Source, client_config,
    handshake::{HANDSHAKE, beside},
};

/// Opens mutually authenticated connections to servers that are judged by identifier. A connector for hyper's and tonic's
/// clients: a [`Service`] from [`Uri`] to [`Connection`].
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    source: Source,
    peers: Peers,
}

impl Connector {
    /// A connector that offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    ///
    /// What rustls says.
    pub fn new(source: &Source, peers: Peers) -> Result<Self, rustls::Error> {
        let mut config = client_config(source, &peers)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            source: source.clone(),
            peers,
        })
    }

    /// Connects to a host, by name or address, and a port.
    ///
    /// # Errors
    ///
    /// Nobody is there, or whoever is is not accepted.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Connection> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let stream = timeout(HANDSHAKE, TcpStream::connect((bare, port)))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody answers"))??;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = beside(connector.connect(name, stream)).await?;
        Connection::new(TlsStream::Client(stream), &self.source, &self.peers, Role::Server)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Connection>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a URI without a host"))?;
            let port = uri.port_u16().unwrap_or(443);
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}

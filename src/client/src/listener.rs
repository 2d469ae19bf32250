//! Accepting connections under this program's identity.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tonic::codegen::tokio_stream::Stream;
use touchmark_tls::Role;

use crate::{Connection, Peer, Peers, Source, handshake::beside, server_config};

/// Handshakes that may be under way.
const HANDSHAKES: usize = 256;

/// A listener whose connections are mutually authenticated: TLS 1.3, the client's certificate required inside the handshake and
/// judged by identifier. Who is not accepted never appears.
///
/// With axum: `axum::serve(listener, app)`, and `into_make_service_with_connect_info::<Peer>()` where handlers are to know who
/// asks. With tonic: `serve_with_incoming(listener.incoming())`, and the [`Peer`] is in each request's extensions.
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<(Connection, Peer)>,
    address: SocketAddr,
}

impl Listener {
    /// Listens at an address. Both HTTP/2 and HTTP/1.1 are offered.
    ///
    /// # Errors
    ///
    /// The address cannot be had, or rustls refuses the configuration.
    pub async fn bind(address: impl ToSocketAddrs, source: &Source, peers: Peers) -> io::Result<Self> {
        Self::over(TcpListener::bind(address).await?, source, peers)
    }

    /// Takes over a listening socket.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`].
    pub fn over(listener: TcpListener, source: &Source, peers: Peers) -> io::Result<Self> {
        let mut config = server_config(source, &peers).map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let address = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(16);
        tokio::spawn(accept(listener, Arc::new(config), source.clone(), peers, sender));
        Ok(Self { accepted, address })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// None; the signature is that of other listeners.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// The next connection; `None` once nothing more can come.
    pub async fn next(&mut self) -> Option<Connection> {
        Some(self.accepted.recv().await?.0)
    }

    /// The connections as a stream, as tonic takes them.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
        Incoming(self)
    }
}

/// Accepts, each handshake on a task of its own: one that stalls holds up nobody.
async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    source: Source,
    peers: Peers,
    sender: mpsc::Sender<(Connection, Peer)>,
) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = sender.closed() => return,
        };
        let (config, source, peers, sender) =
            (Arc::clone(&config), source.clone(), peers.clone(), sender.clone());
        tokio::spawn(async move {
            let connection = shake_hands(stream, config, &source, &peers).await;
            match connection {
                Ok(connection) => {
                    let peer = connection.peer().clone();
                    let _ = sender.send((connection, peer)).await;
                }
                Err(error) => tracing::info!(%error, "a client was not accepted"),
            }
            // Connections that nobody takes keep their places.
            drop(place);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    source: &Source,
    peers: &Peers,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = beside(TlsAcceptor::from(config).accept(stream)).await?;
    Connection::new(TlsStream::Server(stream), source, peers, Role::Client)
}

struct Incoming(Listener);

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .accepted
            .poll_recv(context)
            .map(|accepted| accepted.map(|(connection, _)| Ok(connection)))
    }
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with this listener.
            None => std::future::pending().await,
        }
    }

    /// There is none of this type: see [`Listener::local_addr`].
    fn local_addr(&self) -> io::Result<Peer> {
        Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "a listener is no peer",
        ))
    }
}

#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

//! A connection under this program's identity, for as long as that and the peer's hold.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::{Connected, Connection as Pooled};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::TlsStream;
use touchmark_identity::WorkloadId;
use touchmark_tls::{Role, clock};

use crate::{Peer, Peers, Source, State, peers::Chain};

/// How often a connection on which nothing happens looks at the clock.
const LOOK: Duration = Duration::from_secs(15);

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<State>> + Send>>;

/// A TLS connection to a peer that was accepted. Reading and writing fail from the moment on at which this program's identity is
/// withdrawn or is another one, one of the two certificates has ended, or the peer's trust domain no longer vouches for it.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    basis: Basis,
    /// How it stands, as it was looked at last.
    state: watch::Receiver<State>,
    /// Wakes whoever reads when that changes.
    changed: Changed,
    look: Pin<Box<Sleep>>,
    retirement: Retirement,
    ended: Option<&'static str>,
    /// While a connection is open its identity is followed.
    _source: Source,
}

/// What the connection was opened with, and what judges the peer again.
struct Basis {
    peers: Peers,
    chain: Chain,
    role: Role,
    /// Who this program was.
    own: WorkloadId,
    /// When the certificate that was shown ends, seconds since the epoch.
    own_end: u64,
}

impl Connection {
    /// Judges the peer of a handshake that is done; `role` is the peer's.
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        source: &Source,
        peers: &Peers,
        role: Role,
    ) -> io::Result<Self> {
        let chain =
            Chain::of(stream.get_ref().1.peer_certificates()).ok_or_else(|| refused("no certificate"))?;
        let mut state = source.changes();
        let State::Current(identity) = state.borrow_and_update().clone() else {
            return Err(refused("this program has no identity now"));
        };
        let now = clock::now();
        let peer = peers
            .judge(&chain, identity.trust(), role, now)
            .map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
        // Renewed while hands were shaken, the certificate that was shown may end sooner than this one.
        let own_end = identity.x509().map_or(0, |x509| x509.not_after());
        let left = peer.not_after().min(own_end).saturating_sub(now);
        Ok(Self {
            stream,
            retirement: Retirement(Arc::new(AtomicU64::new(match role {
                Role::Server => now + left / 5 * 4,
                Role::Client => u64::MAX,
            }))),
            peer,
            basis: Basis {
                peers: peers.clone(),
                chain,
                role,
                own: identity.identifier().clone(),
                own_end,
            },
            changed: Box::pin(next(state.clone())),
            state,
            look: Box::pin(sleep(LOOK)),
            ended: None,
            _source: source.clone(),
        })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The key exchange that was negotiated.
    pub fn key_exchange(&self) -> Option<rustls::NamedGroup> {
        let group = self.stream.get_ref().1.negotiated_key_exchange_group()?;
        Some(group.name())
    }

    /// Fails once the connection is not to be used any more.
    fn check(&mut self) -> io::Result<()> {
        if self.ended.is_none() && self.state.has_changed().unwrap_or(false) {
            let state = self.state.borrow_and_update().clone();
            self.ended = self.judge(&state);
        }
        if self.ended.is_none() {
            let now = clock::now();
            if self.peer.not_after() <= now {
                self.ended = Some("the peer's certificate has ended");
            } else if self.basis.own_end <= now {
                self.ended = Some("the certificate that this program showed has ended");
            }
        }
        self.ended.map_or(Ok(()), |why| Err(refused(why)))
    }

    /// Why the connection is to end now that it stands like this.
    fn judge(&self, state: &State) -> Option<&'static str> {
        let basis = &self.basis;
        let identity = match state {
            State::Withdrawn(_) => return Some("this program's identity was withdrawn"),
            State::Waiting(_) => return None,
            State::Current(identity) => identity,
        };
        if *identity.identifier() != basis.own || identity.x509().is_none() {
            return Some("this program is somebody else now");
        }
        let peers = &basis.peers;
        if peers
            .judge(&basis.chain, identity.trust(), basis.role, clock::now())
            .is_err()
        {
            return Some("the peer is not accepted any more");
        }
        // Requests from now on are to be made under the new certificate.
        if basis.role == Role::Server {
            self.retirement.now();
        }
        None
    }

    /// Has whoever reads woken when [`Connection::check`] may come to fail.
    fn wake_reader(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(changes) = self.changed.as_mut().poll(context) {
            self.changed = Box::pin(next(changes));
        }
        while self.look.as_mut().poll(context).is_ready() {
            self.look.as_mut().reset(Instant::now() + LOOK);
        }
    }
}

/// From when on a client's connection takes no more requests: its certificate was renewed, or is about to end. Seconds since
/// the epoch.
#[derive(Debug, Clone)]
pub(crate) struct Retirement(Arc<AtomicU64>);

impl Retirement {
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= clock::now()
    }

    /// Whether both are of one connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn now(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A connection that is gone takes no requests either.
impl Drop for Connection {
    fn drop(&mut self) {
        self.retirement.now();
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// Completes at the next change; never, once nothing can change any more.
async fn next(mut changes: watch::Receiver<State>) -> watch::Receiver<State> {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    changes
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wake_reader(context);
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Pooled for Connection {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.retirement.clone());
        match self.stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

/// As tonic and axum take it: the peer of each request.
impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

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
use touchmark_tls::{Role, clock};

use crate::{Peer, Peers, Source, State, peers::Chain};

/// How long nothing has to have been sent before a connection that is to end soon does.
const QUIET: Duration = Duration::from_secs(1);
/// How often a connection on which nothing happens looks at the clock.
const LOOK: Duration = Duration::from_secs(15);

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<State>> + Send>>;

/// A TLS connection to a peer that was accepted. Reading and writing fail from the moment on at which this program's identity is
/// withdrawn, the peer's certificate has ended, or its trust domain's anchors no longer vouch for it. A client's connection
/// that is about to end says so while nothing is under way, so that the next request opens another.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    judge: Judge,
    changed: Changed,
    look: Pin<Box<Sleep>>,
    used: Instant,
    retirement: Retirement,
    ended: Option<&'static str>,
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

/// What judges the peer again.
struct Judge {
    peers: Peers,
    chain: Chain,
    role: Role,
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
        let mut changes = source.changes();
        let State::Current(identity) = changes.borrow_and_update().clone() else {
            return Err(refused("this program has no identity now"));
        };
        let now = clock::now();
        let peer = peers
            .judge(&chain, identity.trust(), role, now)
            .map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
        let own = identity.x509().map_or(0, |x509| x509.not_after());
        let left = peer.not_after().min(own).saturating_sub(now);
        Ok(Self {
            stream,
            retirement: Retirement(Arc::new(AtomicU64::new(match role {
                Role::Server => now + left / 5 * 4,
                Role::Client => u64::MAX,
            }))),
            peer,
            judge: Judge {
                peers: peers.clone(),
                chain,
                role,
            },
            changed: Box::pin(next(changes)),
            look: Box::pin(sleep(LOOK)),
            used: Instant::now(),
            ended: None,
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

    /// Fails once the connection is not to be used any more. Wakes the task when that may have come to be so.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Poll::Ready(mut changes) = self.changed.as_mut().poll(context) {
            let state = changes.borrow_and_update().clone();
            self.changed = Box::pin(next(changes));
            match state {
                State::Withdrawn(_) => self.ended = Some("this program's identity was withdrawn"),
                State::Waiting(_) => {}
                State::Current(identity) => {
                    let Judge { peers, chain, role } = &self.judge;
                    if peers.judge(chain, identity.trust(), *role, clock::now()).is_err() {
                        self.ended = Some("the peer is not accepted any more");
                    }
                    // Requests from now on are to be made under the new certificate.
                    if self.judge.role == Role::Server {
                        self.retirement.now();
                    }
                }
            }
        }
        while self.look.as_mut().poll(context).is_ready() {
            self.look.as_mut().reset(Instant::now() + LOOK);
        }
        if self.ended.is_none() && self.peer.not_after() <= clock::now() {
            self.ended = Some("the peer's certificate has ended");
        }
        self.ended.map_or(Ok(()), |why| Err(refused(why)))
    }

    /// Whether a client's connection is to end now: soon it would have to, and nothing is under way.
    fn retires_now(&self) -> bool {
        self.retirement.has_come() && self.used.elapsed() >= QUIET
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
        self.check(context)?;
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > before {
                    self.used = Instant::now();
                }
                Poll::Ready(Ok(()))
            }
            // As if the server had closed it.
            Poll::Pending if self.retires_now() => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        self.used = Instant::now();
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

//! Accept loops: TLS 1.3 handshakes within a deadline, a bound on open connections, HTTP above.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use touchmark_crypto::x509::Certificate;
use touchmark_identity::TrustDomain;
use touchmark_tls::clock;

use crate::{
    ServerError,
    host::Peer,
    limits::{Admitted, Gate, Sessions},
};

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may sit between requests, and a header may take.
const HEADER: Duration = Duration::from_secs(15);
/// How long a stranger's connection may last at all. A host's ends with its certificate.
const CONNECTION: Duration = Duration::from_secs(300);
/// How often a host that says nothing is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// Requests of one host that may be under way, its stream among them.
const REQUESTS: u32 = 64;
/// Longest header of a request of a host, in bytes.
const HEADERS: u32 = 8 * 1024;
/// How long answers that are under way are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(6);
/// How long one connection is waited for at the end.
const ANSWER: Duration = Duration::from_secs(5);

/// Binds an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServerError::Listen {
            address: address.to_string(),
            cause: error.to_string(),
        })
}

/// A listener with its TLS configuration and routes.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) routes: Router,
    /// The trust domain whose hosts alone are peers, known by their certificates; `None`: anybody.
    pub(crate) hosts_of: Option<(TrustDomain, Arc<Sessions>)>,
    pub(crate) gate: Arc<Gate>,
}

/// Serves until told to stop, and returns once what was under way has its answer. A connection over the bound waits in
/// the backlog; one whose source has its share is closed; one that stalls is dropped.
pub(crate) async fn serve(listener: TcpListener, front: Front, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &front.gate) => accepted,
            // Those that have ended are forgotten.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(Some((stream, source, admitted))) => {
                let front = front.clone();
                let stop = stop.clone();
                connections.spawn(async move {
                    // Whatever goes wrong with one connection concerns nobody else.
                    connection(stream, source, front, stop).await;
                    drop(admitted);
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Whoever starts the service anew finds the address free.
    drop(listener);
    // What is under way is answered; what does not end is dropped.
    let _ = timeout(FAREWELL, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// The next connection; `None` for one that was not let in.
async fn accept(
    listener: &TcpListener,
    gate: &Gate,
) -> std::io::Result<Option<(TcpStream, SocketAddr, Admitted)>> {
    let Some(room) = gate.room().await else {
        return Ok(None);
    };
    let (stream, source) = listener.accept().await?;
    let admitted = gate.admit(room, source.ip(), Instant::now());
    if admitted.is_none() {
        tracing::debug!(%source, "closed: this source has its share of connections");
    }
    Ok(admitted.map(|admitted| (stream, source, admitted)))
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

async fn connection(stream: TcpStream, source: SocketAddr, front: Front, stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let acceptor = tokio_rustls::TlsAcceptor::from(front.tls);
    // Its signature waits its turn at the device, which takes so many and no more: silence costs nobody a turn.
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%source, %error, "handshake failed");
            return;
        }
        Err(_) => return,
    };
    let routes = front.routes.layer(Extension(source));
    match &front.hosts_of {
        None => stranger(stream, source, routes, stop).await,
        Some((domain, sessions)) => match peer(stream.get_ref().1.peer_certificates(), domain) {
            Some(peer) => match sessions.admit(&peer.host) {
                Some(_counted) => host(stream, source, peer, routes, stop).await,
                None => {
                    tracing::info!(%source, host = %peer.host, "closed: this host has its share of sessions");
                }
            },
            None => tracing::info!(%source, "a client whose certificate is not a host's"),
        },
    }
}

/// Somebody without a certificate: HTTP/1.1, one request after the other, for a while.
async fn stranger(stream: TlsStream, source: SocketAddr, routes: Router, mut stop: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            timeout(ANSWER, connection).await.unwrap_or(Ok(()))
        }
        () = tokio::time::sleep(CONNECTION) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%source, %error, "connection ended");
    }
}

/// A host: HTTP/2, requests beside its stream, until its certificate ends.
async fn host(
    stream: TlsStream,
    source: SocketAddr,
    peer: Peer,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    let life = Duration::from_secs(peer.not_after.saturating_sub(clock::now()));
    let routes = routes.layer(Extension(peer));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PING)
        .max_concurrent_streams(REQUESTS)
        .max_header_list_size(HEADERS);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            timeout(ANSWER, connection).await.unwrap_or(Ok(()))
        }
        () = tokio::time::sleep(life) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%source, %error, "a host's connection ended");
    }
}

/// Completes when the service is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The host that a client certificate names; the handshake has verified the certificate.
fn peer(
    certificates: Option<&[rustls::pki_types::CertificateDer<'static>]>,
    domain: &TrustDomain,
) -> Option<Peer> {
    let certificate = Certificate::parse(certificates?.first()?).ok()?;
    let identifier = domain.workload(certificate.uri_sans.first()?).ok()?;
    let host = identifier.host_uuid()?.to_owned();
    Some(Peer {
        host,
        key: certificate.spki_digest(),
        not_after: u64::try_from(certificate.not_after).ok()?,
    })
}

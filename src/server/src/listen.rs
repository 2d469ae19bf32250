//! Accept loops: TLS 1.3 handshakes within a deadline, a bound on open connections, HTTP above.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router};
use hyper::server::conn::http1::Builder;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
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

use crate::{
    ServerError,
    host::Peer,
    limits::{Admitted, Gate},
};

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may sit between requests, and a header may take.
const HEADER: Duration = Duration::from_secs(15);
/// How long a connection may last at all; hosts reconnect.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long answers that are under way are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(6);

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
    pub(crate) hosts_of: Option<TrustDomain>,
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
                    let _ = timeout(CONNECTION, connection(stream, source, front, stop)).await;
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

async fn connection(stream: TcpStream, source: SocketAddr, front: Front, mut stop: watch::Receiver<bool>) {
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
    let mut routes = front.routes.layer(Extension(source));
    if let Some(domain) = &front.hosts_of {
        match peer(stream.get_ref().1.peer_certificates(), domain) {
            Some(peer) => routes = routes.layer(Extension(peer)),
            None => {
                tracing::info!(%source, "a client whose certificate is not a host's");
                return;
            }
        }
    }
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let stopped = async {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stopped => None,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%source, %error, "connection ended"),
        None => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(Duration::from_secs(5), connection).await;
        }
    }
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
        not_after: u64::try_from(certificate.not_after).ok()?,
    })
}

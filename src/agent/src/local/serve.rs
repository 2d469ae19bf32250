//! Accepts connections and sees each to its end.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::codegen::{Service, http};
use touchmark_api::workload::{
    GUARD, GUARD_VALUE, MAX_REQUEST, workload_identity_server::WorkloadIdentityServer,
};

use crate::caller::{Identification, Peer, PeerStream};

use super::{
    Identities, Limits, LocalSocket,
    activity::Activity,
    admission::{Admission, Place},
    held::Held,
    service::Workloads,
};

type Grpc<I> = WorkloadIdentityServer<Workloads<I>>;
/// The call whose answer does not end.
const WATCH_PATH: &str = "/touchmark.agent.v1.WorkloadIdentity/Watch";

type Response = http::Response<tonic::body::Body>;

/// Answers on `socket` until `shutdown` is done, then lets running requests finish for a moment and removes the socket.
pub async fn serve<I: Identities>(
    socket: LocalSocket,
    identities: Arc<I>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::default(), socket, identities, shutdown).await
}

/// As [`serve`], within other limits.
pub async fn serve_within<I: Identities>(
    limits: Limits,
    socket: LocalSocket,
    identities: Arc<I>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener()?)?;
    let grpc = WorkloadIdentityServer::new(Workloads::new(identities)).max_decoding_message_size(MAX_REQUEST);
    let identification = Arc::new(Identification::new());
    let admission = Arc::new(Admission::new(limits));
    let (closing, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some((stream, place)) = admitted(stream, &identification, &admission) {
                        connections.spawn(connection(stream, place, grpc.clone(), limits, told.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the agent's socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop((listener, socket));
    closing.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What does not finish is dropped with the set.
    let _ = tokio::time::timeout(limits.farewell, finished).await;
    Ok(())
}

/// The connection with a place for it; `None` if it is not to be served, and closed.
fn admitted(
    stream: UnixStream,
    identification: &Arc<Identification>,
    admission: &Arc<Admission>,
) -> Option<(PeerStream, Place)> {
    let stream = PeerStream::new(stream, identification)
        .inspect_err(|error| tracing::debug!(%error, "a connection was closed at once"))
        .ok()?;
    let place = admission
        .admit(stream.peer().uid())
        .inspect_err(|full| tracing::info!(peer = ?stream.peer(), ?full, "too many connections"))
        .ok()?;
    Some((stream, place))
}

/// Serves one connection until it ends, has nothing to say for too long, or is told to.
async fn connection<I: Identities>(
    stream: PeerStream,
    place: Place,
    grpc: Grpc<I>,
    limits: Limits,
    mut told: watch::Receiver<bool>,
) {
    let activity = Arc::new(Activity::new());
    let peer = stream.peer().clone();
    let running = Arc::clone(&activity);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let permit = match request.uri().path() {
            WATCH_PATH => place.watch(),
            _ => place.request(),
        };
        let running = running.begin();
        let answer = answer(grpc.clone(), peer.clone(), request, limits.request);
        async move {
            let Some(permit) = permit else {
                return Ok(tonic::Status::resource_exhausted("too many requests at a time").into_http());
            };
            let answer = answer.await;
            Ok::<_, Infallible>(answer.map(|body| tonic::body::Body::new(Held::new(body, (permit, running)))))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection)
            .max_header_list_size(limits.header_bytes)
            .max_send_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    loop {
        // It may come to expire earlier meanwhile, by as much as an idle time from now.
        let look_again = activity.expires(&limits).min(Instant::now() + limits.idle);
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = told.wait_for(|told| *told) => break,
            () = sleep_until(look_again) => {
                if activity.expires(&limits) <= Instant::now() {
                    break;
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(limits.farewell, connection).await;
}

/// Answers one request of `peer`. Nothing is looked at before the guard.
async fn answer<I: Identities>(
    mut grpc: Grpc<I>,
    peer: Peer,
    mut request: http::Request<Incoming>,
    patience: Duration,
) -> Response {
    let mut guards = request.headers().get_all(GUARD).iter();
    if guards.next().is_none_or(|value| value != GUARD_VALUE) || guards.next().is_some() {
        let text = format!("the call does not carry the metadata {GUARD}: {GUARD_VALUE}");
        return tonic::Status::invalid_argument(text).into_http();
    }
    request.extensions_mut().insert(peer);
    match tokio::time::timeout(patience, grpc.call(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => tonic::Status::deadline_exceeded("the request took too long").into_http(),
    }
}

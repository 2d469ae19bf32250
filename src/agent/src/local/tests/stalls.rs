//! Peers that stall, crowd or leave, and what the others notice of it.

use std::{
    io::Write,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::{
    Code,
    codegen::{Bytes, http},
};
use touchmark_api::workload::{FetchX509Request, GUARD, GUARD_VALUE, StatusRequest};

use super::fake::{Agent, ENDLESS, Fake, closed, guarded};
use crate::local::Limits;

const SOON: Duration = Duration::from_millis(50);

fn endless() -> FetchX509Request {
    FetchX509Request {
        identifier: ENDLESS.into(),
    }
}

async fn begun(agent: &Agent) {
    while !agent.identities.endless_began.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_or_stops_midway_is_closed_and_blocks_nobody() {
    let limits = Limits {
        first_request: SOON,
        farewell: SOON,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let silent = agent.connect();
    let mut midway = agent.connect();
    midway.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    let mut nonsense = agent.connect();
    nonsense
        .write_all(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n")
        .unwrap();
    let mut client = agent.client().await;
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    closed(silent).await;
    closed(midway).await;
    closed(nonsense).await;
    agent.stop().await;
}

/// A body of which nothing ever comes.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

type Connection = http2::Connection<TokioIo<UnixStream>, Never, TokioExecutor>;

/// An HTTP/2 client that opens no other connection by itself.
async fn raw_client(agent: &Agent) -> (http2::SendRequest<Never>, Connection) {
    let stream = TokioIo::new(UnixStream::connect(agent.path()).await.unwrap());
    http2::handshake(TokioExecutor::new(), stream).await.unwrap()
}

/// A call whose message never comes.
fn never_arriving() -> http::Request<Never> {
    http::Request::post("http://agent/touchmark.agent.v1.WorkloadIdentity/FetchX509")
        .header("content-type", "application/grpc")
        .header(GUARD, GUARD_VALUE)
        .body(Never)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_arrive_or_end_is_given_up() {
    let limits = Limits {
        request: SOON,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut client = agent.client().await;
    let late = client.fetch_x509(guarded(endless())).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);

    let (mut sender, connection) = raw_client(&agent).await;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(never_arriving()).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    connection.abort();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_had_no_request_for_long_is_closed_in_order() {
    let limits = Limits {
        request: SOON,
        idle: SOON,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let (mut sender, connection) = raw_client(&agent).await;
    let connection = tokio::spawn(connection);
    sender.send_request(never_arriving()).await.unwrap();
    // It ends without an error: the agent said so before it closed.
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    ended.unwrap().unwrap().unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() {
    let limits = Limits {
        connections_per_user: 1,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut client = agent.client().await;
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    closed(agent.connect()).await;
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_is_refused_over_all_connections_of_a_user() {
    let limits = Limits {
        requests_per_user: 1,
        farewell: SOON,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut one = agent.client().await;
    let mut two = agent.client().await;
    let endless = tokio::spawn(async move { one.fetch_x509(guarded(endless())).await });
    begun(&agent).await;
    let refused = two.status(guarded(StatusRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // A caller that gives up makes room.
    endless.abort();
    while two.status(guarded(StatusRequest {})).await.is_err() {}
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_waits_a_moment_and_removes_its_socket() {
    let limits = Limits {
        farewell: SOON,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let _silent = agent.connect();
    let mut client = agent.client().await;
    let endless = tokio::spawn(async move { client.fetch_x509(guarded(endless())).await });
    begun(&agent).await;
    agent.stop().await;
    assert!(endless.await.unwrap().is_err());
}

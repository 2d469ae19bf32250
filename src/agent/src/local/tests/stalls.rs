//! Peers that stall, crowd or leave, and what the others notice of it.

use std::{
    io::Write,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_is_closed_and_a_client_opens_another() {
    let limits = Limits {
        idle: SOON,
        farewell: SOON,
        connections: 1,
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut client = agent.client().await;
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    // There is room for one connection only: another one gets it once the first was closed for being idle.
    loop {
        if let Ok(channel) = agent.endpoint().connect().await {
            let mut other =
                touchmark_api::workload::workload_identity_client::WorkloadIdentityClient::new(channel);
            if other.status(guarded(StatusRequest {})).await.is_ok() {
                break;
            }
        }
    }
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

    let stream = TokioIo::new(UnixStream::connect(agent.path()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://agent/touchmark.agent.v1.WorkloadIdentity/FetchX509")
        .header("content-type", "application/grpc")
        .header(GUARD, GUARD_VALUE)
        .body(Never)
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    connection.abort();
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

#[tokio::test(flavor = "multi_thread")]
async fn zz_probe() {
    let limits = Limits {
        connections: 1,
        idle: SOON,
        farewell: SOON,
        first_request: Duration::from_secs(10),
        ..Limits::default()
    };
    let agent = Agent::start(limits, Fake::default());
    let mut client = agent.client().await;
    assert!(client.status(guarded(StatusRequest {})).await.is_ok());
    let t = std::time::Instant::now();
    for i in 0..300000 {
        let t1 = std::time::Instant::now();
        let channel = tokio::time::timeout(Duration::from_secs(30), agent.endpoint().connect()).await;
        let Ok(Ok(channel)) = channel else {
            if t1.elapsed().as_millis() > 100 {
                eprintln!("{i} connect {channel:?} {:?}", t1.elapsed())
            };
            continue;
        };
        let mut other =
            touchmark_api::workload::workload_identity_client::WorkloadIdentityClient::new(channel);
        let t2 = std::time::Instant::now();
        let r = tokio::time::timeout(Duration::from_secs(30), other.status(guarded(StatusRequest {}))).await;
        if t1.elapsed().as_millis() > 300 {
            eprintln!(
                "sockets {}",
                std::fs::read_to_string("/proc/net/unix")
                    .unwrap()
                    .lines()
                    .filter(|l| l.contains(agent.path().to_str().unwrap()))
                    .count()
            );
        }
        if t1.elapsed().as_millis() > 300 || r.as_ref().is_ok_and(|r| r.is_ok()) {
            eprintln!(
                "{i} at {:?} {:?} {:?} {:?}",
                t.elapsed(),
                t2 - t1,
                t2.elapsed(),
                r.as_ref().map(|r| r.as_ref().map(|_| ()))
            );
        }
        if matches!(r, Ok(Ok(_))) {
            break;
        }
    }
    agent.stop().await;
}

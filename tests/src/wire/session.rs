//! Requests of an attested host, over HTTP/2.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http2,
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use touchmark_api::{
    attest::{Challenge, MESSAGE},
    host::{Push, REATTEST_PATH, STREAM_PATH, take_push},
};

use super::Answer;

/// Opens a host's stream and reads it until `wanted` takes something.
pub(super) fn pushed<T>(
    address: &str,
    config: ClientConfig,
    wanted: impl Fn(Push) -> Option<T>,
) -> Result<T, String> {
    alone(async {
        let mut pushes = Session::open(address, config).await?.stream().await?;
        loop {
            if let Some(found) = wanted(pushes.next().await?) {
                return Ok(found);
            }
        }
    })
}

/// Answers so many challenges that are pushed, and measures each.
pub(super) fn reattestations(
    address: &str,
    config: ClientConfig,
    count: usize,
    message: impl Fn(&Challenge) -> Vec<u8>,
) -> Result<Vec<Duration>, String> {
    alone(async {
        let mut session = Session::open(address, config).await?;
        let (mut pushes, mut taken) = (session.stream().await?, Vec::new());
        while taken.len() < count {
            let Push::Reattest(challenge) = pushes.next().await? else {
                continue;
            };
            let start = Instant::now();
            let answer = session
                .send("POST", REATTEST_PATH, MESSAGE, message(&challenge))
                .await?;
            if !answer.status().is_success() {
                return Err(format!("status {}", answer.status()));
            }
            taken.push(start.elapsed());
        }
        Ok(taken)
    })
}

/// Sends one request over a connection of its own.
pub(super) fn request(
    address: &str,
    config: ClientConfig,
    method: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> Result<Answer, String> {
    alone(async {
        let mut session = Session::open(address, config).await?;
        let response = session.send(method, path, media_type, body.to_vec()).await?;
        let status = response.status().as_u16();
        let header = format!("{:?}", response.headers()).to_lowercase();
        let body = response.into_body().collect().await.map_err(text)?;
        let body = body.to_bytes().to_vec();
        Ok(Answer { status, header, body })
    })
}

/// Runs this on a runtime of its own.
fn alone<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?
        .block_on(work)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A host's connection.
struct Session(http2::SendRequest<Full<Bytes>>);

impl Session {
    async fn open(address: &str, config: ClientConfig) -> Result<Self, String> {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let name = "touchmark.invalid".try_into().expect("name");
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(text)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(text)?;
        // It ends with its runtime.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://touchmark.invalid{path}"))
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(text)?;
        self.0.send_request(request).await.map_err(text)
    }

    async fn stream(&mut self) -> Result<Pushes, String> {
        let response = self.send("GET", STREAM_PATH, "x/y", Vec::new()).await?;
        Ok(Pushes {
            body: response.into_body(),
            arrived: Vec::new(),
        })
    }
}

/// What is pushed.
struct Pushes {
    body: Incoming,
    arrived: Vec<u8>,
}

impl Pushes {
    async fn next(&mut self) -> Result<Push, String> {
        loop {
            if let Some(push) = take_push(&mut self.arrived).map_err(text)? {
                return Ok(push);
            }
            let frame = self.body.frame().await.ok_or("the stream ended")?.map_err(text)?;
            if let Some(chunk) = frame.data_ref() {
                self.arrived.extend_from_slice(chunk);
            }
        }
    }
}

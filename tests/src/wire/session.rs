//! Requests of an attested host, over HTTP/2.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http2, header};
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (mut sender, connection) = connect(address, config).await?;
        let _connection = tokio::spawn(connection);
        let request = Request::get(format!("https://touchmark.invalid{STREAM_PATH}"))
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (mut body, mut arrived) = (response.into_body(), Vec::new());
        loop {
            while let Some(push) = take_push(&mut arrived).map_err(|error| error.to_string())? {
                if let Some(found) = wanted(push) {
                    return Ok(found);
                }
            }
            let frame = body.frame().await.ok_or("the stream ended")?;
            if let Some(chunk) = frame.map_err(|error| error.to_string())?.data_ref() {
                arrived.extend_from_slice(chunk);
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (mut sender, connection) = connect(address, config).await?;
        let _connection = tokio::spawn(connection);
        let request = Request::get(format!("https://touchmark.invalid{STREAM_PATH}"))
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let stream = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (mut body, mut arrived, mut taken) = (stream.into_body(), Vec::new(), Vec::new());
        while taken.len() < count {
            let frame = body.frame().await.ok_or("the stream ended")?;
            if let Some(chunk) = frame.map_err(|error| error.to_string())?.data_ref() {
                arrived.extend_from_slice(chunk);
            }
            while let Some(push) = take_push(&mut arrived).map_err(|error| error.to_string())? {
                let Push::Reattest(challenge) = push else {
                    continue;
                };
                let start = Instant::now();
                let request = Request::post(format!("https://touchmark.invalid{REATTEST_PATH}"))
                    .header(header::CONTENT_TYPE, MESSAGE)
                    .body(Full::new(Bytes::from(message(&challenge))))
                    .map_err(|error| error.to_string())?;
                let answer = sender
                    .send_request(request)
                    .await
                    .map_err(|error| error.to_string())?;
                if !answer.status().is_success() {
                    return Err(format!("status {}", answer.status()));
                }
                taken.push(start.elapsed());
            }
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (mut sender, connection) = connect(address, config).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("https://touchmark.invalid{path}"))
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| error.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let header = format!("{:?}", response.headers()).to_lowercase();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        drop(sender);
        connection.abort();
        let body = body.to_bytes().to_vec();
        Ok(Answer { status, header, body })
    })
}

type Stream = TokioIo<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;
type Opened = (
    http2::SendRequest<Full<Bytes>>,
    http2::Connection<Stream, Full<Bytes>, TokioExecutor>,
);

async fn connect(address: &str, config: ClientConfig) -> Result<Opened, String> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let name = "touchmark.invalid".try_into().expect("name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())
}

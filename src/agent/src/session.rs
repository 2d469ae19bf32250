//! What an attested host and the service say to each other over mutual TLS: one connection for the stream and for all
//! requests, since each handshake costs the TPM a signature.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method,
    body::{Bytes, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::Mutex, time::timeout};
use touchmark_api::host::{Push, STREAM, STREAM_PATH, take_push};

use crate::{
    ChannelError, Config, HostIdentity,
    channel::{Connected, DEADLINE, NOBODY, answer, connect, is_of, request},
    run::jittered,
};

/// How often a service that says nothing is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// How long a busy service is left alone.
const BUSY: Duration = Duration::from_secs(1);

/// A connection of this host under one of its certificates.
#[derive(Clone)]
pub(crate) struct Session {
    address: String,
    sender: http2::SendRequest<Full<Bytes>>,
    anchor: [u8; 32],
    /// Which session it is.
    identity: Arc<()>,
}

impl Session {
    async fn open(config: &Config, host: &HostIdentity) -> Result<Self, ChannelError> {
        let address = &config.hosts;
        let Connected { stream, anchor } =
            connect(address, &config.pins, Some(Arc::clone(&host.certified))).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ChannelError::unreachable(address, error))?;
        tokio::spawn(async move {
            // What went wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self {
            address: address.clone(),
            sender,
            anchor,
            identity: Arc::default(),
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the root that this connection's chain ended in.
    pub(crate) fn anchor(&self) -> [u8; 32] {
        self.anchor
    }

    /// Sends a request and returns the body of an answer of the media type `wanted`.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        wanted: &str,
    ) -> Result<Vec<u8>, ChannelError> {
        let response = self.send(method, path, media_type, body).await?;
        answer(&self.address, response, wanted).await
    }

    /// Opens the stream.
    pub(crate) async fn stream(&self) -> Result<Stream, ChannelError> {
        let response = self
            .send(Method::GET, STREAM_PATH, "application/octet-stream", Vec::new())
            .await?;
        if response.status().is_success() && is_of(&response, STREAM) {
            return Ok(Stream {
                address: self.address.clone(),
                body: response.into_body(),
                arrived: Vec::new(),
            });
        }
        // A refusal, or nonsense: in either case not this media type.
        match answer(&self.address, response, STREAM).await {
            Err(error) => Err(error),
            Ok(_) => Err(ChannelError::nonsense(&self.address, "no stream")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<hyper::Response<Incoming>, ChannelError> {
        let uri = format!("https://{NOBODY}{path}");
        let request = request(&self.address, method, &uri, media_type, body)?;
        timeout(DEADLINE, self.sender.clone().send_request(request))
            .await
            .map_err(|_| ChannelError::unreachable(&self.address, "no answer"))?
            .map_err(|error| ChannelError::unreachable(&self.address, error))
    }
}

/// The session of the host's present certificate, opened when it is needed.
pub(crate) struct Sessions {
    config: Arc<Config>,
    current: Mutex<Option<(Arc<HostIdentity>, Session)>>,
}

impl Sessions {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            current: Mutex::default(),
        }
    }

    /// A session under this certificate. Whoever asks while one is being opened gets that one.
    pub(crate) async fn under(&self, host: &Arc<HostIdentity>) -> Result<Session, ChannelError> {
        let mut current = self.current.lock().await;
        if let Some((under, session)) = &*current
            && Arc::ptr_eq(under, host)
            && !session.sender.is_closed()
        {
            return Ok(session.clone());
        }
        *current = None;
        let session = Session::open(&self.config, host).await?;
        *current = Some((Arc::clone(host), session.clone()));
        Ok(session)
    }

    /// A session for the same request once more, after this error on that one: the same a moment later where the service was
    /// busy, else another.
    pub(crate) async fn after(
        &self,
        host: &Arc<HostIdentity>,
        session: &Session,
        error: &ChannelError,
    ) -> Result<Session, ChannelError> {
        if matches!(error, ChannelError::Busy { .. }) {
            tokio::time::sleep(jittered(BUSY)).await;
            return Ok(session.clone());
        }
        self.give_up(host, session).await;
        self.under(host).await
    }

    /// Gives up a session that did not answer.
    async fn give_up(&self, host: &Arc<HostIdentity>, session: &Session) {
        let mut current = self.current.lock().await;
        let same = |(under, known): &(Arc<HostIdentity>, Session)| {
            Arc::ptr_eq(under, host) && Arc::ptr_eq(&known.identity, &session.identity)
        };
        if current.as_ref().is_some_and(same) {
            *current = None;
        }
    }
}

/// The stream, which the service keeps open.
pub(crate) struct Stream {
    address: String,
    body: Incoming,
    arrived: Vec<u8>,
}

impl Stream {
    /// What is pushed next. It may take as long as it takes: whether the service is there, the connection finds out.
    pub(crate) async fn next(&mut self) -> Result<Push, ChannelError> {
        loop {
            let taken =
                take_push(&mut self.arrived).map_err(|error| ChannelError::nonsense(&self.address, error))?;
            if let Some(push) = taken {
                return Ok(push);
            }
            let frame = self
                .body
                .frame()
                .await
                .ok_or_else(|| ChannelError::unreachable(&self.address, "the stream ended"))?
                .map_err(|error| ChannelError::unreachable(&self.address, error))?;
            if let Some(chunk) = frame.data_ref() {
                self.arrived.extend_from_slice(chunk);
            }
        }
    }
}

//! Channels to the credential service: the root is verified before anything is sent. Without a certificate one exchange
//! follows the other ([`Channel`]); what an attested host speaks is in [`crate::session`].

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use tokio::{net::TcpStream, time::timeout};
use touchmark_api::{
    attest::MAX_ANSWER,
    problem::{self, Problem},
};
use touchmark_tls::{Pins, host_client};

/// How long connecting, the handshake and an answer may take each.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Why an exchange brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody there, or the connection broke off: the same exchange may succeed later.
    #[error("{address}: {cause}")]
    Unreachable {
        /// Whom we called.
        address: String,
        /// What happened.
        cause: String,
    },
    /// It is there, and has no time now: the same may succeed soon.
    #[error("{address} is busy (status {status})")]
    Busy {
        /// Whom we called.
        address: String,
        /// What it answered.
        status: u16,
    },
    /// The server is not the one this host pins.
    #[error(
        "{address} is not the credential service this host trusts: {cause}; check root_pins and trust_domain"
    )]
    Untrusted {
        /// Whom we called.
        address: String,
        /// What was wrong.
        cause: String,
    },
    /// The host's own key did not sign: its device, not the server, is the trouble.
    #[error("the host's key did not sign: {0}")]
    Key(String),
    /// The server refused.
    #[error("refused: {refusal} (retry: {retry})")]
    Refused {
        /// The id that the operator can look up.
        refusal: String,
        /// Whether trying again can help: `never`, `fresh` or `later`.
        retry: String,
    },
    /// An answer that is none.
    #[error("{address} answered what was not asked: {cause}")]
    Nonsense {
        /// Whom we called.
        address: String,
        /// What was wrong.
        cause: String,
    },
}

impl ChannelError {
    /// Whether nothing was said: nobody answered, or had time to.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    pub(crate) fn unreachable(address: &str, cause: impl std::fmt::Display) -> Self {
        Self::Unreachable {
            address: address.to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn nonsense(address: &str, cause: impl std::fmt::Display) -> Self {
        Self::Nonsense {
            address: address.to_owned(),
            cause: cause.to_string(),
        }
    }
}

/// A connection whose server was verified.
pub(crate) struct Connected {
    pub(crate) stream: tokio_rustls::client::TlsStream<TcpStream>,
    /// SHA-256 of the SubjectPublicKeyInfo of the root that its chain ended in.
    pub(crate) anchor: [u8; 32],
}

/// Connects and verifies the server; with `identity` the host shows who it is.
pub(crate) async fn connect(
    address: &str,
    pins: &Pins,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<Connected, ChannelError> {
    let untrusted = |cause: String| ChannelError::Untrusted {
        address: address.to_owned(),
        cause,
    };
    let (config, seen) = host_client(pins.clone(), identity).map_err(|error| untrusted(error.to_string()))?;
    let stream = timeout(DEADLINE, TcpStream::connect(address))
        .await
        .map_err(|_| ChannelError::unreachable(address, "no answer"))?
        .map_err(|error| ChannelError::unreachable(address, error))?;
    stream
        .set_nodelay(true)
        .map_err(|error| ChannelError::unreachable(address, error))?;
    // Trust rests on pins and identifier, never on a DNS name: none is sent or compared.
    let name = ServerName::try_from(NOBODY).map_err(|error| untrusted(error.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = timeout(DEADLINE, connector.connect(name, stream))
        .await
        .map_err(|_| ChannelError::unreachable(address, "the handshake does not end"))?
        .map_err(|error| {
            match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(rustls::Error::AlertReceived(_)) | None => ChannelError::unreachable(address, error),
                Some(rustls::Error::Other(other)) => ChannelError::Key(other.to_string()),
                Some(_) => untrusted(error.to_string()),
            }
        })?;
    let anchor = seen
        .anchor()
        .ok_or_else(|| untrusted("no root was verified".into()))?;
    Ok(Connected { stream, anchor })
}

/// The authority in requests; nothing rests on it.
pub(crate) const NOBODY: &str = "touchmark.invalid";

/// A request.
pub(crate) fn request(
    address: &str,
    method: Method,
    uri: &str,
    media_type: &str,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, ChannelError> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, NOBODY)
        .header(header::CONTENT_TYPE, media_type)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| ChannelError::nonsense(address, error))
}

/// Whether an answer is of this media type.
pub(crate) fn is_of(response: &Response<Incoming>, media_type: &str) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == media_type.as_bytes())
}

/// The body of an answer of the media type `wanted`.
pub(crate) async fn answer(
    address: &str,
    response: Response<Incoming>,
    wanted: &str,
) -> Result<Vec<u8>, ChannelError> {
    let status = response.status();
    let is_wanted = is_of(&response, wanted);
    let is_problem = is_of(&response, problem::MEDIA_TYPE);
    let body = timeout(DEADLINE, Limited::new(response.into_body(), MAX_ANSWER).collect())
        .await
        .map_err(|_| ChannelError::unreachable(address, "the answer does not end"))?
        // One that is too long is none; one that breaks off is lost, and can be asked for again.
        .map_err(|error| match error.is::<LengthLimitError>() {
            true => ChannelError::nonsense(address, error),
            false => ChannelError::unreachable(address, error),
        })?
        .to_bytes();
    if status.is_success() && is_wanted {
        return Ok(body.to_vec());
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(ChannelError::Busy {
            address: address.to_owned(),
            status: status.as_u16(),
        });
    }
    if is_problem && let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
        return Err(ChannelError::Refused {
            refusal: problem.refusal,
            retry: problem.retry,
        });
    }
    Err(ChannelError::nonsense(address, format!("status {status}")))
}

/// A connection to `listen.attest`, for one exchange after the other.
pub(crate) struct Channel {
    address: String,
    sender: http1::SendRequest<Full<Bytes>>,
    anchor: [u8; 32],
}

impl Channel {
    /// Connects and verifies the server.
    pub(crate) async fn open(address: &str, pins: &Pins) -> Result<Self, ChannelError> {
        let Connected { stream, anchor } = connect(address, pins, None).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ChannelError::unreachable(address, error))?;
        tokio::spawn(async move {
            // It ends with the exchange; what went wrong is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Self {
            address: address.to_owned(),
            sender,
            anchor,
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the root that this connection's chain ended in.
    pub(crate) fn anchor(&self) -> [u8; 32] {
        self.anchor
    }

    /// Posts a message and returns the body of an answer of the media type `wanted`.
    pub(crate) async fn exchange(
        &mut self,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        wanted: &str,
    ) -> Result<Vec<u8>, ChannelError> {
        let request = request(&self.address, Method::POST, path, media_type, body)?;
        let response = timeout(DEADLINE, self.sender.send_request(request))
            .await
            .map_err(|_| ChannelError::unreachable(&self.address, "no answer"))?
            .map_err(|error| ChannelError::unreachable(&self.address, error))?;
        answer(&self.address, response, wanted).await
    }
}

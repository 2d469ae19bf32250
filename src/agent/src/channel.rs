//! The channel to the credential service: one connection per exchange, the root verified before anything is sent.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use tokio::{net::TcpStream, time::timeout};
use touchmark_api::{
    attest::MAX_ANSWER,
    problem::{self, Problem},
};
use touchmark_tls::{Pins, host_client};

/// How long connecting, the handshake and an answer may take each.
const DEADLINE: Duration = Duration::from_secs(30);

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

/// An open connection to the service.
pub(crate) struct Channel {
    address: String,
    sender: http1::SendRequest<Full<Bytes>>,
    anchor: [u8; 32],
}

impl Channel {
    /// Connects and verifies the server; with `identity` the host shows who it is.
    pub(crate) async fn open(
        address: &str,
        pins: &Pins,
        identity: Option<Arc<CertifiedKey>>,
    ) -> Result<Self, ChannelError> {
        let unreachable = |cause: String| ChannelError::Unreachable {
            address: address.to_owned(),
            cause,
        };
        let untrusted = |cause: String| ChannelError::Untrusted {
            address: address.to_owned(),
            cause,
        };
        let (config, seen) =
            host_client(pins.clone(), identity).map_err(|error| untrusted(error.to_string()))?;
        let stream = timeout(DEADLINE, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable("no answer".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        // Trust rests on pins and identifier, never on a DNS name: none is sent or compared.
        let name = ServerName::try_from("touchmark.invalid").map_err(|error| untrusted(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = timeout(DEADLINE, connector.connect(name, stream))
            .await
            .map_err(|_| unreachable("the handshake does not end".into()))?
            .map_err(|error| {
                match error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                {
                    Some(rustls::Error::AlertReceived(_)) | None => unreachable(error.to_string()),
                    Some(rustls::Error::Other(other)) => ChannelError::Key(other.to_string()),
                    Some(_) => untrusted(error.to_string()),
                }
            })?;
        let anchor = seen
            .anchor()
            .ok_or_else(|| untrusted("no root was verified".into()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
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

    /// Sends a request and returns the body of an answer of the media type `wanted`.
    pub(crate) async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
        wanted: &str,
    ) -> Result<Vec<u8>, ChannelError> {
        let unreachable = |cause: String| ChannelError::Unreachable {
            address: self.address.clone(),
            cause,
        };
        let nonsense = |cause: String| ChannelError::Nonsense {
            address: self.address.clone(),
            cause,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "touchmark.invalid")
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| nonsense(error.to_string()))?;
        let response = timeout(DEADLINE, self.sender.send_request(request))
            .await
            .map_err(|_| unreachable("no answer".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        let found = response.headers().get(header::CONTENT_TYPE).cloned();
        let body = timeout(DEADLINE, Limited::new(response.into_body(), MAX_ANSWER).collect())
            .await
            .map_err(|_| unreachable("the answer does not end".into()))?
            // One that is too long is none; one that breaks off is lost, and can be asked for again.
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => nonsense(error.to_string()),
                false => unreachable(error.to_string()),
            })?
            .to_bytes();
        let is = |wanted: &str| {
            found
                .as_ref()
                .is_some_and(|value| value.as_bytes() == wanted.as_bytes())
        };
        if status.is_success() && is(wanted) {
            return Ok(body.to_vec());
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(unreachable(format!("busy (status {status})")));
        }
        if is(problem::MEDIA_TYPE)
            && let Ok(problem) = serde_json::from_slice::<Problem>(&body)
        {
            return Err(ChannelError::Refused {
                refusal: problem.refusal,
                retry: problem.retry,
            });
        }
        Err(nonsense(format!("status {status}")))
    }
}

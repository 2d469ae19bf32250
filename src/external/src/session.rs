//! One session of the challenge-response API (Veraison services, `/challenge-response/v1`).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE};
use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, Url, header};
use serde::Deserialize;

use crate::{Unanswered, unanswered::quoted};

const NEW_SESSION: &str = "challenge-response/v1/newSession";
const SESSION_TYPE: &str = "application/vnd.veraison.challenge-response-session+json";
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// How often a session is looked at that is not done: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// The state of a session.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    status: String,
    #[serde(default)]
    nonce: String,
    #[serde(default)]
    accept: Vec<String>,
    #[serde(default)]
    result: Option<String>,
}

/// A session that is open.
pub(crate) struct Session<'a> {
    client: &'a Client,
    at: Url,
}

impl<'a> Session<'a> {
    /// Opens a session under a nonce that the evidence has already.
    pub(crate) async fn open(
        client: &'a Client,
        base: &Url,
        nonce: &[u8],
        media_type: &str,
    ) -> Result<Self, Unanswered> {
        let mut url = base
            .join(NEW_SESSION)
            .map_err(|error| protocol(&error.to_string()))?;
        url.query_pairs_mut()
            .append_pair("nonce", &URL_SAFE.encode(nonce));
        let response = client
            .post(url.clone())
            .header(header::ACCEPT, SESSION_TYPE)
            .header(header::CONTENT_LENGTH, 0)
            .send()
            .await
            .map_err(unreachable)?;
        if response.status() != StatusCode::CREATED {
            return Err(refused(response).await);
        }
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        // Relative to where the session was asked for; nowhere else.
        let at = location
            .and_then(|location| url.join(location).ok())
            .filter(|at| at.origin() == url.origin() && at.username().is_empty())
            .ok_or_else(|| protocol("no session of its own in Location"))?;
        let state = State::read(response).await?;
        let same = URL_SAFE
            .decode(state.nonce.as_bytes())
            .or_else(|_| base64_any(&state.nonce));
        if same.as_deref() != Ok(nonce) {
            return Err(protocol("a session under another nonce than the one asked for"));
        }
        let plain = |text: &str| text.replace([' ', '"'], "").to_ascii_lowercase();
        if !state.accept.is_empty()
            && state
                .accept
                .iter()
                .all(|accepted| plain(accepted) != plain(media_type))
        {
            return Err(Unanswered::MediaType {
                asked: media_type.to_owned(),
                accepted: quoted(&state.accept.join(", ")),
            });
        }
        Ok(Self { client, at })
    }

    /// Gives the evidence, and waits for what comes of it.
    pub(crate) async fn answer(&self, media_type: &str, evidence: Bytes) -> Result<String, Unanswered> {
        let mut response = self
            .client
            .post(self.at.clone())
            .header(header::ACCEPT, SESSION_TYPE)
            .header(header::CONTENT_TYPE, media_type)
            .body(evidence)
            .send()
            .await
            .map_err(unreachable)?;
        let mut pause = POLL.0;
        loop {
            if !matches!(response.status(), StatusCode::OK | StatusCode::ACCEPTED) {
                return Err(refused(response).await);
            }
            let state = State::read(response).await?;
            match (state.status.as_str(), state.result) {
                ("complete", Some(result)) => return Ok(result),
                ("complete", None) => return Err(protocol("a session that is complete without a result")),
                ("waiting" | "processing", _) => {}
                (status, _) => return Err(protocol(&format!("a session that is {}", quoted(status)))),
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(POLL.1);
            let again = self
                .client
                .get(self.at.clone())
                .header(header::ACCEPT, SESSION_TYPE)
                .send();
            response = again.await.map_err(unreachable)?;
        }
    }

    /// Lets the verifier forget the session. Nobody waits for that, and sessions end by themselves.
    pub(crate) fn close(self) {
        let closing = self.client.delete(self.at).timeout(POLL.1).send();
        tokio::spawn(async move {
            if let Err(error) = closing.await {
                tracing::debug!(%error, "a verifier's session was not closed");
            }
        });
    }
}

impl State {
    async fn read(response: Response) -> Result<Self, Unanswered> {
        let bytes = body(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| protocol(&format!("not a session: {error}")))
    }
}

/// What a session's nonce is written in, whatever the alphabet and the padding.
fn base64_any(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text)
}

/// A body within its limit.
async fn body(mut response: Response) -> Result<Vec<u8>, Unanswered> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(protocol("an answer over 2 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A problem document (RFC 9457), in short.
async fn refused(response: Response) -> Unanswered {
    #[derive(Default, Deserialize)]
    struct Problem {
        #[serde(default)]
        title: String,
        #[serde(default)]
        detail: String,
    }
    let status = response.status();
    let problem: Problem = match body(response).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Problem::default(),
    };
    let parts = [problem.title, problem.detail];
    let said = parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>();
    Unanswered::Status {
        status: status.as_u16(),
        detail: if said.is_empty() {
            status.canonical_reason().unwrap_or("no reason given").to_owned()
        } else {
            quoted(&said.join(": "))
        },
    }
}

fn protocol(what: &str) -> Unanswered {
    Unanswered::Protocol(what.to_owned())
}

/// The innermost cause says what happened; the outermost names only the URL.
fn unreachable(error: reqwest::Error) -> Unanswered {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Unanswered::Unreachable(quoted(&cause.to_string()))
}

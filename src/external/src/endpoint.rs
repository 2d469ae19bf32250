//! Where a verifier is, and how it is reached.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Url, redirect::Policy};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use touchmark_crypto::pem;
use touchmark_tls::{
    files::{self, FileError},
    web_client,
};

use crate::{Unanswered, session::Session};

/// Longest time that a verifier may be given.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(20);
/// Most verifiers that one configuration names.
pub const MAX_VERIFIERS: usize = 8;
/// Hosts that wait for one verifier at a time; more find it busy.
const WAITING: usize = 64;

/// Why a verifier cannot be asked with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("{0}")]
    Url(String),
    /// A client could not be made.
    #[error("{0}")]
    Client(String),
    /// Roots that cannot be read or trusted.
    #[error(transparent)]
    File(#[from] FileError),
    /// Roots that are none.
    #[error("{0}: no certificate in PEM form")]
    Roots(String),
}

/// A verifier, as it is asked.
#[derive(Debug)]
pub struct Endpoint {
    base: Url,
    client: Client,
    patience: Duration,
    places: Semaphore,
}

impl Endpoint {
    /// A verifier as configuration files have it: its URL, and a PEM file with the roots that its certificate has to lead to.
    pub fn configured(url: &str, roots: Option<&Path>, patience: Duration) -> Result<Self, EndpointError> {
        let ders = match roots {
            None => Vec::new(),
            Some(path) => pem::decode_all(pem::CERTIFICATE, &files::read_config(path)?)
                .map_err(|_| EndpointError::Roots(path.display().to_string()))?,
        };
        Self::new(url, &ders, patience)
    }

    /// A verifier at this URL, whose certificate has to lead to one of these roots (DER). Plain HTTP is spoken with this machine only.
    pub fn new(url: &str, roots: &[Vec<u8>], patience: Duration) -> Result<Self, EndpointError> {
        let wrong = |what: &str| EndpointError::Url(what.to_owned());
        let mut base = Url::parse(url).map_err(|error| EndpointError::Url(error.to_string()))?;
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(wrong("no user, password, query or fragment"));
        }
        match base.scheme() {
            "https" if roots.is_empty() => {
                return Err(wrong("https needs roots: certificates of its authority"));
            }
            "https" => {}
            "http" if is_here(&base) => {}
            _ => return Err(wrong("https, or http for an address of this machine")),
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let tls = web_client(roots).map_err(|error| EndpointError::Client(error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(patience)
            .user_agent(concat!("touchmark/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| EndpointError::Client(error.to_string()))?;
        Ok(Self {
            base,
            client,
            patience,
            places: Semaphore::new(WAITING),
        })
    }

    /// The verifier's result about this evidence, a JWT as it came: nobody has looked at it. `nonce` is what the evidence is bound to.
    pub async fn result(
        &self,
        nonce: &[u8],
        media_type: &str,
        evidence: Bytes,
    ) -> Result<String, Unanswered> {
        let place = self.places.try_acquire().map_err(|_| Unanswered::Busy)?;
        let asking = async {
            let session = Session::open(&self.client, &self.base, nonce, media_type).await?;
            let result = session.answer(media_type, evidence).await;
            session.close();
            result
        };
        let result = timeout(self.patience, asking).await;
        drop(place);
        result.unwrap_or(Err(Unanswered::Slow(self.patience.as_secs())))
    }
}

/// Asks several verifiers about the same evidence, all at once; their answers are in the same order.
pub async fn ask_all(
    endpoints: Vec<Arc<Endpoint>>,
    nonce: [u8; 32],
    media_type: &'static str,
    evidence: Vec<u8>,
) -> Vec<Result<String, Unanswered>> {
    let evidence = Bytes::from(evidence);
    let mut answers: Vec<Result<String, Unanswered>> =
        endpoints.iter().map(|_| Err(Unanswered::Busy)).collect();
    let mut asked = JoinSet::new();
    for (at, endpoint) in endpoints.into_iter().enumerate() {
        let evidence = evidence.clone();
        asked.spawn(async move { (at, endpoint.result(&nonce, media_type, evidence).await) });
    }
    while let Some(answered) = asked.join_next().await {
        if let Ok((at, answer)) = answered
            && let Some(place) = answers.get_mut(at)
        {
            *place = answer;
        }
    }
    answers
}

/// Whether a URL names this machine by its address.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls_and_nobody_by_whatever_root() {
        let made = |url: &str| {
            Endpoint::new(url, &[], MAX_TIMEOUT)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(made("http://127.0.0.1:8080"), Ok(()));
        assert_eq!(made("http://[::1]:8080/verifier"), Ok(()));
        for url in [
            "http://verifier.example",
            "http://localhost:8080",
            "http://10.0.0.1",
            "https://verifier.example",
            "ftp://127.0.0.1",
            "http://user:secret@127.0.0.1",
            "http://127.0.0.1/?a=b",
            "verifier",
        ] {
            assert!(made(url).is_err(), "{url}");
        }
    }
}

//! A layer for HTTP clients: token and proof in every request (draft-ietf-wimse-wpt).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION};
use touchmark_crypto::sha256;
use touchmark_wimse::wpt::Profile;
use tower::{BoxError, Layer, Service};

use crate::{
    Source,
    source::{Beside, Proof, ProofError},
};

/// `Workload-Identity-Token`.
pub(crate) const WIT: HeaderName = HeaderName::from_static("workload-identity-token");
/// `Workload-Proof-Token`, with [`Profile::Wpt01`].
pub(crate) const WPT: HeaderName = HeaderName::from_static("workload-proof-token");
/// `Txn-Token`.
const TRANSACTION: HeaderName = HeaderName::from_static("txn-token");

/// Puts this program's Workload Identity Token and a fresh proof for the target into each request. The agent makes the proof,
/// which costs its device a signature; the target is the request's own URI, which has to be absolute. A `Txn-Token` in the
/// request is named by the proof.
#[derive(Debug, Clone)]
pub struct Proving {
    source: Source,
    profile: Profile,
}

impl Proving {
    /// Proofs of the source's identity, carried as in the current draft: `Authorization: WPT`.
    pub fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            profile: Profile::default(),
        }
    }

    /// Proofs carried as in another draft: with [`Profile::Wpt01`] beside a bearer token, which the proof then names.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}

/// Why a request was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvingError {
    /// It does not say whom it is for.
    #[error("the request's URI is not absolute, so there is nobody to prove an identity to")]
    Target,
    /// The field in which the proof goes is taken by another credential.
    #[error("the request has an Authorization field already; a proof goes there, and nothing beside it")]
    Authorization,
    /// No proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl<S> Layer<S> for Proving {
    type Service = ProvingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProvingService {
            inner,
            proving: self.clone(),
        }
    }
}

/// A client whose requests prove who sends them. See [`Proving`].
#[derive(Debug, Clone)]
pub struct ProvingService<S> {
    inner: S,
    proving: Proving,
}

impl<S, B> Service<Request<B>> for ProvingService<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready is the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let proving = self.proving.clone();
        Box::pin(async move {
            proving.prove(&mut request).await?;
            inner.call(request).await.map_err(Into::into)
        })
    }
}

impl Proving {
    async fn prove<B>(&self, request: &mut Request<B>) -> Result<(), ProvingError> {
        let audience = audience(request.uri()).ok_or(ProvingError::Target)?;
        let headers = request.headers();
        let access = match (self.profile, headers.get(AUTHORIZATION)) {
            (_, None) => None,
            (Profile::Wpt02, Some(_)) => return Err(ProvingError::Authorization),
            (Profile::Wpt01, Some(value)) => bearer(value),
        };
        let beside = Beside {
            access: access.map(|token| sha256(&[token])),
            transaction: headers.get(TRANSACTION).map(|value| sha256(&[value.as_bytes()])),
        };
        let proof = self.source.prove_beside(&audience, beside).await?;
        self.carry(request, &proof)
    }

    fn carry<B>(&self, request: &mut Request<B>, proof: &Proof) -> Result<(), ProvingError> {
        let headers = request.headers_mut();
        headers.insert(WIT, secret(&proof.wit)?);
        match self.profile {
            Profile::Wpt02 => headers.insert(AUTHORIZATION, secret(&format!("WPT {}", proof.wpt))?),
            Profile::Wpt01 => headers.insert(WPT, secret(&proof.wpt)?),
        };
        Ok(())
    }
}

/// A value that is not for logs.
fn secret(text: &str) -> Result<HeaderValue, ProofError> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| ProofError("the agent's token is none".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// Whom a request is for: its URI without query and fragment.
fn audience(uri: &Uri) -> Option<String> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    Some(format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_its_uri_without_the_query() {
        let of = |text: &str| audience(&text.parse().unwrap());
        assert_eq!(of("https://h/p?q=1").as_deref(), Some("https://h/p"));
        assert_eq!(of("https://h:8443").as_deref(), Some("https://h:8443/"));
        assert_eq!(of("/p"), None);
        assert_eq!(of("h:1"), None);
    }

    #[test]
    fn only_bearer_tokens_are_named() {
        let of = |text: &str| bearer(&HeaderValue::from_str(text).unwrap()).map(<[u8]>::to_vec);
        assert_eq!(of("bearer  abc "), Some(b"abc".to_vec()));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("Bear"), None);
    }
}

//! A layer for HTTP servers: only requests that prove who sent them get through (draft-ietf-wimse-wpt).

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use touchmark_crypto::sha256;
use touchmark_rats::ear::KeyClaims;
use touchmark_tls::clock;
use touchmark_wimse::{
    TokenError,
    wit::{self, VerifiedWit},
    wpt::{self, Carried, Expected, Profile, Replays},
};
use tower::{Layer, Service};

use crate::{
    NotAccepted, Peer, Peers, Source, Trust,
    proving::{WIT, WPT},
};

/// Proofs that are remembered, unless told otherwise: 100 bytes each.
const REMEMBERED: usize = 100_000;
/// Tokens whose verification is remembered.
const TOKENS: usize = 1_024;

/// Who sent a request, in its extensions: proved by token and proof, and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Peer);

/// Lets requests through that carry a Workload Identity Token and its proof for this very target, from callers who are
/// accepted; each proof once. Others are answered 401 (400 with [`Profile::Wpt01`]) or 403, and the reason goes to the log.
/// Behind it a request has a [`Caller`] in its extensions, and neither token nor proof in its header.
///
/// Which proofs were used is remembered here: several processes behind one address each have a memory of their own, so that a
/// proof can be used once with each.
#[derive(Debug, Clone)]
pub struct Proved {
    source: Source,
    peers: Peers,
    targets: Arc<[String]>,
    profile: Profile,
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    replays: Mutex<Replays>,
    tokens: Mutex<Tokens>,
}

/// Tokens that were verified under one trust.
#[derive(Debug, Default)]
struct Tokens {
    trust: Option<Arc<Trust>>,
    verified: HashMap<[u8; 32], VerifiedWit>,
}

/// Why a request does not get through.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Caller(#[from] NotAccepted),
    #[error("this program has no identity now, and so knows nobody's keys")]
    Nobody,
}

impl Proved {
    /// Requests to these targets: scheme and authority as clients write them, for example `https://api.example.org:8443`. They
    /// come from here and never from a request's `Host` field.
    pub fn new<S: Into<String>>(source: &Source, peers: Peers, targets: impl IntoIterator<Item = S>) -> Self {
        let bare = |target: S| target.into().trim_end_matches('/').to_owned();
        Self {
            source: source.clone(),
            peers,
            targets: targets.into_iter().map(bare).collect(),
            profile: Profile::default(),
            memory: Arc::new(Memory {
                replays: Mutex::new(Replays::new(REMEMBERED)),
                tokens: Mutex::default(),
            }),
        }
    }

    /// Proofs carried as in another draft.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Remembers so many proofs; when there are more within their life, requests are refused.
    #[must_use]
    pub fn remembering(self, proofs: usize) -> Self {
        Self {
            memory: Arc::new(Memory {
                replays: Mutex::new(Replays::new(proofs)),
                tokens: Mutex::default(),
            }),
            ..self
        }
    }

    fn judge<B>(&self, request: &Request<B>) -> Result<Caller, Refused> {
        let now = clock::now();
        let identity = self.source.identity().ok_or(Refused::Nobody)?;
        let fields = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let carried = Carried::from_fields(fields, self.profile)?;
        let wit = self.memory.verify(carried.wit, identity.trust(), now)?;
        let path = match request.uri().path() {
            "" => "/",
            path => path,
        };
        let expected = Expected {
            audiences: self
                .targets
                .iter()
                .map(|target| format!("{target}{path}"))
                .collect(),
            profile: self.profile,
            ..Expected::at("")
        };
        let claims = wit.cmw().and_then(KeyClaims::from_cmw);
        let accepted = self
            .peers
            .accept(wit.identifier().clone(), claims, wit.expires_at());
        match accepted {
            Ok(peer) => {
                let mut replays = self.memory.replays();
                wpt::verify(&carried, &wit, &expected, &mut replays, now)?;
                Ok(Caller(peer))
            }
            // Who is not accepted hears so only with a proof that holds, and takes no place in the memory of proofs.
            Err(not_accepted) => {
                wpt::verify(&carried, &wit, &expected, &mut Replays::new(1), now)?;
                Err(not_accepted.into())
            }
        }
    }

    fn answer<B: Default>(&self, refused: &Refused) -> Response<B> {
        tracing::info!(reason = %refused, "a request was refused");
        let mut response = Response::new(B::default());
        *response.status_mut() = match (refused, self.profile) {
            (Refused::Nobody, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Refused::Caller(_), _) => StatusCode::FORBIDDEN,
            (Refused::Token(_), Profile::Wpt01) => StatusCode::BAD_REQUEST,
            (Refused::Token(_), Profile::Wpt02) => {
                let headers = response.headers_mut();
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("WPT"));
                StatusCode::UNAUTHORIZED
            }
        };
        response
    }
}

impl Memory {
    fn replays(&self) -> MutexGuard<'_, Replays> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token's verification, once for as long as it and the trust are the same.
    fn verify(&self, token: &str, trust: &Arc<Trust>, now: u64) -> Result<VerifiedWit, TokenError> {
        let hash = sha256(&[token.as_bytes()]);
        {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let same = tokens
                .trust
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, trust));
            if !same {
                *tokens = Tokens {
                    trust: Some(Arc::clone(trust)),
                    verified: HashMap::new(),
                };
            }
            match tokens.verified.get(&hash) {
                Some(wit) if wit.holds_at(now) => return Ok(wit.clone()),
                _ => {}
            }
        }
        let wit = wit::verify(token, trust.issuers(), now)?;
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.verified.len() >= TOKENS {
            tokens.verified.retain(|_, wit| wit.holds_at(now));
        }
        let same = tokens
            .trust
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, trust));
        if same && tokens.verified.len() < TOKENS {
            tokens.verified.insert(hash, wit.clone());
        }
        Ok(wit)
    }
}

impl<S> Layer<S> for Proved {
    type Service = ProvedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProvedService {
            inner,
            proved: self.clone(),
        }
    }
}

/// A server behind [`Proved`].
#[derive(Debug, Clone)]
pub struct ProvedService<S> {
    inner: S,
    proved: Proved,
}

impl<S, B, R> Service<Request<B>> for ProvedService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.proved.judge(&request) {
            Ok(caller) => {
                let proof = match self.proved.profile {
                    Profile::Wpt02 => AUTHORIZATION,
                    Profile::Wpt01 => WPT,
                };
                for name in [WIT, proof] {
                    request.headers_mut().remove(name);
                }
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(refused) => {
                let answer = self.proved.answer(&refused);
                Box::pin(std::future::ready(Ok(answer)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use touchmark_crypto::{Signer, SigningAlg, SoftwareKey, jose::Jwk, x509::Anchors};
    use touchmark_identity::{TrustDomain, WorkloadId};
    use touchmark_wimse::{Issuer, bundle, wit::Wit};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn trust(issuer: &SoftwareKey) -> Arc<Trust> {
        let jwks = bundle::to_jwks(&[], std::slice::from_ref(issuer.public_key()), 1).unwrap();
        let mut trust = Trust::default();
        trust.insert(
            TrustDomain::parse_origin("spiffe://example.org").unwrap(),
            Anchors::default(),
            Issuer::from_jwks(jwks.as_object().unwrap()),
        );
        Arc::new(trust)
    }

    #[test]
    fn r026_what_was_verified_under_one_trust_is_not_remembered_under_another() {
        let key = || SoftwareKey::generate(SigningAlg::Es256).unwrap();
        let (one, other, workload) = (key(), key(), key());
        let kid = Jwk::new(one.public_key().clone()).unwrap().thumbprint();
        let identifier = WorkloadId::parse("spiffe://example.org/a").unwrap();
        let wit = Wit {
            identifier: &identifier,
            key: &Jwk::new(workload.public_key().clone()).unwrap(),
            cmw: &serde_json::json!([]),
            issued_at: NOW,
            expires_at: NOW + 600,
            id: [1; 16],
        };
        let token = wit::mint(&wit, &kid, &one).unwrap();
        let memory = Memory {
            replays: Mutex::new(Replays::new(1)),
            tokens: Mutex::default(),
        };
        let (ours, theirs) = (trust(&one), trust(&other));
        for _ in 0..2 {
            assert!(memory.verify(&token, &ours, NOW).is_ok());
            assert_eq!(memory.tokens.lock().unwrap().verified.len(), 1, "remembered");
            // Another issuer for the same trust domain: the same words of somebody else.
            assert_eq!(
                memory.verify(&token, &theirs, NOW).unwrap_err(),
                TokenError::KidUnknown
            );
        }
        // Nor beyond its end.
        assert!(memory.verify(&token, &ours, NOW).is_ok());
        assert_eq!(
            memory.verify(&token, &ours, NOW + 660).unwrap_err(),
            TokenError::Expired
        );
    }
}

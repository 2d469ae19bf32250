//! An HTTP client whose connections are those of a [`Connector`].

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{
        self,
        connect::{CaptureConnection, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tower::{BoxError, Service};

use crate::{Connector, Peers, Source, connection::Retirement};

/// An HTTP client, HTTP/2 and HTTP/1.1, that pools mutually authenticated connections. A connection under a certificate that
/// was renewed finishes what it has begun and takes no more requests, so that none fails when a certificate ends. A tower
/// [`Service`]: put [`crate::Proving`] around it for requests with proofs.
#[derive(Debug)]
pub struct Client<B> {
    pool: legacy::Client<Connector, B>,
    open: Arc<Open>,
}

/// Why a request had no answer: all of it, from what was tried to what stood in the way.
#[derive(Debug)]
pub struct CallError(legacy::Error);

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // What this says already is not said again.
        self.0.source().and_then(Error::source)
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            open: Arc::clone(&self.open),
        }
    }
}

/// The connections in the pool.
#[derive(Debug, Default)]
struct Open(Mutex<Vec<(Retirement, CaptureConnection)>>);

impl Open {
    /// Takes those out of the pool whose time has come: no request begins on them any more.
    fn retire(&self) {
        self.lock().retain(|(retirement, captured)| {
            let come = retirement.has_come();
            if come && let Some(connected) = captured.connection_metadata().as_ref() {
                connected.poison();
            }
            !come
        });
    }

    /// Remembers the connection that a request was made on.
    fn remember(&self, captured: CaptureConnection) {
        let retirement = {
            let connected = captured.connection_metadata();
            let mut extras = Extensions::new();
            if let Some(connected) = connected.as_ref() {
                connected.get_extras(&mut extras);
            }
            extras.remove::<Retirement>()
        };
        if let Some(retirement) = retirement {
            let mut open = self.lock();
            if !open.iter().any(|(known, _)| known.is_same(&retirement)) {
                open.push((retirement, captured));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Retirement, CaptureConnection)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// A client under the source's identity for servers that are judged by identifier.
    ///
    /// # Errors
    ///
    /// What rustls says.
    pub fn new(source: &Source, peers: Peers) -> Result<Self, rustls::Error> {
        let connector = Connector::new(source, peers)?;
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            pool,
            open: Arc::default(),
        })
    }

    /// Sends a request to the host in its URI.
    ///
    /// # Errors
    ///
    /// No connection, a peer that is not accepted, an exchange that broke off.
    pub async fn request(&self, mut request: Request<B>) -> Result<Response<Incoming>, CallError> {
        self.open.retire();
        let captured = capture_connection(&mut request);
        let answered = self.pool.request(request).await;
        self.open.remember(captured);
        answered.map_err(CallError)
    }
}

impl<B> Service<Request<B>> for Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.request(request).await })
    }
}

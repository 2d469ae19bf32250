//! An HTTP client whose connections are those of a [`Connector`].

use std::{
    future::Future,
    pin::Pin,
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
pub struct Client<B>(legacy::Client<Connector, B>);

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request to the host in its URI.
    ///
    /// # Errors
    ///
    /// No connection, a peer that is not accepted, an exchange that broke off.
    pub async fn request(&self, mut request: Request<B>) -> Result<Response<Incoming>, legacy::Error> {
        let captured = capture_connection(&mut request);
        let answered = self.0.request(request).await;
        retire(&captured);
        answered
    }
}

/// Takes a connection out of the pool when its time has come.
fn retire(captured: &CaptureConnection) {
    let connected = captured.connection_metadata();
    let Some(connected) = connected.as_ref() else {
        return;
    };
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    if extras.get::<Retirement>().is_some_and(Retirement::has_come) {
        connected.poison();
    }
}

impl<B> Service<Request<B>> for Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, legacy::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.request(request).await })
    }
}

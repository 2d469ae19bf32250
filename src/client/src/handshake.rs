//! Handshakes beside the runtime: the agent's signature is waited for on a thread that may block, and only while it is made.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use rustls::{CertificateError, OtherError};
use tokio::{sync::Notify, time::timeout};

use crate::NotAccepted;

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(20);

/// Tells that a future is to be polled again.
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Runs a handshake: each step of it on a thread that may block, the waiting in between on none.
pub(crate) async fn beside<F, T>(handshake: F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>> + Send + Unpin + 'static,
    T: Send + 'static,
{
    let done = timeout(HANDSHAKE, steps(handshake)).await;
    let done = done.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the handshake does not end",
        ))
    });
    done.map_err(|error| not_accepted(&error).unwrap_or(error))
}

/// What a handshake failed on, where that was our judgement of the peer.
fn not_accepted(error: &io::Error) -> Option<io::Error> {
    let rustls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = rustls else {
        return None;
    };
    let why = why.downcast_ref::<NotAccepted>()?.clone();
    Some(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

async fn steps<F, T>(mut handshake: F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>> + Send + Unpin + 'static,
    T: Send + 'static,
{
    let woken = Arc::new(Woken(Notify::new()));
    loop {
        let waker = Waker::from(Arc::clone(&woken));
        let step = tokio::task::spawn_blocking(move || {
            let mut context = Context::from_waker(&waker);
            match Pin::new(&mut handshake).poll(&mut context) {
                Poll::Ready(done) => Ok(done),
                Poll::Pending => Err(handshake),
            }
        });
        match step.await.map_err(io::Error::other)? {
            Ok(done) => return done,
            Err(unfinished) => handshake = unfinished,
        }
        woken.0.notified().await;
    }
}

//! What a caller has, pushed whenever it changes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::{Status, codegen::tokio_stream::Stream};
use touchmark_api::workload::{Standing, WatchResponse};

use crate::caller::{CallerError, Peer};

use super::{
    Denied, Identities,
    service::{NO_IDENTITY, bundle, wit_identity, x509_identity},
};

/// Answers as they are pushed.
pub(super) struct Updates(Receiver<Result<WatchResponse, Status>>);

impl Stream for Updates {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// One listening process.
pub(super) struct Watch<I> {
    pub(super) identities: Arc<I>,
    pub(super) peer: Peer,
    /// Only this identifier.
    pub(super) identifier: Option<String>,
}

impl<I: Identities> Watch<I> {
    /// Pushes from now on. A caller that has nothing at all is refused at once.
    pub(super) async fn begin(self) -> Result<Updates, Status> {
        let mut changes = self.identities.changes();
        changes.mark_unchanged();
        let first = match self.look().await? {
            (Found::Nothing, _) => return Err(Status::permission_denied(NO_IDENTITY)),
            (_, answer) => answer,
        };
        // Whoever does not read is not waited for by anybody else.
        let (sender, receiver) = channel(1);
        tokio::spawn(async move {
            let mut sent = first.clone();
            if sender.send(Ok(first)).await.is_ok() {
                self.go_on(&mut sent, changes, &sender).await;
            }
        });
        Ok(Updates(receiver))
    }

    async fn go_on(
        &self,
        sent: &mut WatchResponse,
        mut changes: tokio::sync::watch::Receiver<()>,
        sender: &Sender<Result<WatchResponse, Status>>,
    ) {
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            match self.look().await {
                // What cannot be had at this moment is not taken away for it.
                Ok((Found::Partly, _)) => {}
                Ok((_, answer)) if answer == *sent => {}
                Ok((_, answer)) => {
                    sent.clone_from(&answer);
                    if sender.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                // It is not the process any more that began to listen.
                Err(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
        }
    }

    /// What the caller has now.
    async fn look(&self) -> Result<(Found, WatchResponse), Status> {
        let digest = self.identities.needs_digest();
        let caller = self.peer.identify(digest).await.map_err(|error| match error {
            CallerError::Io(_) | CallerError::Cancelled => {
                Status::unavailable("the caller could not be looked at; try again")
            }
            CallerError::Gone | CallerError::Changed | CallerError::Hidden => {
                Status::permission_denied(NO_IDENTITY)
            }
        })?;
        let identifier = self.identifier.as_deref();
        let x509 = self.identities.x509(&caller, identifier).await;
        let wit = self.identities.wit(&caller, identifier).await;
        let held = self.identities.bundle().await.ok();
        let mut answer = WatchResponse {
            bundle: held.map(bundle),
            ..WatchResponse::default()
        };
        let partly =
            matches!(&x509, Err(Denied::Unavailable(_))) != matches!(&wit, Err(Denied::Unavailable(_)));
        let denied = match (x509, wit) {
            (Err(first), Err(second)) => Some(weightier(first, second)),
            (x509, wit) => {
                answer.x509 = x509.unwrap_or_default().into_iter().map(x509_identity).collect();
                answer.wit = wit.unwrap_or_default().into_iter().map(wit_identity).collect();
                (answer.x509.is_empty() && answer.wit.is_empty()).then_some(Denied::NoIdentity)
            }
        };
        let (standing, detail) = match &denied {
            None => (Standing::Current, String::new()),
            Some(Denied::NoIdentity) => (Standing::Withdrawn, NO_IDENTITY.to_owned()),
            Some(Denied::Refused(why)) => (Standing::Withdrawn, why.clone()),
            Some(Denied::Unavailable(why) | Denied::Invalid(why)) => (Standing::Unavailable, why.clone()),
            Some(Denied::NotForPurpose) => (Standing::Unavailable, String::new()),
        };
        answer.standing = standing.into();
        answer.detail = detail;
        let found = match denied {
            Some(Denied::NoIdentity) => Found::Nothing,
            None if partly => Found::Partly,
            _ => Found::Whole,
        };
        Ok((found, answer))
    }
}

/// How much of what a caller has was found.
enum Found {
    /// All there is to say.
    Whole,
    /// One kind of credential cannot be had at this moment.
    Partly,
    /// No registration means the caller.
    Nothing,
}

/// Of two reasons the one that says more: what is not there for one kind of credential may only not be had now for the other.
fn weightier(first: Denied, second: Denied) -> Denied {
    match (first, second) {
        (Denied::NoIdentity, other) | (other, Denied::NoIdentity) => other,
        (Denied::Refused(why), _) | (_, Denied::Refused(why)) => Denied::Refused(why),
        (first, _) => first,
    }
}

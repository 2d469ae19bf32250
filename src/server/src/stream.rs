//! One long answer to each host: what concerns it is pushed when it changes. Whoever changes something wakes the streams of
//! the hosts that it concerns, and no others.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Extension,
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use hyper::body::Frame;
use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    watch,
};
use touchmark_api::host::{Push, Registration as WireRegistration, STREAM, push_frame};
use touchmark_crypto::sha256;
use touchmark_issuer::Registration;
use touchmark_store::{Host, StoreError};
use touchmark_tls::clock;

use crate::{
    Service,
    host::{Peer, caller, is_its_device},
    reattest,
    refuse::Reply,
    service::to_wire,
};

/// Frames that may wait for a host which does not read; then its stream ends.
const BEHIND: usize = 4;

/// What a stream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// To look at the host's record and registrations again.
    Look,
    /// To end: another stream of this host was opened, or the service stops.
    End,
}

/// A host with a stream.
struct Open {
    number: u64,
    host: Host,
    tell: watch::Sender<Told>,
}

#[derive(Default)]
struct Hosts {
    opened: u64,
    stopped: bool,
    open: HashMap<String, Open>,
}

/// The open streams, one to a host.
#[derive(Default)]
pub(crate) struct Streams(Mutex<Hosts>);

impl Streams {
    /// A stream to this host; the one before ends. `None` once the service stops.
    fn open(&self, host: Host) -> Option<(u64, watch::Receiver<Told>)> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        state.opened += 1;
        let number = state.opened;
        let (tell, told) = watch::channel(Told::Look);
        let before = state.open.insert(host.id.clone(), Open { number, host, tell });
        if let Some(before) = before {
            before.tell.send_replace(Told::End);
        }
        Some((number, told))
    }

    fn close(&self, host: &str, number: u64) {
        let mut state = self.lock();
        if state.open.get(host).is_some_and(|open| open.number == number) {
            state.open.remove(host);
        }
    }

    /// A host's record has changed.
    pub(crate) fn host_changed(&self, host: &str) {
        if let Some(open) = self.lock().open.get(host) {
            open.tell.send_replace(Told::Look);
        }
    }

    /// Registrations have changed: those of `changed`, as they were and as they are.
    pub(crate) fn registrations_changed(&self, changed: &[&Registration]) {
        for open in self.lock().open.values() {
            let concerns =
                |registration: &&Registration| registration.is_for_host(&open.host.name, &open.host.labels);
            if changed.iter().any(concerns) {
                open.tell.send_replace(Told::Look);
            }
        }
    }

    /// Ends all, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        for (_, open) in state.open.drain() {
            open.tell.send_replace(Told::End);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames as they are sent.
struct Frames(Receiver<Bytes>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(crate) async fn stream(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
) -> Response {
    if !service.host_rates.admit(peer.host.clone(), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    let (sender, receiver) = channel(BEHIND);
    let host = match caller(&service, &peer, clock::now()).await {
        Ok(Some((host, _))) => host,
        Ok(None) => {
            let last = farewell(&service, &peer).await;
            let _ = sender.try_send(push_frame(&last).into());
            return answer(receiver);
        }
        Err(error) => return Reply::unavailable(&error).into_response(),
    };
    let Some((number, told)) = service.streams.open(host) else {
        return Reply::unavailable(&"the service stops").into_response();
    };
    tokio::spawn(async move {
        push(&service, &peer, told, &sender).await;
        service.streams.close(&peer.host, number);
    });
    answer(receiver)
}

/// The answer, as long as frames come.
fn answer(frames: Receiver<Bytes>) -> Response {
    let mut response = Response::new(Body::new(Frames(frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a host has been sent on its stream.
#[derive(Default)]
struct Sent {
    registrations: Option<Vec<WireRegistration>>,
    /// The attestation that was current when a challenge was pushed last, and when that was.
    challenge: Option<(u64, u64)>,
    /// Whether that has not been answered yet.
    in_vain: bool,
}

/// Pushes until the host is gone, is no longer attested, or opens another stream.
async fn push(service: &Arc<Service>, peer: &Peer, mut told: watch::Receiver<Told>, sender: &Sender<Bytes>) {
    let mut sent = Sent::default();
    loop {
        // What is told from here on leads to another look.
        if *told.borrow_and_update() == Told::End {
            return;
        }
        let now = clock::now();
        let (host, key) = match caller(service, peer, now).await {
            Ok(Some(attested)) => attested,
            Ok(None) => {
                let last = match farewell(service, peer).await {
                    // It was asked over this very stream and did not answer: that is no outage.
                    Push::Lapsed if sent.in_vain && peer.not_after > now => Push::Withdrawn,
                    last => last,
                };
                let _ = sender.try_send(push_frame(&last).into());
                return;
            }
            Err(error) => {
                tracing::error!(%error, "a stream could not be served");
                return;
            }
        };
        let mut pushes: Vec<Push> = sent.assignments(service, &host).into_iter().collect();
        let attested = host.last_attested.unwrap_or(0);
        sent.in_vain = sent.challenge.is_some_and(|(of, _)| of == attested);
        let due = sent.due(service.config.reattest_interval, &host);
        if due <= now {
            match reattest::challenge(service, &host, &key, now).await {
                Ok(challenge) => pushes.extend(challenge.map(Push::Reattest)),
                Err(error) => tracing::error!(%error, "no challenge"),
            }
            sent.challenge = Some((attested, now));
            sent.in_vain = true;
        }
        for push in pushes {
            if sender.try_send(push_frame(&push).into()).is_err() {
                return;
            }
        }
        let due = sent.due(service.config.reattest_interval, &host);
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = tokio::time::sleep(Duration::from_secs(due.saturating_sub(now))) => {}
        }
    }
}

/// What is said to a host that is not attested any more. What is not known is not said.
async fn farewell(service: &Service, peer: &Peer) -> Push {
    let host = match service.store.host_by_id(&peer.host).await {
        Ok(host) => host,
        Err(StoreError::NotFound { .. }) => return Push::Withdrawn,
        Err(_) => return Push::Lapsed,
    };
    let own = is_its_device(service, peer).await.unwrap_or(true);
    match host.state.as_str() {
        "attested" | "silent" if own => Push::Lapsed,
        _ => Push::Withdrawn,
    }
}

impl Sent {
    /// The registrations, if they are others than the host has been told.
    fn assignments(&mut self, service: &Service, host: &Host) -> Option<Push> {
        let (generation, registrations) = service.generation_for(host);
        let registrations: Vec<_> = registrations.iter().map(to_wire).collect();
        if self.registrations.as_ref() == Some(&registrations) {
            return None;
        }
        self.registrations = Some(registrations.clone());
        Some(Push::Assignments {
            generation,
            registrations,
            bundle: service.bundle.clone(),
        })
    }

    /// When the host is to be asked next to attest again: in the middle of the interval, at a point of its own so that a fleet
    /// that started together does not stay together, and then again while there is time.
    fn due(&self, interval: u64, host: &Host) -> u64 {
        let attested = host.last_attested.unwrap_or(0);
        match self.challenge {
            Some((of, at)) if of == attested => at + (interval / 8).max(2),
            _ => {
                let own = u64::from(sha256(&[host.id.as_bytes()])[0]);
                attested + interval / 2 + own * interval / 8 / 256
            }
        }
    }
}

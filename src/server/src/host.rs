//! `listen.hosts`: attested hosts ask, over mutual TLS, for their registrations and for credentials for keys in their
//! own TPM or token.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::HeaderMap,
    response::Response,
    routing::{get, post},
};
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_api::{
    attest::MESSAGE,
    frame::MAX_MESSAGE,
    host::{
        ASSIGNMENTS, Assignments, ISSUE_PATH, REATTEST_PATH, REGISTRATIONS_PATH, RENEW_PATH, STREAM_PATH,
    },
};
use touchmark_crypto::SystemEntropy;
use touchmark_rats::{PcrSelection, Purpose, Voucher, cbor};
use touchmark_store::{AttestationKey, Host, StoreError};
use touchmark_tls::clock;
use touchmark_verifier::{Subject, Wanted};

use crate::{
    Service,
    attest::has_media_type,
    greet::still_vouched,
    issue::{Ask, Basis},
    message::{self, Received, Unread},
    reattest,
    refuse::Reply,
    service::to_wire,
    stream,
};

/// The host at the other end, from its validated certificate.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its record.
    pub(crate) host: String,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub(crate) key: [u8; 32],
    /// End of its certificate, seconds since the epoch.
    pub(crate) not_after: u64,
}

/// The routes of this listener.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route(REGISTRATIONS_PATH, get(registrations))
        .route(STREAM_PATH, get(stream::stream))
        .route(ISSUE_PATH, post(issue))
        .route(RENEW_PATH, post(renew))
        .route(REATTEST_PATH, post(reattest::reattest))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
        .fallback(|| async { Reply::stranger("no such resource").into_response() })
        .with_state(service)
}

/// The caller's record, if it may be given anything at this moment. A connection outlives what it was opened with: this
/// is asked at every request.
pub(crate) async fn caller(
    service: &Service,
    peer: &Peer,
    now: u64,
) -> Result<Option<(Host, AttestationKey)>, StoreError> {
    if peer.not_after <= now {
        return Ok(None);
    }
    let host = match service.store.host_by_id(&peer.host).await {
        Ok(host) => host,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Also before anybody has noticed that it is silent.
    let attested = host.last_attested.unwrap_or(0) + service.config.reattest_interval > now;
    if host.state != "attested" || !attested {
        return Ok(None);
    }
    if !is_its_device(service, peer).await? {
        return Ok(None);
    }
    let key = service.store.attestation_key_of(&host.id).await?;
    // A maker's root that was withdrawn takes its chips with it.
    let key = key.filter(|key| still_vouched(service, key).is_ok());
    Ok(key.map(|key| (host, key)))
}

/// Whether the certificate at the other end is for a key in the device that this host has now: one that was replaced had another.
pub(crate) async fn is_its_device(service: &Service, peer: &Peer) -> Result<bool, StoreError> {
    let certified = service
        .store
        .certification(&peer.host, &peer.key, clock::now())
        .await?;
    let key = service.store.attestation_key_of(&peer.host).await?;
    Ok(certified.is_some_and(|certified| key.is_some_and(|key| key.name == certified.attestation)))
}

async fn registrations(State(service): State<Arc<Service>>, Extension(peer): Extension<Peer>) -> Response {
    if !service.host_rates.admit(peer.host.clone(), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    let now = clock::now();
    let reply = match caller(&service, &peer, now).await {
        Ok(Some((host, key))) => assignments(&service, &host, &key, now),
        Ok(None) => Reply::stranger("host is not attested"),
        Err(error) => Reply::unavailable(&error),
    };
    reply.into_response()
}

fn assignments(service: &Service, host: &Host, key: &AttestationKey, now: u64) -> Reply {
    let voucher = match still_vouched(service, key) {
        Ok(voucher) => voucher,
        Err(refusal) => return Reply::stranger(&refusal.to_string()),
    };
    let nothing = PcrSelection(Vec::new());
    let wanted = Wanted {
        purpose: Purpose::Workload,
        subject: subject(host, key, voucher),
        activation: false,
        selection: &nothing,
        log_offsets: vec![0],
    };
    match service.challenger.issue(&SystemEntropy, wanted, now) {
        Err(error) => Reply::unavailable(&error),
        Ok(issued) => {
            let (generation, registrations) = service.generation_for(host);
            let document = Assignments {
                generation,
                registrations: registrations.iter().map(to_wire).collect(),
                challenge: service.challenge(&issued, &nothing, now),
                bundle: service.bundle.clone(),
            };
            Reply::document(ASSIGNMENTS, cbor::encode(&document))
        }
    }
}

/// Whom a challenge is for that needs no activation: a host by its attestation key on record.
pub(crate) fn subject(host: &Host, key: &AttestationKey, voucher: Option<Voucher>) -> Subject {
    Subject {
        host: Some(host.id.clone()),
        endorsement_name: ByteBuf::new(),
        endorsement_digest: ByteArray::new(key.endorsement.as_slice().try_into().unwrap_or([0; 32])),
        attestation_name: ByteBuf::from(key.name.clone()),
        voucher,
    }
}

async fn issue(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    ask(
        &service,
        &peer,
        &headers,
        body,
        &[Basis::Certification, Basis::Report],
    )
    .await
}

async fn renew(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    ask(&service, &peer, &headers, body, &[Basis::Record]).await
}

/// A request for a credential, new or renewed, that stands on one of these.
async fn ask(
    service: &Arc<Service>,
    peer: &Peer,
    headers: &HeaderMap,
    body: Body,
    bases: &[Basis],
) -> Response {
    if !service.issue_rates.admit(peer.host.clone(), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    let media_types: Vec<&'static str> = bases.iter().map(|basis| basis.media_type()).collect();
    let received = match receive(service, peer, headers, body, &media_types).await {
        Ok(received) => received,
        Err(reply) => return reply.into_response(),
    };
    let basis = bases
        .iter()
        .find(|basis| basis.media_type() == received.media_type);
    let Some(basis) = basis.copied() else {
        return Reply::stranger("evidence of another media type").into_response();
    };
    // The message may have taken its time to arrive.
    let now = clock::now();
    let reply = match caller(service, peer, now).await {
        Ok(Some((host, key))) => {
            let ask = Ask {
                service,
                host: &host,
                key: &key,
                basis,
                received: &received,
                now,
            };
            ask.decide().await
        }
        Ok(None) => Ok(Reply::stranger("host is not attested")),
        Err(error) => Err(error),
    };
    reply
        .unwrap_or_else(|error| Reply::unavailable(&error))
        .into_response()
}

/// Reads a host's message with evidence of one of these media types.
pub(crate) async fn receive(
    service: &Service,
    peer: &Peer,
    headers: &HeaderMap,
    body: Body,
    media_types: &[&'static str],
) -> Result<Received, Reply> {
    if !service.host_rates.admit(peer.host.clone(), Instant::now()) {
        return Err(Reply::slow_down());
    }
    if !has_media_type(headers, MESSAGE) {
        return Err(Reply::stranger("media type"));
    }
    message::read(
        body,
        &service.challenger,
        &service.messages,
        media_types,
        clock::now(),
    )
    .await
    .map_err(|unread| match unread {
        Unread::Full => Reply::slow_down(),
        unread => Reply::stranger(&unread.to_string()),
    })
}

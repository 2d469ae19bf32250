//! `listen.hosts`: attested hosts ask, over mutual TLS, for their registrations and for credentials for keys in their
//! own TPM.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_api::{
    attest::MESSAGE,
    frame::{MAX_MESSAGE, MAX_OFFER},
    host::{ASSIGNMENTS, Assignments, ISSUE_PATH, ISSUED, IssueOffer, Issued, REGISTRATIONS_PATH},
};
use touchmark_crypto::SystemEntropy;
use touchmark_issuer::{Grant, Kind, grant};
use touchmark_rats::{PcrSelection, Purpose, Reason, Refusal, Retry, cbor};
use touchmark_store::{AttestationKey, Consumed, Host, Issuance, StoreError};
use touchmark_tls::clock;
use touchmark_verifier::{Attested, Message, Subject, appraise};

use crate::{
    Service,
    attest::{consumption, has_media_type, same_or_refused, still_vouched},
    message::{self, Received, Unread},
    refuse::{Reply, new_id, stored},
    service::to_wire,
};

/// The host at the other end, from its validated certificate.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its record.
    pub(crate) host: String,
    /// End of its certificate, seconds since the epoch.
    pub(crate) not_after: u64,
}

/// The routes of this listener.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route(REGISTRATIONS_PATH, get(registrations))
        .route(ISSUE_PATH, post(issue).layer(DefaultBodyLimit::max(MAX_MESSAGE)))
        .fallback(|| async { Reply::stranger("no such resource").into_response() })
        .with_state(service)
}

/// The caller's record, if it may be given anything at this moment. A connection outlives what it was opened with: this
/// is asked at every request.
async fn caller(
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
    if host.state != "attested" {
        return Ok(None);
    }
    let key = service.store.attestation_key_of(&host.id).await?;
    Ok(key.map(|key| (host, key)))
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
    let subject = Subject {
        host: Some(host.id.clone()),
        endorsement_name: ByteBuf::new(),
        endorsement_digest: ByteArray::new(key.endorsement.as_slice().try_into().unwrap_or([0; 32])),
        attestation_name: ByteBuf::from(key.name.clone()),
        voucher,
    };
    let nothing = PcrSelection(Vec::new());
    match service
        .challenger
        .issue(&SystemEntropy, Purpose::Workload, subject, false, &nothing, now)
    {
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

async fn issue(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !service.host_rates.admit(peer.host.clone(), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    if !has_media_type(&headers, MESSAGE) {
        return Reply::stranger("media type").into_response();
    }
    if !service.issue_rates.admit(peer.host.clone(), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    let now = clock::now();
    let received = match message::read(body, &service.challenger, &service.messages, now).await {
        Ok(received) => received,
        Err(Unread::Full) => return Reply::slow_down().into_response(),
        Err(unread) => return Reply::stranger(&unread.to_string()).into_response(),
    };
    // The message may have taken its time to arrive.
    let now = clock::now();
    let reply = match caller(&service, &peer, now).await {
        Ok(Some((host, key))) => decide(&service, &host, &key, &received, now).await,
        Ok(None) => Ok(Reply::stranger("host is not attested")),
        Err(error) => Err(error),
    };
    reply
        .unwrap_or_else(|error| Reply::unavailable(&error))
        .into_response()
}

/// Decides a request for one credential.
async fn decide(
    service: &Arc<Service>,
    host: &Host,
    key: &AttestationKey,
    received: &Received,
    now: u64,
) -> Result<Reply, StoreError> {
    let challenge = &received.challenge;
    // The challenge was made for this very host and its recorded attestation key: another host's key under it, or
    // another attestation key, is refused before the evidence is looked at.
    if challenge.purpose != Purpose::Workload
        || challenge.subject.host.as_deref() != Some(host.id.as_str())
        || challenge.subject.attestation_name.as_ref() != key.name
        || challenge.expiry <= now
        || !received.log.is_empty()
    {
        return Ok(Reply::stranger(
            "a challenge of another host, attestation key or purpose, expired, or with a log",
        ));
    }
    if let Some(before) = service.store.answer(&challenge.id).await? {
        return Ok(same_or_refused(&before, received, ISSUED));
    }
    let offer: IssueOffer = match cbor::decode(&received.offer, MAX_OFFER) {
        Ok(offer) => offer,
        Err(error) => return Ok(Reply::stranger(&error.to_string())),
    };
    let keys = [offer.key.to_vec()];
    let message = Message {
        cookie: &received.cookie,
        offer: &received.offer,
        evidence: &received.evidence,
        log: &received.log,
        attestation_public: &key.public,
        keys: &keys,
    };
    let attested = match appraise(
        &service.challenger,
        challenge,
        &service.appraiser,
        &message,
        &[],
        now,
    ) {
        Ok(believed) => believed.attested,
        Err(refused) => {
            return refuse(
                service,
                host,
                received,
                &offer,
                &refused.refusal,
                refused.authenticated,
                now,
            )
            .await;
        }
    };
    let granted = same_boot(key, &attested).and_then(|()| granted(service, host, &offer, &attested));
    let (grant, registration) = match granted {
        Err(refusal) => return refuse(service, host, received, &offer, &refusal, true, now).await,
        Ok(grant) => grant,
    };
    let key_digest = attested.keys().first().map_or([0; 32], |key| key.public.digest());
    let elsewhere = service
        .store
        .key_elsewhere(&key_digest, grant.identifier(), grant.kind());
    match elsewhere.await? {
        Some(found) => refuse(service, host, received, &offer, &shared_key(found), true, now).await,
        None => {
            sign(
                service,
                host,
                key,
                received,
                &offer,
                grant,
                registration,
                attested,
                now,
            )
            .await
        }
    }
}

/// A decision that a change made void before it was written.
fn overtaken(found: String) -> Refusal {
    Refusal {
        check: "issue.registration",
        reason: Reason::Conflict,
        expected: "host and registration as they were when this was decided".to_owned(),
        found,
        remedy: "nothing: the agent asks again under what is registered now".to_owned(),
        retry: Retry::Later,
    }
}

/// A key that was certified after a reset which no attestation has shown yet: what the host booted is not known.
fn same_boot(key: &AttestationKey, attested: &Attested) -> Result<(), Refusal> {
    let resets = attested.counters().map(|counters| counters.reset);
    if resets == Some(key.reset_count) {
        return Ok(());
    }
    Err(Refusal {
        check: "host.reset_count",
        reason: Reason::HostNotAttested,
        expected: format!("{} resets, as at the host's attestation", key.reset_count),
        found: resets.map_or_else(|| "no counters".to_owned(), |resets| format!("{resets} resets")),
        remedy: "the host was reset since it attested; its agent attests again by itself".to_owned(),
        retry: Retry::Fresh,
    })
}

/// A key that a credential of another identifier or kind names already.
fn shared_key(found: String) -> Refusal {
    Refusal {
        check: "issue.key",
        reason: Reason::Conflict,
        expected: "a key of its own for each identifier and kind".to_owned(),
        found,
        remedy: "create a new key in the device for this credential".to_owned(),
        retry: Retry::Later,
    }
}

/// The registration that is asked for, if it is this host's: what it grants, and the whole of it as it is now.
fn granted(
    service: &Service,
    host: &Host,
    offer: &IssueOffer,
    attested: &Attested,
) -> Result<(Grant, String), Refusal> {
    let refuse = |reason, expected: &str, found: String| Refusal {
        check: "issue.registration",
        reason,
        expected: expected.to_owned(),
        found,
        remedy: "apply a registration for this host, or remove the agent's claim to it".to_owned(),
        retry: Retry::Later,
    };
    let entry = service
        .registrations_for(host)
        .into_iter()
        .find(|entry| entry.reference == offer.registration);
    let entry = entry.ok_or_else(|| {
        refuse(
            Reason::NoRegistration,
            "a registration for this host",
            format!("{:?}", offer.registration),
        )
    })?;
    let kind = Kind::parse(&offer.kind)
        .ok_or_else(|| refuse(Reason::KindNotAllowed, "x509 or wit", format!("{:?}", offer.kind)))?;
    let key = attested.keys().first().cloned();
    let key = key.ok_or_else(|| refuse(Reason::KeyNotHardware, "a certified key", "none".to_owned()))?;
    let grant = grant(&entry.registration, kind, key, attested.voucher())?;
    Ok((grant, entry.registration.to_json()))
}

#[expect(
    clippy::too_many_arguments,
    reason = "one act over everything that was established"
)]
async fn sign(
    service: &Arc<Service>,
    host: &Host,
    key: &AttestationKey,
    received: &Received,
    offer: &IssueOffer,
    grant: Grant,
    registered: String,
    attested: Attested,
    now: u64,
) -> Result<Reply, StoreError> {
    let authority = Arc::clone(&service.authority);
    let host_evidence = key.evidence.as_slice().try_into().unwrap_or([0; 32]);
    let signed = {
        let grant = grant.clone();
        tokio::task::spawn_blocking(move || authority.issue(&grant, &attested, host_evidence, &SystemEntropy))
            .await
    };
    let credential = match signed {
        Ok(Ok(credential)) => credential,
        Ok(Err(error)) => return Ok(Reply::unavailable(&error)),
        Err(error) => return Ok(Reply::unavailable(&error)),
    };
    let document = Issued {
        identifier: grant.identifier().as_str().to_owned(),
        chain: credential
            .certificate()
            .map_or_else(Vec::new, |der| service.chain(der.to_vec())),
        token: credential.token().unwrap_or_default().to_owned(),
        custody: grant.class().as_str().to_owned(),
        simulated: grant.simulated(),
        usage: grant.usage().as_str().to_owned(),
        not_after: credential.not_after(),
    };
    let issuance = Issuance {
        registration: offer.registration.clone(),
        registered,
        credential,
    };
    let answer = cbor::encode(&document);
    let consumption = consumption(received, host, 200, answer.clone());
    let consumed = match service.store.issue(&consumption, &issuance, now).await {
        // An operator was faster: what was decided no longer holds.
        Err(StoreError::Conflict(why)) => {
            return refuse(service, host, received, offer, &overtaken(why), true, now).await;
        }
        other => other?,
    };
    match consumed {
        Consumed::First => {
            tracing::info!(host = %host.name, identifier = %document.identifier, kind = grant.kind().as_str(), "issued");
            Ok(Reply::document(ISSUED, answer))
        }
        Consumed::Before(before) => Ok(same_or_refused(&before, received, ISSUED)),
    }
}

/// Refuses a request of a host that is known by its certificate: stored, and answered by an id. Evidence that was not
/// authentic consumes nothing.
async fn refuse(
    service: &Service,
    host: &Host,
    received: &Received,
    offer: &IssueOffer,
    refusal: &Refusal,
    consume: bool,
    now: u64,
) -> Result<Reply, StoreError> {
    // What is refused is written, and a host that turned bad does not thereby write as fast as it can.
    if !service.refusal_rates.admit(host.id.clone(), Instant::now()) {
        return Ok(Reply::slow_down());
    }
    let id = new_id();
    let reply = Reply::refused(StatusCode::FORBIDDEN, &id, refusal.retry);
    let subject = format!(
        "host {}, registration {}",
        host.name,
        offer.registration.escape_debug()
    );
    let refusal = stored(&id, &host.id, &subject, refusal, now);
    let consumption = consume.then(|| consumption(received, host, reply.status.as_u16(), reply.body.clone()));
    match service
        .store
        .refuse_request(consumption.as_ref(), &refusal, now)
        .await?
    {
        Consumed::First => {
            tracing::warn!(host = %host.name, refusal = %id, reason = %refusal.reason, "request refused");
            Ok(reply)
        }
        Consumed::Before(before) => Ok(same_or_refused(&before, received, ISSUED)),
    }
}

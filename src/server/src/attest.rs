//! `listen.attest`: a host without a certificate asks for a challenge and answers it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, header},
    response::Response,
    routing::post,
};
use serde_bytes::ByteBuf;
use touchmark_api::{
    attest::{ADMISSION, Admission, CHALLENGE_PATH, EVIDENCE_PATH, MESSAGE, Offer},
    frame::{MAX_MESSAGE, MAX_OFFER},
};
use touchmark_crypto::SystemEntropy;
use touchmark_rats::{Appraiser, Purpose, Reason, Refusal, Retry, cbor, tpm};
use touchmark_store::{Admitted, AttestationKey, Consumed, Consumption, Host, Issuance, StoreError, Stored};
use touchmark_tls::clock;
use touchmark_verifier::{Believed, Challenge, Message};

use crate::{
    Service,
    attempt::Attempt,
    greet,
    issue::certified_key,
    limits::party,
    message::{self, Received, Unread},
    policy::observed,
    refuse::Reply,
    runtime,
    service::to_wire,
    standing::{Break, OVERTAKEN, goes_on},
    verifiers::Doubt,
};

/// The routes of this listener.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route(CHALLENGE_PATH, post(greet::challenge))
        .route(
            EVIDENCE_PATH,
            post(evidence).layer(DefaultBodyLimit::max(MAX_MESSAGE)),
        )
        .fallback(|| async { Reply::stranger("no such resource").into_response() })
        .with_state(service)
}

pub(crate) fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == media_type.as_bytes())
}

async fn evidence(
    State(service): State<Arc<Service>>,
    Extension(source): Extension<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !service.rates.admit(party(source.ip()), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    if !has_media_type(&headers, MESSAGE) {
        return Reply::stranger("media type").into_response();
    }
    let now = clock::now();
    let reply = match message::read(
        body,
        &service.challenger,
        &service.messages,
        &[tpm::MEDIA_TYPE],
        now,
    )
    .await
    {
        Err(Unread::Full) => Reply::slow_down(),
        Err(unread) => Reply::stranger(&unread.to_string()),
        Ok(received) => answer(&service, received, source, clock::now())
            .await
            .unwrap_or_else(|error| Reply::unavailable(&error)),
    };
    reply.into_response()
}

/// Answers a message whose cookie opened.
async fn answer(
    service: &Arc<Service>,
    received: Received,
    source: SocketAddr,
    now: u64,
) -> Result<Reply, StoreError> {
    let challenge = &received.challenge;
    let Some(host_id) = challenge
        .subject
        .host
        .clone()
        .filter(|_| challenge.purpose == Purpose::Enrol)
    else {
        return Ok(Reply::stranger("a challenge for another purpose"));
    };
    // The key, with the counters that were seen last, before the host: what is taken meanwhile counts as later than these.
    let known = service
        .store
        .attestation_key(&challenge.subject.attestation_name)
        .await?;
    let host = service.store.host_by_id(&host_id).await?;
    if !host.is_active() {
        return Ok(Reply::stranger("host is not active"));
    }
    // The message may have taken its time to arrive.
    if challenge.expiry <= now {
        return Ok(Reply::stranger("the challenge has expired"));
    }
    let before = service.store.answer(&challenge.id).await?;
    if let Some(before) = before.as_ref().filter(|before| is_same(before, &received)) {
        return Ok(Reply::again(before, ADMISSION));
    }
    let offer: Offer = match cbor::decode(&received.offer, MAX_OFFER) {
        Ok(offer) => offer,
        Err(error) => return Ok(Reply::stranger(&error.to_string())),
    };
    let public = match attestation_public(
        service,
        challenge,
        offer.attestation_public.as_ref(),
        known.as_ref(),
    ) {
        Ok(public) => public,
        Err(why) => return Ok(Reply::stranger(&why)),
    };
    let keys = [offer.key.to_vec()];
    let files = service.known_files(&host);
    let message = Message {
        cookie: &received.cookie,
        offer: &received.offer,
        evidence: &received.evidence,
        log: &received.log,
        runtime: runtime::list(&received, None, &files),
        attestation_public: &public,
        keys: &keys,
    };
    let attempt = Attempt {
        service,
        host: &host,
        received: &received,
        log: &received.log,
        files: &files,
        source,
        in_session: false,
        now,
    };
    let verdict = attempt.judge(&message);
    if before.is_some() {
        return attempt.used_before(&verdict).await;
    }
    let believed = match verdict {
        Ok(believed) => believed,
        Err(refused) => return attempt.refuse(*refused).await,
    };
    let own = match known {
        Some(key) if key.host != host.id => return attempt.refuse(believed.refused(two_records())).await,
        own => own,
    };
    match goes_on(own.as_ref(), challenge, &believed.attested) {
        Ok(_) => match attempt.confirm(&believed, &public).await {
            Ok(()) => admit(&attempt, &public, believed).await,
            Err(Doubt::Against(refusal)) => attempt.refuse(believed.refused(refusal)).await,
            Err(Doubt::Unheard(refusal)) => Ok(attempt.unheard(&refusal)),
        },
        Err(Break::Overtaken) => Ok(Reply::stranger(OVERTAKEN)),
        Err(Break::Regressed(refusal)) => attempt.refuse(believed.refused(refusal)).await,
    }
}

/// One TPM, enrolled as two hosts by its two endorsement keys.
fn two_records() -> Refusal {
    Refusal {
        check: "host.attestation_key",
        reason: Reason::AttestationKeyMismatch,
        expected: "one record for one TPM".into(),
        found: "an attestation key that is on record for another host".into(),
        remedy: "enrol both endorsement keys of a TPM under one host".into(),
        retry: Retry::Later,
    }
}

/// The same message gets the same answer; another one under a consumed challenge is refused.
pub(crate) fn same_or_refused(before: &Stored, received: &Received, media_type: &'static str) -> Reply {
    if is_same(before, received) {
        Reply::again(before, media_type)
    } else {
        Reply::stranger("the challenge was used by another message")
    }
}

/// Whether the message that was answered is this one.
pub(crate) fn is_same(before: &Stored, received: &Received) -> bool {
    touchmark_crypto::ct_eq(&before.message, &received.digest)
}

/// The attestation key's public area: from the message where a secret was activated for its Name, else from the record.
fn attestation_public(
    service: &Service,
    challenge: &Challenge,
    offered: Option<&ByteBuf>,
    known: Option<&AttestationKey>,
) -> Result<Vec<u8>, String> {
    match (offered, challenge.mac().is_some()) {
        (Some(public), true) => match service.appraiser.attestation_name(public) {
            Ok(name) if name == challenge.subject.attestation_name.as_ref() => Ok(public.to_vec()),
            Ok(_) => Err("attestation key is not the one the challenge names".to_owned()),
            Err(refusal) => Err(refusal.to_string()),
        },
        (None, false) => known
            .map(|key| key.public.clone())
            .ok_or_else(|| "attestation key is not on record".to_owned()),
        _ => Err("attestation key where none is expected, or none where one is".to_owned()),
    }
}

async fn admit(attempt: &Attempt<'_>, public: &[u8], believed: Believed) -> Result<Reply, StoreError> {
    let Attempt {
        service,
        host,
        received,
        now,
        ..
    } = *attempt;
    let kept = attempt.kept(
        &believed.events,
        &believed.measured,
        believed.attested.claims(),
        believed.runtime.as_ref(),
    );
    let attested = believed.attested;
    let lifetime = service.config.host_lifetime;
    let authority = Arc::clone(&service.authority);
    let Some(key) = attested.keys().first().map(|key| key.public.clone()) else {
        return Ok(Reply::stranger("no key was attested"));
    };
    let signed = {
        let attested = attested.clone();
        let sign = move || {
            authority.host_certificate(&attested, &key, attested.evidence(), lifetime, &SystemEntropy)
        };
        tokio::task::spawn_blocking(sign).await
    };
    let certificate = match signed {
        Ok(Ok(certificate)) => certificate,
        Ok(Err(error)) => return Ok(Reply::unavailable(&error)),
        Err(error) => return Ok(Reply::unavailable(&error)),
    };
    let subject = &received.challenge.subject;
    let admission = Admission {
        host: host.id.clone(),
        name: host.name.clone(),
        identifier: certificate.identifier().as_str().to_owned(),
        chain: service.chain(certificate.certificate().unwrap_or_default().to_vec()),
        not_after: certificate.not_after(),
        bundle: service.bundle.clone(),
        registrations: service.registrations_for(host).iter().map(to_wire).collect(),
    };
    let answer = cbor::encode(&admission);
    let counters = attested.counters();
    let key = AttestationKey {
        name: subject.attestation_name.to_vec(),
        host: host.id.clone(),
        endorsement: subject.endorsement_digest.to_vec(),
        public: public.to_vec(),
        voucher: attested
            .voucher()
            .and_then(|voucher| serde_json::to_string(voucher).ok()),
        reset_count: counters.map_or(0, |counters| counters.reset),
        clock: counters.map_or(0, |counters| counters.clock),
        seen_at: now,
        evidence: attested.evidence().to_vec(),
    };
    let certified = certified_key(&key, key.reset_count, &attested);
    let admitted = Admitted {
        key,
        evidence: received.wrapped.clone(),
        log: received.log.clone(),
        kept,
        observed: observed(&attested),
        issuance: Issuance {
            registration: "host".to_owned(),
            registered: String::new(),
            credential: certificate,
            certified,
        },
    };
    let consumption = consumption(received, host, 200, answer.clone());
    let consumed = match service.store.admit(&consumption, &admitted, now).await {
        // An operator was faster, or the key is somebody else's: that is no failure of the service.
        Err(StoreError::Conflict(why)) => return Ok(Reply::stranger(&why)),
        other => other?,
    };
    match consumed {
        Consumed::First => {
            service.streams.host_changed(&host.id);
            tracing::info!(host = %host.name, id = %host.id, "host attested");
            Ok(Reply::document(ADMISSION, answer))
        }
        Consumed::Before(before) => Ok(same_or_refused(&before, received, ADMISSION)),
    }
}

/// The consumption of a message's challenge by its answer.
pub(crate) fn consumption(received: &Received, host: &Host, status: u16, answer: Vec<u8>) -> Consumption {
    Consumption {
        challenge: received.challenge.id,
        message: received.digest,
        host: host.id.clone(),
        status,
        answer,
        expires_at: received.challenge.expiry,
    }
}

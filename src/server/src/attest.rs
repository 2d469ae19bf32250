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
use serde_bytes::{ByteArray, ByteBuf};
use serde_json::json;
use touchmark_api::{
    attest::{
        ADMISSION, Admission, CHALLENGE, CHALLENGE_PATH, CHALLENGE_REQUEST, ChallengeRequest, EVIDENCE_PATH,
        Introduction, MAX_REQUEST, MESSAGE, Offer, SealedSecret,
    },
    frame::{MAX_MESSAGE, MAX_OFFER},
};
use touchmark_crypto::SystemEntropy;
use touchmark_rats::{Appraiser, Candidate, Opening, Purpose, Reason, Refusal, Retry, Voucher, cbor, tpm};
use touchmark_store::{
    Admitted, AttestationKey, Consumed, Consumption, Host, Issuance, RefusedAttempt, StoreError,
};
use touchmark_tls::clock;
use touchmark_verifier::{Attested, Believed, Message, ReferenceSet, Refused, Subject, appraise};

use crate::{
    Service,
    limits::party,
    message::{self, Received, Unread},
    refuse::{Reply, new_id, stored},
    service::to_wire,
};

/// The routes of this listener.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route(CHALLENGE_PATH, post(challenge))
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

async fn challenge(
    State(service): State<Arc<Service>>,
    Extension(source): Extension<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !service.rates.admit(party(source.ip()), Instant::now()) {
        return Reply::slow_down().into_response();
    }
    if !has_media_type(&headers, CHALLENGE_REQUEST) {
        return Reply::stranger("media type").into_response();
    }
    let reply = match message::read_small(body, MAX_REQUEST, &service.messages).await {
        Err(Unread::Full) => Reply::slow_down(),
        Err(unread) => Reply::stranger(&unread.to_string()),
        Ok(body) => make_challenge(&service, &body, source, clock::now()).await,
    };
    reply.into_response()
}

/// Judges the first message and answers with a challenge. Whoever is not enrolled gets one too, marked inside.
async fn make_challenge(service: &Service, body: &[u8], source: SocketAddr, now: u64) -> Reply {
    let request: ChallengeRequest = match cbor::decode(body, MAX_REQUEST) {
        Ok(request) => request,
        Err(error) => return Reply::stranger(&error.to_string()),
    };
    if request.media_type != tpm::MEDIA_TYPE {
        return Reply::stranger("evidence of another media type");
    }
    let result = match request.introduction {
        Introduction::Opening(opening) => match service.appraiser.open(&opening) {
            Ok(opening) => introduce(service, &opening, source, now).await,
            Err(refusal) => return Reply::stranger(&refusal.to_string()),
        },
        Introduction::Known(name) => recognize(service, &name, source, now).await,
    };
    result.unwrap_or_else(|error| Reply::unavailable(&error))
}

/// A host that introduces itself by endorsement keys: the first one enrolled counts.
async fn introduce(
    service: &Service,
    opening: &Opening,
    source: SocketAddr,
    now: u64,
) -> Result<Reply, StoreError> {
    let mut chosen = None;
    for candidate in &opening.candidates {
        if let Some(enrolled) = service.store.host_of_endorsement(&candidate.digest).await? {
            chosen = Some((candidate, enrolled));
            break;
        }
    }
    let (candidate, host, voucher) = match (chosen, opening.candidates.first()) {
        (Some((candidate, enrolled)), _) => match admissible(service, candidate, &enrolled, now) {
            Ok(voucher) => {
                let digests = opening.candidates.iter().map(|candidate| candidate.digest);
                service.notes.known(digests.collect(), source);
                (candidate, Some(enrolled.host.id), voucher)
            }
            Err(refusal) => {
                service.notes.host(&enrolled.host.id, note(&refusal), source, now);
                (candidate, None, None)
            }
        },
        (None, Some(candidate)) => {
            let note = match service.appraiser.vouch(candidate, now) {
                Ok(Some(voucher)) => format!("certified by maker {:?}", voucher.maker),
                Ok(None) => "presented no endorsement certificate".to_owned(),
                Err(refusal) => format!("{}: {}", refusal.reason, refusal.found),
            };
            service.notes.pending(candidate.digest, note, source, now);
            (candidate, None, None)
        }
        (None, None) => return Ok(Reply::stranger("no endorsement key")),
    };
    let subject = Subject {
        host,
        endorsement_name: ByteBuf::from(candidate.name.clone()),
        endorsement_digest: ByteArray::new(candidate.digest),
        attestation_name: ByteBuf::from(opening.attestation_name.clone()),
        voucher,
    };
    Ok(sealed_challenge(service, candidate, opening, subject, now))
}

/// Whether an enrolled endorsement key may go on: the host is active, and its certificate holds where one counts.
fn admissible(
    service: &Service,
    candidate: &Candidate,
    enrolled: &touchmark_store::Enrolled,
    now: u64,
) -> Result<Option<Voucher>, Refusal> {
    if !enrolled.host.is_active() {
        return Err(Refusal {
            check: "host.state",
            reason: Reason::HostNotActive,
            expected: "an active host".into(),
            found: enrolled.host.state.clone(),
            remedy: "enrol it anew if it may come back".into(),
            retry: Retry::Later,
        });
    }
    let voucher = service.appraiser.vouch(candidate, now)?;
    if voucher.is_none() && enrolled.by_certificate {
        return Err(Refusal {
            check: "tpm.endorsement_certificate",
            reason: Reason::PathInvalid,
            expected: "the endorsement certificate it was enrolled by".into(),
            found: "no certificate".into(),
            remedy: "the agent reads it from the TPM; if this TPM lost it, enrol the host by its digest"
                .into(),
            retry: Retry::Later,
        });
    }
    Ok(voucher)
}

fn sealed_challenge(
    service: &Service,
    candidate: &Candidate,
    opening: &Opening,
    subject: Subject,
    now: u64,
) -> Reply {
    let selection = &service.config.selection;
    let issued = service
        .challenger
        .issue(&SystemEntropy, Purpose::Enrol, subject, true, selection, now);
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => return Reply::unavailable(&error),
    };
    let Some(secret) = &issued.secret else {
        return Reply::unavailable(&"no activation secret");
    };
    match service
        .appraiser
        .seal(candidate, &opening.attestation_name, secret)
    {
        Err(refusal) => Reply::stranger(&refusal.to_string()),
        Ok(sealed) => {
            let mut challenge = service.challenge(&issued, selection, now);
            challenge.activation = Some(SealedSecret {
                endorsement_name: ByteBuf::from(candidate.name.clone()),
                credential_blob: ByteBuf::from(sealed.credential_blob),
                encrypted_secret: ByteBuf::from(sealed.encrypted_secret),
            });
            Reply::document(CHALLENGE, cbor::encode(&challenge))
        }
    }
}

/// A host whose attestation key is on record: no activation. An unknown key gets a challenge too, marked inside.
async fn recognize(
    service: &Service,
    name: &[u8],
    source: SocketAddr,
    now: u64,
) -> Result<Reply, StoreError> {
    // Two bytes of algorithm and a digest: nothing else is a Name.
    if ![34, 50, 66].contains(&name.len()) {
        return Ok(Reply::stranger("no Name of a key"));
    }
    let known = match service.store.attestation_key(name).await? {
        None => None,
        Some(key) => {
            let host = service.store.host_by_id(&key.host).await?;
            host.is_active().then_some(key)
        }
    };
    let (host, endorsement, voucher) = match &known {
        None => (None, [0; 32], None),
        Some(key) => match still_vouched(service, key) {
            Ok(voucher) => {
                let digest = key.endorsement.as_slice().try_into().unwrap_or([0; 32]);
                (Some(key.host.clone()), digest, voucher)
            }
            Err(refusal) => {
                service.notes.host(&key.host, note(&refusal), source, now);
                (None, [0; 32], None)
            }
        },
    };
    let subject = Subject {
        host,
        endorsement_name: ByteBuf::new(),
        endorsement_digest: ByteArray::new(endorsement),
        attestation_name: ByteBuf::from(name),
        voucher,
    };
    let selection = &service.config.selection;
    let issued = service
        .challenger
        .issue(&SystemEntropy, Purpose::Enrol, subject, false, selection, now);
    Ok(match issued {
        Ok(issued) => Reply::document(
            CHALLENGE,
            cbor::encode(&service.challenge(&issued, selection, now)),
        ),
        Err(error) => Reply::unavailable(&error),
    })
}

/// The maker that vouched for a key when it was activated, if that maker is still pinned as it was then.
pub(crate) fn still_vouched(service: &Service, key: &AttestationKey) -> Result<Option<Voucher>, Refusal> {
    let Some(text) = &key.voucher else {
        return Ok(None);
    };
    let refuse = |found: String| Refusal {
        check: "tpm.endorsement_certificate",
        reason: Reason::PathInvalid,
        expected: "a maker that is pinned".into(),
        found,
        remedy: "pin the maker's root again under [[tpm.maker]] in server.toml, or replace the host".into(),
        retry: Retry::Later,
    };
    let voucher: Voucher = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    // The very root, not only a maker of that name: a root that was withdrawn takes its chips with it.
    let has_root = |maker: &&touchmark_attestor_tpm::Maker| {
        maker
            .anchors
            .certificates()
            .iter()
            .any(|root| root.spki_digest() == voucher.anchor)
    };
    let pinned = service
        .config
        .makers
        .iter()
        .find(|maker| maker.name == voucher.maker && has_root(maker));
    match pinned {
        Some(maker) => Ok(Some(Voucher {
            kind: maker.kind,
            simulated: maker.simulated,
            ..voucher
        })),
        None => Err(refuse(format!(
            "maker {:?}, which is no longer pinned",
            voucher.maker
        ))),
    }
}

/// A refusal as it is noted in a host's row.
fn note(refusal: &Refusal) -> String {
    json!({
        "check": refusal.check,
        "reason": refusal.reason.code(),
        "expected": refusal.expected,
        "found": refusal.found,
        "remedy": refusal.remedy,
    })
    .to_string()
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
    let reply = match message::read(body, &service.challenger, &service.messages, now).await {
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
    let host = service.store.host_by_id(&host_id).await?;
    if !host.is_active() {
        return Ok(Reply::stranger("host is not active"));
    }
    // The message may have taken its time to arrive.
    if challenge.expiry <= now {
        return Ok(Reply::stranger("the challenge has expired"));
    }
    if let Some(before) = service.store.answer(&challenge.id).await? {
        return Ok(same_or_refused(&before, &received, ADMISSION));
    }
    let offer: Offer = match cbor::decode(&received.offer, MAX_OFFER) {
        Ok(offer) => offer,
        Err(error) => return Ok(Reply::stranger(&error.to_string())),
    };
    let known = service
        .store
        .attestation_key(&challenge.subject.attestation_name)
        .await?;
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
    let message = Message {
        cookie: &received.cookie,
        offer: &received.offer,
        evidence: &received.evidence,
        log: &received.log,
        attestation_public: &public,
        keys: &keys,
    };
    let sets = service.references();
    let applicable: Vec<&ReferenceSet> = sets.iter().filter(|set| set.applies_to(&host.labels)).collect();
    // A log of megabytes takes its time: the runtime is told.
    let verdict = tokio::task::block_in_place(|| {
        appraise(
            &service.challenger,
            challenge,
            &service.appraiser,
            &message,
            &applicable,
            now,
        )
    });
    match verdict {
        Ok(Believed {
            attested,
            events,
            measured,
        }) => {
            let reference = ReferenceSet::capture(&host.name, &events, &measured)
                .ok()
                .map(|set| set.to_toml());
            match known.filter(|key| key.host != host.id) {
                None => admit(service, &host, &received, &public, attested, reference, now).await,
                Some(_) => {
                    let refusal = two_records();
                    let refused = Refused {
                        refusal,
                        authenticated: true,
                        events,
                        measured,
                    };
                    refuse(service, &host, &received, Box::new(refused), source, now).await
                }
            }
        }
        Err(refused) => refuse(service, &host, &received, refused, source, now).await,
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
pub(crate) fn same_or_refused(
    before: &touchmark_store::Stored,
    received: &Received,
    media_type: &'static str,
) -> Reply {
    if touchmark_crypto::ct_eq(&before.message, &received.digest) {
        Reply::again(before, media_type)
    } else {
        Reply::stranger("the challenge was used by another message")
    }
}

/// The attestation key's public area: from the message where a secret was activated for its Name, else from the record.
fn attestation_public(
    service: &Service,
    challenge: &touchmark_verifier::Challenge,
    offered: Option<&ByteBuf>,
    known: Option<&AttestationKey>,
) -> Result<Vec<u8>, String> {
    match (offered, challenge.mac().is_some()) {
        (Some(public), true) => match service.appraiser.key_name(public) {
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

async fn admit(
    service: &Arc<Service>,
    host: &Host,
    received: &Received,
    public: &[u8],
    attested: Attested,
    reference: Option<String>,
    now: u64,
) -> Result<Reply, StoreError> {
    let lifetime = service.config.host_lifetime;
    let authority = Arc::clone(&service.authority);
    let signed = {
        let attested = attested.clone();
        tokio::task::spawn_blocking(move || authority.host_certificate(&attested, lifetime, &SystemEntropy))
            .await
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
    let admitted = Admitted {
        key: AttestationKey {
            name: subject.attestation_name.to_vec(),
            host: host.id.clone(),
            endorsement: subject.endorsement_digest.to_vec(),
            public: public.to_vec(),
            voucher: attested
                .voucher()
                .and_then(|voucher| serde_json::to_string(voucher).ok()),
            reset_count: attested.counters().map_or(0, |counters| counters.reset),
            evidence: attested.evidence().to_vec(),
        },
        evidence: received.wrapped.clone(),
        log: received.log.clone(),
        reference,
        issuance: Issuance {
            registration: "host".to_owned(),
            registered: String::new(),
            credential: certificate,
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
            tracing::info!(host = %host.name, id = %host.id, "host attested");
            Ok(Reply::document(ADMISSION, answer))
        }
        Consumed::Before(before) => Ok(same_or_refused(&before, received, ADMISSION)),
    }
}

async fn refuse(
    service: &Service,
    host: &Host,
    received: &Received,
    refused: Box<Refused>,
    source: SocketAddr,
    now: u64,
) -> Result<Reply, StoreError> {
    let refusal = &refused.refusal;
    // With an activation the MAC has shown who speaks; without, only the attestation's own signature does.
    if !refused.authenticated && received.challenge.mac().is_none() {
        service.notes.host(&host.id, note(refusal), source, now);
        return Ok(Reply::stranger(&refusal.to_string()));
    }
    let id = new_id();
    let reply = Reply::refused(axum::http::StatusCode::FORBIDDEN, &id, refusal.retry);
    let attempt = RefusedAttempt {
        refusal: stored(&id, &host.id, &format!("host {}", host.name), refusal, now),
        evidence: received.wrapped.clone(),
        log: received.log.clone(),
        reference: ReferenceSet::capture(&host.name, &refused.events, &refused.measured)
            .ok()
            .map(|set| set.to_toml()),
    };
    let consumption = consumption(received, host, reply.status.as_u16(), reply.body.clone());
    match service.store.refuse(&consumption, &attempt, now).await? {
        Consumed::First => {
            tracing::warn!(host = %host.name, refusal = %id, reason = %refusal.reason, "host refused");
            Ok(reply)
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

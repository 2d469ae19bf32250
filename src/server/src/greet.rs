//! The first message at `listen.attest`: a host introduces itself and gets a challenge, whoever it is.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{Extension, body::Body, extract::State, http::HeaderMap, response::Response};
use serde_bytes::{ByteArray, ByteBuf};
use serde_json::json;
use touchmark_api::attest::{
    CHALLENGE, CHALLENGE_REQUEST, ChallengeRequest, Introduction, MAX_REQUEST, SealedSecret,
};
use touchmark_crypto::SystemEntropy;
use touchmark_rats::{
    Appraiser, Candidate, CertifiedKey, Opening, PcrSelection, Purpose, Reason, Refusal, Retry, Voucher,
    cbor, tpm,
};
use touchmark_store::{AttestationKey, StoreError};
use touchmark_tls::clock;
use touchmark_verifier::{Subject, Wanted};

use crate::{
    Service,
    attest::has_media_type,
    limits::party,
    message::{self, Unread},
    refuse::Reply,
    runtime,
};

pub(crate) async fn challenge(
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
        (Some((candidate, enrolled)), _) => {
            match admitted(service, candidate, opening, &enrolled, now).await? {
                Ok(voucher) => {
                    let digests = opening.candidates.iter().map(|candidate| candidate.digest);
                    service.notes.known(digests.collect(), source);
                    (candidate, Some(enrolled.host.id), voucher)
                }
                Err(refusal) => {
                    service
                        .notes
                        .host(&enrolled.host.id, note(&refusal, false), source, now);
                    (candidate, None, None)
                }
            }
        }
        (None, Some(candidate)) => {
            let note = match service.appraiser.vouch(candidate, now) {
                Ok(Some(voucher)) => match voucher.certified {
                    CertifiedKey::EndorsementKey => format!("certified by maker {:?}", voucher.maker),
                    // That key need not be in one device with this one, which nobody certified and nobody has proved to have.
                    CertifiedKey::AttestationKey => format!(
                        "not certified; it came with an attestation key that maker {:?} certified, which proves nothing of this one",
                        voucher.maker
                    ),
                },
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

/// Whether an enrolled host may go on with this attestation key. Once a maker's certificate was believed of a host, nothing less is: neither
/// the certificate of the attestation key where that of the endorsement key was shown, nor another attestation key that a cloud certified,
/// which may be in any device of that cloud.
async fn admitted(
    service: &Service,
    candidate: &Candidate,
    opening: &Opening,
    enrolled: &touchmark_store::Enrolled,
    now: u64,
) -> Result<Result<Option<Voucher>, Refusal>, StoreError> {
    let voucher = match admissible(service, candidate, enrolled, now) {
        Ok(voucher) => voucher,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let certified = voucher.as_ref().map(|voucher| voucher.certified);
    if certified == Some(CertifiedKey::EndorsementKey) {
        return Ok(Ok(voucher));
    }
    let Some(recorded) = service.store.attestation_key_of(&enrolled.host.id).await? else {
        return Ok(Ok(voucher));
    };
    let before = recorded
        .voucher
        .as_deref()
        .and_then(|text| serde_json::from_str::<Voucher>(text).ok())
        .map(|voucher| voucher.certified);
    let same = recorded.name == opening.attestation_name;
    let less = match before {
        None => false,
        Some(CertifiedKey::EndorsementKey) => true,
        Some(CertifiedKey::AttestationKey) => certified.is_none() || !same,
    };
    if !less {
        return Ok(Ok(voucher));
    }
    Ok(Err(Refusal {
        check: "tpm.attestation_key.record",
        reason: Reason::AttestationKeyMismatch,
        expected: match before {
            Some(CertifiedKey::EndorsementKey) => "the endorsement certificate, as this host showed it before",
            _ => "the attestation key that a cloud certified for this host before",
        }
        .into(),
        found: match certified {
            None => "no certificate",
            Some(_) if same => "a certificate of the attestation key alone",
            Some(_) => "a certificate of another attestation key",
        }
        .into(),
        remedy: "if the device was replaced, tell the service: touchmark host replace; otherwise somebody has this host's endorsement \
                 key in another device"
            .into(),
        retry: Retry::Later,
    }))
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
    let certified = voucher.as_ref().map(|voucher| voucher.certified);
    if enrolled.by_certificate && certified != Some(CertifiedKey::EndorsementKey) {
        return Err(Refusal {
            check: "tpm.endorsement_certificate",
            reason: Reason::PathInvalid,
            expected: "the endorsement certificate it was enrolled by".into(),
            found: match certified {
                Some(_) => "a certificate of the attestation key alone".into(),
                None => "no certificate".into(),
            },
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
        .issue(&SystemEntropy, enrol(subject, true, selection), now);
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

fn enrol(subject: Subject, activation: bool, selection: &PcrSelection) -> Wanted<'_> {
    Wanted {
        purpose: Purpose::Enrol,
        subject,
        activation,
        selection,
        log_offsets: runtime::offsets(selection, 0, 0),
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
                service.notes.host(&key.host, note(&refusal, false), source, now);
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
        .issue(&SystemEntropy, enrol(subject, false, selection), now);
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
    let refuse = |found: String| {
        Refusal {
        check: "tpm.endorsement_certificate",
        reason: Reason::PathInvalid,
        expected: "a maker that is pinned".into(),
        found,
        remedy: "pin the maker's root again under [[tpm.maker]] in server.toml (with attestation_certificates = true where the certificate \
                 is of the attestation key), or replace the host"
            .into(),
        retry: Retry::Later,
    }
    };
    let voucher: Voucher = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    // The very root, not only a maker of that name: a root that was withdrawn takes its chips with it.
    let has_root = |maker: &&touchmark_attestor_tpm::Maker| {
        maker
            .anchors
            .certificates()
            .iter()
            .any(|root| root.facts.spki_digest() == voucher.anchor)
    };
    let pinned =
        service.config.makers.iter().find(|maker| {
            maker.name == voucher.maker && has_root(maker) && maker.certifies(voucher.certified)
        });
    match pinned {
        Some(maker) => Ok(Some(Voucher {
            kind: maker.kind,
            simulated: maker.simulated,
            ..voucher
        })),
        None => Err(refuse(format!(
            "maker {:?}, which is no longer pinned for this kind of certificate",
            voucher.maker
        ))),
    }
}

/// A refusal as a note. `authentic`: the evidence was the device's own, though nothing was concluded from it.
pub(crate) fn note(refusal: &Refusal, authentic: bool) -> String {
    json!({
        "authentic": authentic,
        "check": refusal.check,
        "reason": refusal.reason.code(),
        "expected": refusal.expected,
        "found": refusal.found,
        "remedy": refusal.remedy,
    })
    .to_string()
}

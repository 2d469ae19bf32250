//! A host attests again over its session: one quote by its attestation key on record, and what its boot log gained.

use std::{net::SocketAddr, sync::Arc};

use axum::{Extension, body::Body, extract::State, http::HeaderMap, response::Response};
use touchmark_api::{
    attest,
    host::{REATTESTED, Reattested},
};
use touchmark_crypto::{CryptoError, PublicKey, SystemEntropy};
use touchmark_issuer::Credential;
use touchmark_rats::{BootCounters, Purpose, Reason, Refusal, Retry, cbor, tpm};
use touchmark_store::{AttestationKey, Consumed, Host, Issuance, Seen, StoreError};
use touchmark_tls::clock;
use touchmark_verifier::{Attested, Believed, Continuity, Message, Wanted};

use crate::{
    Service,
    attempt::Attempt,
    attest::{consumption, is_same, same_or_refused},
    greet::still_vouched,
    host::{Peer, receive, subject},
    message::Received,
    policy::observed,
    refuse::Reply,
    runtime,
    standing::{Break, OVERTAKEN, goes_on},
    verifiers::Doubt,
};

/// A challenge to attest again, for this host's attestation key on record; `None` where that is no longer vouched for.
pub(crate) async fn challenge(
    service: &Service,
    host: &Host,
    key: &AttestationKey,
    now: u64,
) -> Result<Option<attest::Challenge>, StoreError> {
    let Ok(voucher) = still_vouched(service, key) else {
        return Ok(None);
    };
    let selection = &service.config.selection;
    let boot = service.store.boot_log_length(&host.id).await?;
    let list = match selection.covers_runtime() {
        true => service.store.runtime(&host.id, false).await?,
        false => None,
    };
    let files = service.known_files(host);
    let from = list
        .filter(|list| runtime::goes_on(list, &files))
        .map_or(0, |list| list.offset);
    let wanted = Wanted {
        purpose: Purpose::Reattest,
        subject: subject(host, key, voucher),
        activation: false,
        selection,
        log_offsets: runtime::offsets(selection, boot, from),
    };
    let issued = service.challenger.issue(&SystemEntropy, wanted, now);
    Ok(issued
        .inspect_err(|error: &CryptoError| tracing::error!(%error, "no challenge"))
        .ok()
        .map(|issued| service.challenge(&issued, selection, now)))
}

pub(crate) async fn reattest(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Extension(source): Extension<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let received = match receive(&service, &peer, &headers, body, &[tpm::MEDIA_TYPE]).await {
        Ok(received) => received,
        Err(reply) => return reply.into_response(),
    };
    answer(&service, &peer, &received, source, clock::now())
        .await
        .unwrap_or_else(|error| Reply::unavailable(&error))
        .into_response()
}

async fn answer(
    service: &Arc<Service>,
    peer: &Peer,
    received: &Received,
    source: SocketAddr,
    now: u64,
) -> Result<Reply, StoreError> {
    let challenge = &received.challenge;
    // The key, with the counters that were seen last, before the host: what is taken meanwhile counts as later than these.
    let key = service.store.attestation_key_of(&peer.host).await?;
    let host = service.store.host_by_id(&peer.host).await?;
    let Some(key) = key.filter(|key| {
        peer.not_after > now
            && challenge.purpose == Purpose::Reattest
            && challenge.subject.host.as_deref() == Some(host.id.as_str())
            && challenge.subject.attestation_name.as_ref() == key.name
            && challenge.expiry > now
            && received.offer.is_empty()
    }) else {
        return Ok(Reply::stranger(
            "a challenge of another host, key or purpose, or expired",
        ));
    };
    let before = service.store.answer(&challenge.id).await?;
    if let Some(before) = before
        .as_ref()
        .filter(|before| host.is_active() && is_same(before, received))
    {
        return Ok(Reply::again(before, REATTESTED));
    }
    // A host that fell silent may attest again like this; one that was refused begins anew.
    if !matches!(host.state.as_str(), "attested" | "silent") {
        return Ok(Reply::stranger("host is not attested"));
    }
    // What was there at the last attestation is on record.
    let mut log = service.store.boot_log(&host.id).await?;
    let files = service.known_files(&host);
    let boot = u64::try_from(log.len()).unwrap_or(u64::MAX);
    let runtime = match runtime::on_record(service, &host, challenge, &files).await? {
        Some(runtime) if challenge.offsets.first() == Some(&boot) => runtime,
        _ => return Ok(Reply::stranger(OVERTAKEN)),
    };
    log.extend_from_slice(&received.log);
    let message = Message {
        cookie: &received.cookie,
        offer: &received.offer,
        evidence: &received.evidence,
        log: &log,
        runtime: runtime::list(received, runtime.as_deref(), &files),
        attestation_public: &key.public,
        keys: &[],
    };
    let attempt = Attempt {
        service,
        host: &host,
        received,
        log: &log,
        files: &files,
        source,
        in_session: true,
        now,
    };
    let verdict = attempt.judge(&message);
    if before.is_some() {
        return attempt.used_before(&verdict).await;
    }
    let refused = match verdict {
        Err(refused) => {
            // What was measured since a reset does not go on from before it: that says less than the reset.
            let mut refused = *refused;
            if let Some(counters) = refused
                .counters
                .filter(|counters| counters.reset > key.reset_count)
            {
                refused.refusal = unexpected_reset(&key, Some(counters));
            }
            refused
        }
        Ok(believed) => match goes_on(Some(&key), challenge, &believed.attested) {
            Ok(Continuity::SameBoot) => match attempt.confirm(&believed, &key.public).await {
                Ok(()) => return accept(&attempt, peer, &key, believed).await,
                Err(Doubt::Against(refusal)) => believed.refused(refusal),
                Err(Doubt::Unheard(refusal)) => return Ok(attempt.unheard(&refusal)),
            },
            Ok(Continuity::Reset) => {
                let refusal = unexpected_reset(&key, believed.attested.counters());
                believed.refused(refusal)
            }
            Err(Break::Overtaken) => return Ok(Reply::stranger(OVERTAKEN)),
            Err(Break::Regressed(refusal)) => believed.refused(refusal),
        },
    };
    attempt.refuse(refused).await
}

/// The host was reset since it attested: what it booted is judged from the beginning.
fn unexpected_reset(key: &AttestationKey, counters: Option<BootCounters>) -> Refusal {
    Refusal {
        check: "host.reset_count",
        reason: Reason::UnexpectedReset,
        expected: format!("{} resets, as at the host's attestation", key.reset_count),
        found: counters.map_or_else(
            || "no counters".to_owned(),
            |counters| format!("{} resets", counters.reset),
        ),
        remedy: "the host was reset since it attested; its agent attests from the beginning by itself"
            .to_owned(),
        retry: Retry::Fresh,
    }
}

async fn accept(
    attempt: &Attempt<'_>,
    peer: &Peer,
    key: &AttestationKey,
    believed: Believed,
) -> Result<Reply, StoreError> {
    let Attempt {
        service,
        host,
        received,
        log,
        now,
        ..
    } = *attempt;
    let log = (!received.log.is_empty()).then(|| log.to_vec());
    let kept = (log.is_some() || believed.runtime.is_some()).then(|| {
        attempt.kept(
            &believed.events,
            &believed.measured,
            believed.attested.claims(),
            believed.runtime.as_ref(),
        )
    });
    let renewed = match renewed(service, peer, key, &believed.attested, now).await {
        Ok(renewed) => renewed,
        Err(why) => return Ok(Reply::unavailable(&why)),
    };
    let document = Reattested {
        chain: renewed
            .as_ref()
            .and_then(Credential::certificate)
            .map_or_else(Vec::new, |der| service.chain(der.to_vec())),
    };
    let answer = cbor::encode(&document);
    let counters = believed.attested.counters();
    let reattested = touchmark_store::Reattested {
        seen: Seen {
            attestation: key.name.clone(),
            reset_count: counters.map_or(0, |counters| counters.reset),
            clock: counters.map_or(0, |counters| counters.clock),
        },
        evidence: received.wrapped.clone(),
        digest: believed.attested.evidence(),
        log,
        kept,
        observed: observed(&believed.attested),
        issuance: renewed.map(|credential| Issuance {
            registration: "host".to_owned(),
            registered: String::new(),
            credential,
            certified: None,
        }),
    };
    let consumption = consumption(received, host, 200, answer.clone());
    let consumed = match service.store.reattest(&consumption, &reattested, now).await {
        // Something else was decided about this host meanwhile.
        Err(StoreError::Conflict(why)) => return Ok(Reply::stranger(&why)),
        other => other?,
    };
    match consumed {
        Consumed::First => {
            tracing::debug!(host = %host.name, "host attested again");
            service.streams.host_changed(&host.id);
            Ok(Reply::document(REATTESTED, answer))
        }
        Consumed::Before(before) => Ok(same_or_refused(&before, received, REATTESTED)),
    }
}

/// A new certificate for the host's key where the old one is due: the session has shown possession of the key, and its
/// certification is on record.
async fn renewed(
    service: &Arc<Service>,
    peer: &Peer,
    key: &AttestationKey,
    attested: &Attested,
    now: u64,
) -> Result<Option<Credential>, String> {
    let (lifetime, interval) = (service.config.host_lifetime, service.config.reattest_interval);
    let left = peer.not_after.saturating_sub(now);
    if left > (lifetime / 2).max(lifetime.min(2 * interval)) {
        return Ok(None);
    }
    let certified = service
        .store
        .certification(&peer.host, &peer.key, now)
        .await
        .map_err(|error| error.to_string())?
        .filter(|certified| certified.attestation == key.name && certified.reset_count == key.reset_count);
    // One that cannot be renewed like this ends, and the agent has another key certified in time.
    let Some(certified) = certified else {
        return Ok(None);
    };
    let public = PublicKey::from_spki(&certified.spki).map_err(|error| error.to_string())?;
    let evidence = certified.evidence.try_into().unwrap_or([0; 32]);
    let (authority, attested) = (Arc::clone(&service.authority), attested.clone());
    let sign = move || authority.host_certificate(&attested, &public, evidence, lifetime, &SystemEntropy);
    match tokio::task::spawn_blocking(sign).await {
        Ok(Ok(certificate)) => Ok(Some(certificate)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

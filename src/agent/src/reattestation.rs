//! Attesting again over the open session: one quote, and what the boot log gained.

use std::sync::Arc;

use hyper::Method;
use touchmark_api::{
    attest::{Challenge, MAX_ANSWER, MESSAGE},
    device::Urgency,
    frame,
    host::{REATTEST_PATH, REATTESTED, Reattested},
};
use touchmark_helper::{Exchange, evidence};
use touchmark_rats::{PcrSelection, Purpose, cbor};
use touchmark_tls::clock;

use crate::{
    AttestationError, Config, HostIdentity,
    attestation::{certified, check_challenge, on_device, runtime_list},
    collected::Collected,
    session::Sessions,
};

/// Answers a challenge that was pushed. Returns the host's identity with its renewed certificate, or the one that it has.
pub(crate) async fn reattest(
    config: &Config,
    sessions: &Sessions,
    host: &Arc<HostIdentity>,
    challenge: &Challenge,
) -> Result<Arc<HostIdentity>, AttestationError> {
    let session = sessions.under(host).await?;
    check_challenge(challenge, config, session.anchor())?;
    let collected = prepare(config, challenge, session.anchor()).await?;
    let message = frame::finish(collected.encode(config, challenge, &[]).await?, &[]);
    let sent = session
        .exchange(Method::POST, REATTEST_PATH, MESSAGE, message.clone(), REATTESTED)
        .await;
    let answer = match sent {
        Err(error) if error.is_outage() => {
            tracing::warn!(%error, "no answer to the evidence; sending the same bytes again");
            let session = sessions.after(host, &session, &error).await?;
            session
                .exchange(Method::POST, REATTEST_PATH, MESSAGE, message, REATTESTED)
                .await?
        }
        sent => sent?,
    };
    let reattested: Reattested =
        cbor::decode(&answer, MAX_ANSWER).map_err(|error| AttestationError::Answer(error.to_string()))?;
    renewed(config, host, &reattested)
}

async fn prepare(
    config: &Config,
    challenge: &Challenge,
    anchor: [u8; 32],
) -> Result<Collected, AttestationError> {
    let selection = PcrSelection::from_wire(&challenge.selection)
        .filter(|selection| !selection.0.is_empty())
        .ok_or_else(|| AttestationError::Answer("the challenge names no registers".into()))?;
    let device = config.device.urgent(Urgency::Quote);
    let domain = config.pins.trust_domain.to_string();
    let (challenge, wanted) = (challenge.clone(), !config.verifiers.is_empty());
    on_device(move || {
        let exchange = Exchange {
            purpose: Purpose::Reattest,
            trust_domain: &domain,
            anchor,
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &selection,
            log_offsets: &challenge.log_offsets,
        };
        let evidence = evidence(&device, &exchange, &[], &[])?;
        // Read after the quote, so that they are never shorter than what was quoted.
        let log = device.boot_log()?;
        let runtime = runtime_list(&device, &challenge)?;
        let attestation_public = match wanted {
            true => device.attestation_key(&domain)?.public.into_vec(),
            false => Vec::new(),
        };
        Ok(Collected {
            attestation_public,
            evidence: cbor::encode(&evidence),
            bind: exchange.bind(&[], &[]),
            log,
            runtime,
        })
    })
    .await
}

fn renewed(
    config: &Config,
    host: &Arc<HostIdentity>,
    reattested: &Reattested,
) -> Result<Arc<HostIdentity>, AttestationError> {
    if reattested.chain.is_empty() {
        return Ok(Arc::clone(host));
    }
    let chain: Vec<Vec<u8>> = reattested.chain.iter().map(|der| der.to_vec()).collect();
    let certified = certified(config, &chain, &host.bundle, &host.key)?;
    if certified.identifier.as_str() != host.identifier {
        return Err(AttestationError::Answer(
            "a certificate for another identifier".into(),
        ));
    }
    Ok(Arc::new(HostIdentity {
        not_after: certified.not_after,
        issued_at: clock::now(),
        certified: certified.identity,
        ..HostIdentity::clone(host)
    }))
}

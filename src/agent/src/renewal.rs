//! The renewal of a workload's credential: the same key, whose certification is on record, and one signature by it.

use std::sync::Arc;

use touchmark_api::{
    device::Urgency,
    frame,
    host::{Assignments, IssueOffer, RENEW_PATH, Registration},
};
use touchmark_helper::{Exchange, possession};
use touchmark_rats::{PcrSelection, Purpose, cbor, cmw, possession::MEDIA_TYPE};

use crate::{
    AttestationError, Config, HostIdentity,
    attestation::on_device,
    issue::{Credential, accept, send},
    session::Sessions,
};

/// Renews a credential under its registration.
pub(crate) async fn renew(
    config: &Config,
    sessions: &Sessions,
    host: &Arc<HostIdentity>,
    assignments: &Assignments,
    registration: &Registration,
    credential: &Credential,
) -> Result<Credential, AttestationError> {
    let message = prepare(config, assignments, registration, credential).await?;
    let issued = send(sessions, host, RENEW_PATH, &message).await?;
    let (kind, key) = (&credential.kind, &credential.description);
    accept(config, assignments, registration, kind, &issued, key)
}

async fn prepare(
    config: &Config,
    assignments: &Assignments,
    registration: &Registration,
    credential: &Credential,
) -> Result<Vec<u8>, AttestationError> {
    let device = config.device.urgent(Urgency::Renewal);
    let challenge = assignments.challenge.clone();
    let domain = config.pins.trust_domain.to_string();
    let key = credential.description.clone();
    let offer = cbor::encode(&IssueOffer {
        registration: registration.reference.clone(),
        kind: credential.kind.clone(),
        key: key.public.clone(),
    });
    on_device(move || {
        let exchange = Exchange {
            purpose: Purpose::Workload,
            trust_domain: &domain,
            anchor: challenge.anchor.into_array(),
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &PcrSelection(Vec::new()),
            log_offsets: &challenge.log_offsets,
        };
        let proof = possession(&device, &exchange, &offer, &key)?;
        let wrapped = cmw::Record::evidence(MEDIA_TYPE, cbor::encode(&proof)).to_cbor();
        Ok(frame::finish(
            frame::encode(&challenge.cookie, &offer, &wrapped, frame::Enclosed::default()),
            &[],
        ))
    })
    .await
}

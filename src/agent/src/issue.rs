//! A workload's credential: a key made and certified in the TPM, and the service's answer for it.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_api::{
    attest::{MAX_ANSWER, MESSAGE},
    device::KeyDescription,
    frame,
    host::{
        ASSIGNMENTS, Assignments, Bundle, ISSUE_PATH, ISSUED, IssueOffer, Issued, REGISTRATIONS_PATH,
        Registration,
    },
};
use touchmark_crypto::{PublicKey, Purpose as KeyPurpose, jose::json};
use touchmark_custody::HeldKey;
use touchmark_helper::{Device, Exchange, created_key, evidence};
use touchmark_rats::{PcrSelection, Purpose, cbor, cmw, tpm};
use touchmark_tls::clock;
use touchmark_wimse::{bundle, wit};

use crate::{
    Config,
    attestation::{AttestationError, check_challenge, on_device},
    host_identity::HostIdentity,
    run::jittered,
    session::Sessions,
    trust::own_certificate,
};

/// A credential in the agent's hands.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    /// Registration it was issued under.
    pub(crate) registration: String,
    /// Identifier.
    pub(crate) identifier: String,
    /// `x509` or `wit`.
    pub(crate) kind: String,
    /// Chain, leaf first, without root; empty for a token.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Token; empty for a certificate.
    pub(crate) token: String,
    /// The key's handle.
    pub(crate) handle: String,
    /// The key.
    pub(crate) key: HeldKey,
    /// The key as its device described it, with its TSS2 structure.
    pub(crate) description: KeyDescription,
    /// Custody class.
    pub(crate) custody: String,
    /// Whether the device is simulated.
    pub(crate) simulated: bool,
    /// `agent` or `file`.
    pub(crate) usage: String,
    /// The registration as it was.
    pub(crate) revision: ByteArray<32>,
    /// When it is to be renewed.
    pub(crate) renew_at: u64,
    /// When it expires.
    pub(crate) not_after: u64,
}

/// Asks for this host's registrations, and for a challenge for one request.
pub(crate) async fn assignments(
    config: &Config,
    sessions: &Sessions,
    host: &Arc<HostIdentity>,
) -> Result<Assignments, AttestationError> {
    let nothing = "application/octet-stream";
    let mut session = sessions.under(host).await?;
    let mut again = true;
    loop {
        let answer = session
            .exchange(Method::GET, REGISTRATIONS_PATH, nothing, Vec::new(), ASSIGNMENTS)
            .await;
        match answer {
            Ok(answer) => {
                let assignments: Assignments = cbor::decode(&answer, MAX_ANSWER)
                    .map_err(|error| AttestationError::Answer(error.to_string()))?;
                check_challenge(&assignments.challenge, config, session.anchor())?;
                return Ok(assignments);
            }
            // The session may have died unnoticed: another one, once.
            Err(error) if again && error.is_outage() => {
                again = false;
                session = sessions.after(host, &session, &error).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Obtains one credential under a registration, for a caller who takes turns at the device with the others.
pub(crate) async fn issue(
    config: &Config,
    sessions: &Sessions,
    host: &Arc<HostIdentity>,
    assignments: &Assignments,
    registration: &Registration,
    kind: &str,
    turn: u64,
) -> Result<Credential, AttestationError> {
    let device = config.device.on_behalf_of(turn);
    let anchor = assignments.challenge.anchor.into_array();
    let (key, message) = prepare(config, device, anchor, assignments, registration, kind).await?;
    let issued = send(sessions, host, ISSUE_PATH, &message).await?;
    accept(config, assignments, registration, kind, &issued, &key)
}

/// Sends a request for a credential; when its answer is lost, the same bytes once more, which get the same answer.
pub(crate) async fn send(
    sessions: &Sessions,
    host: &Arc<HostIdentity>,
    path: &str,
    message: &[u8],
) -> Result<Issued, AttestationError> {
    let session = sessions.under(host).await?;
    let sent = session
        .exchange(Method::POST, path, MESSAGE, message.to_vec(), ISSUED)
        .await;
    let answer = match sent {
        Err(error) if error.is_outage() => {
            tracing::warn!(%error, "no answer to a request for a credential; sending the same bytes again");
            let session = sessions.after(host, &session, &error).await?;
            session
                .exchange(Method::POST, path, MESSAGE, message.to_vec(), ISSUED)
                .await?
        }
        sent => sent?,
    };
    cbor::decode(&answer, MAX_ANSWER).map_err(|error| AttestationError::Answer(error.to_string()))
}

async fn prepare(
    config: &Config,
    device: Device,
    anchor: [u8; 32],
    assignments: &Assignments,
    registration: &Registration,
    kind: &str,
) -> Result<(KeyDescription, Vec<u8>), AttestationError> {
    let challenge = assignments.challenge.clone();
    let domain = config.pins.trust_domain.to_string();
    let (reference, kind) = (registration.reference.clone(), kind.to_owned());
    on_device(move || {
        let key = device.create_key(None)?;
        let offer = cbor::encode(&IssueOffer {
            registration: reference,
            kind,
            key: key.public.clone(),
        });
        let exchange = Exchange {
            purpose: Purpose::Workload,
            trust_domain: &domain,
            anchor,
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &PcrSelection(Vec::new()),
            log_offsets: &challenge.log_offsets,
        };
        let evidence = evidence(&device, &exchange, &offer, &[&key])?;
        let wrapped = cmw::Record::evidence(tpm::MEDIA_TYPE, cbor::encode(&evidence)).to_cbor();
        let message = frame::finish(
            frame::encode(&challenge.cookie, &offer, &wrapped, frame::Enclosed::default()),
            &[],
        );
        Ok((key, message))
    })
    .await
}

/// Checks that the credential is for our key, of the identifier that was asked for, and below what this host trusts.
pub(crate) fn accept(
    config: &Config,
    assignments: &Assignments,
    registration: &Registration,
    kind: &str,
    issued: &Issued,
    key: &KeyDescription,
) -> Result<Credential, AttestationError> {
    let wrong = |what: String| AttestationError::Answer(what);
    if issued.identifier != registration.identifier {
        return Err(wrong("a credential for another identifier".into()));
    }
    let now = clock::now();
    let chain: Vec<Vec<u8>> = issued.chain.iter().map(|der| der.to_vec()).collect();
    let not_after = match kind {
        "x509" => {
            let (identifier, not_after) = own_certificate(config, &chain, &assignments.bundle, key)?;
            if identifier.as_str() != registration.identifier {
                return Err(wrong("a certificate for another identifier".into()));
            }
            not_after
        }
        _ => {
            let jwks =
                json::object(assignments.bundle.jwks.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            let public = PublicKey::from_spki(&key.spki).map_err(|error| wrong(error.to_string()))?;
            let received = wit::check_received(
                &issued.token,
                &public,
                &config.pins.trust_domain,
                &bundle::wit_keys(&jwks),
                now,
            )
            .map_err(|error| wrong(error.to_string()))?;
            if received.identifier.as_str() != registration.identifier {
                return Err(wrong("a token for another identifier".into()));
            }
            received.expires_at
        }
    };
    let purposes: &'static [KeyPurpose] = if kind == "x509" { X509_USE } else { WIT_USE };
    let held = created_key(&config.device, key, purposes).map_err(|error| wrong(error.to_string()))?;
    Ok(Credential {
        registration: registration.reference.clone(),
        identifier: issued.identifier.clone(),
        kind: kind.to_owned(),
        chain,
        token: issued.token.clone(),
        handle: handle(&key.spki),
        key: held,
        description: key.clone(),
        custody: issued.custody.clone(),
        simulated: issued.simulated,
        usage: issued.usage.clone(),
        revision: registration.revision,
        renew_at: now + jittered(Duration::from_secs(not_after.saturating_sub(now) / 2)).as_secs(),
        not_after,
    })
}

/// What the key of a certificate signs.
const X509_USE: &[KeyPurpose] = &[KeyPurpose::TlsHandshake];
/// What the key of a token signs.
const WIT_USE: &[KeyPurpose] = &[KeyPurpose::Wpt];

/// A certificate from an earlier run with its key, checked like a new one. What it was issued under, its caller knows.
pub(crate) fn opened(
    config: &Config,
    bundle: &Bundle,
    chain: &[Vec<u8>],
    key: &KeyDescription,
) -> Result<Credential, AttestationError> {
    let (identifier, not_after) = own_certificate(config, chain, bundle, key)?;
    let held = created_key(&config.device, key, X509_USE)
        .map_err(|error| AttestationError::Answer(error.to_string()))?;
    Ok(Credential {
        registration: String::new(),
        identifier: identifier.as_str().to_owned(),
        kind: "x509".to_owned(),
        chain: chain.to_vec(),
        token: String::new(),
        handle: handle(&key.spki),
        key: held,
        description: key.clone(),
        custody: String::new(),
        simulated: false,
        usage: String::new(),
        revision: ByteArray::new([0; 32]),
        renew_at: not_after,
        not_after,
    })
}

/// A handle names a key to its own workload; it is no secret, and no right.
fn handle(spki: &ByteBuf) -> String {
    hex::encode(touchmark_crypto::sha256(&[spki]).get(..16).unwrap_or_default())
}

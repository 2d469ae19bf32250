//! A workload's credential: a key made and certified in the TPM, or made in the token, and the service's answer for it.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_api::{
    attest::{Challenge, MAX_ANSWER, MESSAGE},
    frame,
    host::{
        ASSIGNMENTS, Assignments, Bundle, ISSUE_PATH, ISSUED, IssueOffer, Issued, REGISTRATIONS_PATH,
        Registration,
    },
};
use touchmark_crypto::{PublicKey, Purpose as KeyPurpose, jose::json};
use touchmark_custody::HeldKey;
use touchmark_helper::{Exchange, evidence};
use touchmark_rats::{PcrSelection, Purpose, cbor, cmw, tpm};
use touchmark_tls::clock;
use touchmark_wimse::{bundle, wit};

use crate::{
    Config,
    attestation::{AttestationError, check_challenge, on_device},
    host_identity::HostIdentity,
    key_files::KeyFiles,
    reported,
    run::jittered,
    session::Sessions,
    trust::own_certificate,
    workload_key::WorkloadKey,
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
    /// The key as its device described it.
    pub(crate) description: WorkloadKey,
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

/// One credential that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) config: &'a Config,
    pub(crate) sessions: &'a Sessions,
    pub(crate) keys: &'a KeyFiles,
    pub(crate) host: &'a Arc<HostIdentity>,
    /// What may be asked for, with a challenge for this request.
    pub(crate) assignments: &'a Assignments,
    pub(crate) registration: &'a Registration,
    /// `x509` or `wit`.
    pub(crate) kind: &'a str,
}

impl Ask<'_> {
    /// Obtains it for a new key, for a caller who takes turns at the device with the others.
    pub(crate) async fn issue(&self, turn: u64) -> Result<Credential, AttestationError> {
        if let Some(hsm) = self.config.token_for(self.registration) {
            return reported::issue(self, hsm, turn).await;
        }
        let device = self.config.device.on_behalf_of(turn);
        let offer = self.offer();
        let challenge = self.assignments.challenge.clone();
        let domain = self.config.pins.trust_domain.to_string();
        let (key, message) = on_device(move || {
            let key = device.create_key(None)?;
            let offer = offer(&key.public);
            let nothing = PcrSelection(Vec::new());
            let exchange = exchange(&challenge, &domain, &nothing);
            let evidence = evidence(&device, &exchange, &offer, &[&key])?;
            let message = message(&challenge, &offer, tpm::MEDIA_TYPE, cbor::encode(&evidence));
            Ok((key, message))
        })
        .await?;
        let issued = send(self.sessions, self.host, ISSUE_PATH, &message).await?;
        self.accept(&issued, &WorkloadKey::Tpm(key))
    }

    /// The offer of a key, once there is one.
    pub(crate) fn offer(&self) -> impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static {
        let (registration, kind) = (self.registration.reference.clone(), self.kind.to_owned());
        move |key| {
            cbor::encode(&IssueOffer {
                registration,
                kind,
                key: ByteBuf::from(key),
            })
        }
    }
}

/// The exchange that a challenge for one request for a credential begins.
pub(crate) fn exchange<'a>(
    challenge: &'a Challenge,
    trust_domain: &'a str,
    nothing: &'a PcrSelection,
) -> Exchange<'a> {
    Exchange {
        purpose: Purpose::Workload,
        trust_domain,
        anchor: challenge.anchor.into_array(),
        challenge_id: challenge.id.into_array(),
        nonce: challenge.nonce.into_array(),
        cookie: &challenge.cookie,
        selection: nothing,
        log_offsets: &challenge.log_offsets,
    }
}

/// The request with its evidence. There is no secret, so there is no MAC.
pub(crate) fn message(challenge: &Challenge, offer: &[u8], media_type: &str, evidence: Vec<u8>) -> Vec<u8> {
    let wrapped = cmw::Record::evidence(media_type, evidence).to_cbor();
    let body = frame::encode(&challenge.cookie, offer, &wrapped, frame::Enclosed::default());
    frame::finish(body, &[])
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

impl Ask<'_> {
    /// Checks that the credential is for our key, of the identifier that was asked for, and below what this host trusts.
    pub(crate) fn accept(&self, issued: &Issued, key: &WorkloadKey) -> Result<Credential, AttestationError> {
        let Self {
            config,
            assignments,
            registration,
            kind,
            ..
        } = *self;
        let wrong = |what: String| AttestationError::Answer(what);
        if issued.identifier != registration.identifier {
            return Err(wrong("a credential for another identifier".into()));
        }
        let now = clock::now();
        let chain: Vec<Vec<u8>> = issued.chain.iter().map(|der| der.to_vec()).collect();
        let not_after = match kind {
            "x509" => {
                let (identifier, not_after) =
                    own_certificate(config, &chain, &assignments.bundle, key.spki())?;
                if identifier.as_str() != registration.identifier {
                    return Err(wrong("a certificate for another identifier".into()));
                }
                not_after
            }
            _ => {
                let jwks = json::object(assignments.bundle.jwks.as_bytes())
                    .map_err(|error| wrong(error.to_string()))?;
                let public = PublicKey::from_spki(key.spki()).map_err(|error| wrong(error.to_string()))?;
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
        let held = key
            .held(config, purposes)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Credential {
            registration: registration.reference.clone(),
            identifier: issued.identifier.clone(),
            kind: kind.to_owned(),
            chain,
            token: issued.token.clone(),
            handle: handle(key.spki()),
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
    key: &WorkloadKey,
) -> Result<Credential, AttestationError> {
    let (identifier, not_after) = own_certificate(config, chain, bundle, key.spki())?;
    let held = key
        .held(config, X509_USE)
        .map_err(|error| AttestationError::Answer(error.to_string()))?;
    Ok(Credential {
        registration: String::new(),
        identifier: identifier.as_str().to_owned(),
        kind: "x509".to_owned(),
        chain: chain.to_vec(),
        token: String::new(),
        handle: handle(key.spki()),
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
pub(crate) fn handle(spki: &[u8]) -> String {
    hex::encode(touchmark_crypto::sha256(&[spki]).get(..16).unwrap_or_default())
}

//! One attestation: challenge, evidence, certificate. Two round trips, and the same bytes again when an answer is lost.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::sign::CertifiedKey;
use serde_bytes::ByteBuf;
use touchmark_api::{
    attest::{
        ADMISSION, Admission, CHALLENGE, CHALLENGE_PATH, CHALLENGE_REQUEST, Challenge, ChallengeRequest,
        EVIDENCE_PATH, Introduction, MAX_ANSWER, MESSAGE, Offer,
    },
    device::{Activation, KeyDescription, Urgency},
    frame,
    host::Bundle,
};
use touchmark_crypto::{Purpose as KeyPurpose, Secret, mac::MacSha256};
use touchmark_external::Unanswered;
use touchmark_helper::{Device, DeviceError, Exchange, created_key, evidence, key_name, opening};
use touchmark_identity::WorkloadId;
use touchmark_rats::{PcrSelection, Purpose, cbor, message_mac_key, tpm};
use touchmark_tls::{
    clock,
    files::{self, FileError},
    identity,
};

use crate::{
    Config,
    channel::{Channel, ChannelError},
    collected::Collected,
    host_identity::HostIdentity,
    trust::{own_certificate, pinned},
};

/// The file that says that this host's attestation key was activated in its trust domain.
const KNOWN: &str = "attestation-key-known";

/// Why an attestation brought no credential.
#[derive(Debug, thiserror::Error)]
pub enum AttestationError {
    /// The TPM or its helper.
    #[error("TPM: {0}")]
    Device(#[from] DeviceError),
    /// The PKCS#11 token or its helper.
    #[error("HSM: {0}")]
    Token(DeviceError),
    /// The service, or the way to it.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The state folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another verifier, whose result is to be presented.
    #[error("verifier {name} has no result about this host: {why}")]
    Verifier {
        /// Its name.
        name: String,
        /// Why not.
        why: Unanswered,
    },
    /// The service sent something that does not fit what was asked.
    #[error("the service's answer does not hold: {0}")]
    Answer(String),
}

impl AttestationError {
    /// Whether nothing was said about the host: nobody answered, or had time to.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Channel(error) => error.is_outage(),
            Self::Verifier { .. } => true,
            _ => false,
        }
    }
}

/// Attests once.
pub(crate) async fn attest(config: &Config) -> Result<HostIdentity, AttestationError> {
    files::private_folder(&config.state)?;
    let known = config.state.join(KNOWN);
    let domain = config.pins.trust_domain.to_string();
    let mut channel = Channel::open(&config.attest, &config.pins).await?;
    let (introduction, attestation_public) = introduce(config, &domain, known.exists()).await?;
    let by_record = matches!(introduction, Introduction::Known(_));
    let challenge = ask(&mut channel, introduction).await?;
    check_challenge(&challenge, config, channel.anchor())?;
    if by_record != challenge.activation.is_none() {
        return Err(AttestationError::Answer(
            "an activation where none was asked for, or none".into(),
        ));
    }
    let prepared = prepare(config, &domain, &challenge, channel.anchor(), attestation_public).await?;
    let message = prepared.message(config, &challenge).await?;
    let admission = match send(config, channel, &message, challenge.expires_in).await {
        Err(ChannelError::Refused { refusal, retry }) if by_record => {
            // The record may be gone (evicted, replaced, a maker unpinned): next time from the beginning.
            remove(&known)?;
            return Err(ChannelError::Refused { refusal, retry }.into());
        }
        other => other?,
    };
    let host = accept(config, &admission, prepared.key, prepared.reset_count)?;
    files::write_private(&known, b"")?;
    Ok(host)
}

async fn introduce(
    config: &Config,
    domain: &str,
    known: bool,
) -> Result<(Introduction, Vec<u8>), AttestationError> {
    let (device, domain) = (config.device.urgent(Urgency::Quote), domain.to_owned());
    on_device(move || {
        if known {
            let public = device.attestation_key(&domain)?.public;
            let name = ByteBuf::from(key_name(&public));
            return Ok((Introduction::Known(name), public.into_vec()));
        }
        let opening = opening(&device, &domain)?;
        let public = opening.attestation.public.to_vec();
        Ok((
            Introduction::Opening(ByteBuf::from(cbor::encode(&opening))),
            public,
        ))
    })
    .await
}

async fn ask(channel: &mut Channel, introduction: Introduction) -> Result<Challenge, AttestationError> {
    let request = ChallengeRequest {
        media_type: tpm::MEDIA_TYPE.to_owned(),
        introduction,
    };
    let body = cbor::encode(&request);
    let answer = channel
        .exchange(CHALLENGE_PATH, CHALLENGE_REQUEST, body, CHALLENGE)
        .await?;
    cbor::decode(&answer, MAX_ANSWER).map_err(|error| AttestationError::Answer(error.to_string()))
}

/// The anchor that the challenge names must be pinned *and* the one that this connection's chain ended in: evidence
/// that was asked for through another server, or for another trust domain, is never made.
pub(crate) fn check_challenge(
    challenge: &Challenge,
    config: &Config,
    seen: [u8; 32],
) -> Result<(), AttestationError> {
    let anchor = challenge.anchor.into_array();
    if anchor != seen || !config.pins.roots.contains(&anchor) {
        return Err(AttestationError::Answer(
            "the challenge names another anchor than this connection's: somebody relays it".into(),
        ));
    }
    if challenge.trust_domain != config.pins.trust_domain.to_string() {
        return Err(AttestationError::Answer(
            "the challenge is of another trust domain".into(),
        ));
    }
    if ![1, 2].contains(&challenge.log_offsets.len()) {
        return Err(AttestationError::Answer(
            "the challenge asks for other logs than those of the boot and of the kernel".into(),
        ));
    }
    Ok(())
}

/// What the kernel measured, from where the challenge asks for it; empty where it does not. A list that does not fit into a message would
/// look like one that was cut: nothing is sent of it.
pub(crate) fn runtime_list(device: &Device, challenge: &Challenge) -> Result<Vec<u8>, DeviceError> {
    let Some(from) = challenge.log_offsets.get(1) else {
        return Ok(Vec::new());
    };
    let list = device.runtime_list(*from, frame::MAX_RUNTIME)?;
    if list.len() >= frame::MAX_RUNTIME {
        return Err(DeviceError::LongList(frame::MAX_RUNTIME / (1024 * 1024)));
    }
    Ok(list)
}

/// What goes into a second message, and the key that it offers.
struct Prepared {
    collected: Collected,
    offer: Vec<u8>,
    secret: Option<Secret>,
    key: KeyDescription,
    reset_count: u32,
}

impl Prepared {
    async fn message(&self, config: &Config, challenge: &Challenge) -> Result<Vec<u8>, AttestationError> {
        let body = self.collected.encode(config, challenge, &self.offer).await?;
        Ok(seal(challenge, body, self.secret.as_ref()))
    }
}

async fn prepare(
    config: &Config,
    domain: &str,
    challenge: &Challenge,
    anchor: [u8; 32],
    attestation_public: Vec<u8>,
) -> Result<Prepared, AttestationError> {
    let selection = PcrSelection::from_wire(&challenge.selection)
        .filter(|selection| !selection.0.is_empty())
        .ok_or_else(|| AttestationError::Answer("the challenge names no registers".into()))?;
    let device = config.device.urgent(Urgency::Quote);
    let (domain, challenge) = (domain.to_owned(), challenge.clone());
    on_device(move || {
        let secret = match &challenge.activation {
            None => None,
            Some(sealed) => Some(device.activate(Activation {
                trust_domain: domain.clone(),
                endorsement_name: sealed.endorsement_name.clone(),
                credential_blob: sealed.credential_blob.clone(),
                encrypted_secret: sealed.encrypted_secret.clone(),
            })?),
        };
        let key = device.create_key(Some(&selection.without_runtime()))?;
        let offer = cbor::encode(&Offer {
            // On record where no secret was activated for it.
            attestation_public: secret
                .is_some()
                .then(|| ByteBuf::from(attestation_public.clone())),
            key: key.public.clone(),
        });
        let exchange = Exchange {
            purpose: Purpose::Enrol,
            trust_domain: &domain,
            anchor,
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &selection,
            log_offsets: &challenge.log_offsets,
        };
        let evidence = evidence(&device, &exchange, &offer, &[&key])?;
        // Read after the quote, so that they are never shorter than what was quoted.
        let log = device.boot_log()?;
        let runtime = runtime_list(&device, &challenge)?;
        let quoted = evidence.quote.as_ref();
        let reset_count = quoted
            .and_then(|quote| tpm::own_reset_count(&quote.attest))
            .unwrap_or(0);
        Ok(Prepared {
            collected: Collected {
                attestation_public,
                bind: exchange.bind(&offer, &[key_name(&key.public)]),
                evidence: cbor::encode(&evidence),
                log,
                runtime,
            },
            offer,
            secret,
            key,
            reset_count,
        })
    })
    .await
}

/// The message with its MAC, where there is a secret to key it.
fn seal(challenge: &Challenge, body: Vec<u8>, secret: Option<&Secret>) -> Vec<u8> {
    let mac = secret
        .and_then(|secret| message_mac_key(secret, &challenge.id.into_array()).ok())
        .map(|key| {
            let mut mac = MacSha256::new(&key);
            mac.update(&body);
            mac.finish().to_vec()
        });
    frame::finish(body, &mac.unwrap_or_default())
}

/// Sends the message; when the answer is lost, the same bytes again while the challenge lives. Nothing is signed twice
/// under one nonce.
async fn send(
    config: &Config,
    mut channel: Channel,
    message: &[u8],
    expires_in: u64,
) -> Result<Admission, ChannelError> {
    let deadline = Instant::now() + Duration::from_secs(expires_in.min(600));
    let mut pause = Duration::from_millis(200);
    loop {
        let sent = channel
            .exchange(EVIDENCE_PATH, MESSAGE, message.to_vec(), ADMISSION)
            .await;
        match sent {
            Ok(answer) => {
                return cbor::decode(&answer, MAX_ANSWER).map_err(|error| ChannelError::Nonsense {
                    address: config.attest.clone(),
                    cause: error.to_string(),
                });
            }
            Err(error) if error.is_outage() => {
                tracing::warn!(%error, "no answer to the evidence; sending the same bytes again");
                loop {
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                    match Channel::open(&config.attest, &config.pins).await {
                        Ok(opened) => {
                            channel = opened;
                            break;
                        }
                        Err(ChannelError::Unreachable { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Checks what came: a certificate for our key, below our root, that names a host of our trust domain.
fn accept(
    config: &Config,
    admission: &Admission,
    key: KeyDescription,
    reset_count: u32,
) -> Result<HostIdentity, AttestationError> {
    let wrong = |what: &str| AttestationError::Answer(what.to_owned());
    let chain: Vec<Vec<u8>> = admission.chain.iter().map(|der| der.to_vec()).collect();
    let certified = certified(config, &chain, &admission.bundle, &key)?;
    if certified.identifier.as_str() != admission.identifier
        || certified.identifier.host_uuid() != Some(admission.host.as_str())
    {
        return Err(wrong("a certificate for another identifier"));
    }
    Ok(HostIdentity {
        host: admission.host.clone(),
        name: admission.name.clone(),
        identifier: admission.identifier.clone(),
        not_after: certified.not_after.min(admission.not_after),
        issued_at: clock::now(),
        reset_count,
        bundle: pinned(config, &admission.bundle),
        registrations: admission.registrations.clone(),
        certified: certified.identity,
        key,
    })
}

/// A host certificate that was checked.
pub(crate) struct Certified {
    pub(crate) identifier: WorkloadId,
    pub(crate) not_after: u64,
    pub(crate) identity: Arc<CertifiedKey>,
}

/// Checks a chain for the host's key.
pub(crate) fn certified(
    config: &Config,
    chain: &[Vec<u8>],
    bundle: &Bundle,
    key: &KeyDescription,
) -> Result<Certified, AttestationError> {
    let (identifier, not_after) = own_certificate(config, chain, bundle, &key.spki)?;
    let held = created_key(&config.device, key, &[KeyPurpose::TlsHandshake])
        .map_err(|error| AttestationError::Answer(error.to_string()))?;
    Ok(Certified {
        identifier,
        not_after,
        identity: identity(chain, held),
    })
}

/// Runs device work on a thread that may block.
pub(crate) async fn on_device<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, AttestationError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(AttestationError::Answer(error.to_string())),
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FileError {
            path: path.to_owned(),
            what: error.to_string(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteArray;

    use super::*;

    #[test]
    fn a_message_without_secret_has_no_mac_and_one_with_secret_has() {
        let challenge = Challenge {
            trust_domain: String::new(),
            anchor: ByteArray::new([0; 32]),
            id: ByteArray::new([1; 16]),
            nonce: ByteArray::new([0; 32]),
            cookie: ByteBuf::from(vec![1]),
            activation: None,
            selection: Vec::new(),
            log_offsets: vec![0],
            expires_in: 1,
        };
        let body = || frame::encode(&challenge.cookie, b"o", b"e", frame::Enclosed::default());
        let plain = seal(&challenge, body(), None);
        assert!(plain.ends_with(&[0, 0, 0, 0]));
        let secret = Secret::new(vec![7; 32]);
        let maced = seal(&challenge, body(), Some(&secret));
        assert_eq!(maced.len(), plain.len() + 32);
        assert_eq!(maced[..plain.len() - 4], plain[..plain.len() - 4]);
    }
}

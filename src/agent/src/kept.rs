//! What outlives a restart of the agent: the host's credential, what is registered, and the certificates of workloads, with keys
//! that no other TPM can load. Tokens are not written down.
//!
//! It counts only in the boot that it was obtained in, which a quote of the own TPM tells.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use touchmark_api::{
    device::{KeyDescription, Urgency},
    host::{Bundle, Registration},
};
use touchmark_crypto::{Entropy, SystemEntropy};
use touchmark_helper::DeviceError;
use touchmark_rats::{PcrSelection, cbor, tpm::own_reset_count};
use touchmark_tls::{clock, files};

use crate::{
    AttestationError, Config, HostIdentity,
    attestation::{certified, on_device},
    issue::{Credential, opened},
    workload_key::WorkloadKey,
};

/// The file in the state folder.
const FILE: &str = "kept.cbor";
/// Its largest size.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    trust_domain: String,
    reset_count: u32,
    host: KeptHost,
    pub(crate) generation: u64,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) bundle: Bundle,
    credentials: Vec<KeptCredential>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptHost {
    host: String,
    name: String,
    issued_at: u64,
    chain: Vec<ByteBuf>,
    key: KeyDescription,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCredential {
    registration: String,
    identifier: String,
    chain: Vec<ByteBuf>,
    key: WorkloadKey,
    custody: String,
    simulated: bool,
    usage: String,
    revision: ByteArray<32>,
    renew_at: u64,
}

/// What was kept, checked and opened.
pub(crate) struct Resumed {
    pub(crate) host: HostIdentity,
    pub(crate) kept: Kept,
    pub(crate) credentials: Vec<Credential>,
}

impl Kept {
    /// What there is to keep.
    pub(crate) fn of(
        config: &Config,
        host: &HostIdentity,
        generation: u64,
        registrations: &[Registration],
        bundle: &Bundle,
        credentials: &[Arc<Credential>],
    ) -> Self {
        let chain = |chain: &[Vec<u8>]| chain.iter().cloned().map(ByteBuf::from).collect();
        let own: Vec<Vec<u8>> = host.certified.cert.iter().map(|der| der.to_vec()).collect();
        Self {
            trust_domain: config.pins.trust_domain.to_string(),
            reset_count: host.reset_count,
            host: KeptHost {
                host: host.host.clone(),
                name: host.name.clone(),
                issued_at: host.issued_at,
                chain: chain(&own),
                key: host.key.clone(),
            },
            generation,
            registrations: registrations.to_vec(),
            bundle: bundle.clone(),
            credentials: credentials
                .iter()
                .filter(|credential| !credential.chain.is_empty())
                .map(|credential| KeptCredential {
                    registration: credential.registration.clone(),
                    identifier: credential.identifier.clone(),
                    chain: chain(&credential.chain),
                    key: credential.description.clone(),
                    custody: credential.custody.clone(),
                    simulated: credential.simulated,
                    usage: credential.usage.clone(),
                    revision: credential.revision,
                    renew_at: credential.renew_at,
                })
                .collect(),
        }
    }

    /// Writes it, 0600.
    pub(crate) async fn write(&self, config: &Config) -> Result<(), String> {
        let (path, bytes) = (path(config), cbor::encode(self));
        tokio::task::spawn_blocking(move || files::write_private(&path, &bytes))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

fn path(config: &Config) -> PathBuf {
    config.state.join(FILE)
}

/// Forgets what was kept.
pub(crate) fn forget(config: &Config) {
    if let Err(error) = std::fs::remove_file(path(config))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "what was kept could not be removed");
    }
}

/// What an earlier run has kept, if it is of this boot and still holds. Whatever does not fit is as good as nothing.
pub(crate) async fn resume(config: &Config) -> Option<Resumed> {
    let path = path(config);
    if !path.exists() {
        return None;
    }
    let resumed = async {
        let bytes = files::read_private(&path).map_err(|error| error.to_string())?;
        let kept: Kept = cbor::decode(&bytes, MAX_FILE).map_err(|error| error.to_string())?;
        check(config, kept).await.map_err(|error| error.to_string())
    };
    match resumed.await {
        Ok(resumed) => Some(resumed),
        Err(why) => {
            tracing::info!(%why, "what an earlier run has kept is not used");
            None
        }
    }
}

async fn check(config: &Config, kept: Kept) -> Result<Resumed, AttestationError> {
    let wrong = |what: &str| AttestationError::Answer(what.to_owned());
    if kept.trust_domain != config.pins.trust_domain.to_string() {
        return Err(wrong("it is of another trust domain"));
    }
    let chain = |chain: &[ByteBuf]| -> Vec<Vec<u8>> { chain.iter().map(|der| der.to_vec()).collect() };
    let own = certified(config, &chain(&kept.host.chain), &kept.bundle, &kept.host.key)?;
    if own.identifier.host_uuid() != Some(kept.host.host.as_str()) || own.not_after <= clock::now() {
        return Err(wrong("the host's certificate is another host's, or has ended"));
    }
    if reset_count(config).await? != kept.reset_count {
        return Err(wrong("the host was reset since"));
    }
    let host = HostIdentity {
        host: kept.host.host.clone(),
        name: kept.host.name.clone(),
        identifier: own.identifier.as_str().to_owned(),
        not_after: own.not_after,
        issued_at: kept.host.issued_at,
        reset_count: kept.reset_count,
        bundle: kept.bundle.clone(),
        registrations: kept.registrations.clone(),
        key: kept.host.key.clone(),
        certified: own.identity,
    };
    let credentials = kept
        .credentials
        .iter()
        .filter_map(|one| {
            let credential = opened(config, &kept.bundle, &chain(&one.chain), &one.key).ok()?;
            (credential.identifier == one.identifier).then(|| Credential {
                registration: one.registration.clone(),
                custody: one.custody.clone(),
                simulated: one.simulated,
                usage: one.usage.clone(),
                revision: one.revision,
                renew_at: one.renew_at,
                ..credential
            })
        })
        .collect();
    Ok(Resumed {
        host,
        kept,
        credentials,
    })
}

/// The count of resets, from a quote of the own TPM.
async fn reset_count(config: &Config) -> Result<u32, AttestationError> {
    let device = config.device.urgent(Urgency::Quote);
    let domain = config.pins.trust_domain.to_string();
    let nonce = SystemEntropy
        .array::<32>()
        .map_err(|error| AttestationError::Answer(error.to_string()))?;
    let quoted =
        on_device(move || -> Result<_, DeviceError> { device.quote(&domain, &PcrSelection::boot(), &nonce) })
            .await?;
    own_reset_count(&quoted.attest).ok_or_else(|| AttestationError::Answer("the TPM's quote is none".into()))
}

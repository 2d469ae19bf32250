//! What all listeners share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_bytes::{ByteArray, ByteBuf};
use tokio::sync::Semaphore;
use touchmark_api::{attest, host};
use touchmark_attestor_tpm::TpmAppraiser;
use touchmark_crypto::{Purpose, SystemEntropy, sha256, x509::Certificate};
use touchmark_custody::HeldKey;
use touchmark_issuer::{Authority, Registration, RegistrationFile};
use touchmark_rats::PcrSelection;
use touchmark_store::{Host, NewHost, Store, StoredRegistration};
use touchmark_tls::files;
use touchmark_verifier::{Challenger, FileList, Issued, ReferenceSet};
use touchmark_wimse::bundle;

use crate::{
    Config, ServerError,
    ca::{self, Places},
    capacity::{Capacity, Need},
    keys,
    limits::{Notes, Rates},
    listen,
    policy::Applied,
    stream::Streams,
    verifiers::Confirming,
};

/// Seconds in which a challenge has to be answered.
const CHALLENGE_LIFETIME: u64 = 150;

/// The service's state. What is not here is in the store.
pub struct Service {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) challenger: Challenger,
    pub(crate) appraiser: TpmAppraiser,
    pub(crate) authority: Arc<Authority>,
    pub(crate) result_key: HeldKey,
    pub(crate) root: Certificate,
    pub(crate) capacity: Capacity,
    pub(crate) rates: Rates<IpAddr>,
    pub(crate) host_rates: Rates<String>,
    /// What hosts may have signed.
    pub(crate) issue_rates: Rates<String>,
    /// What is written about requests of hosts that are refused.
    pub(crate) refusal_rates: Rates<String>,
    /// Memory for messages that are arriving, KiB.
    pub(crate) messages: Arc<Semaphore>,
    pub(crate) bundle: host::Bundle,
    /// Held from a change in the store until it is in effect here.
    pub(crate) changes: tokio::sync::Mutex<()>,
    pub(crate) notes: Notes,
    pub(crate) references: RwLock<Arc<Vec<ReferenceSet>>>,
    pub(crate) policies: RwLock<Arc<Applied>>,
    pub(crate) files: RwLock<Arc<Vec<Arc<FileList>>>>,
    pub(crate) registrations: RwLock<Arc<Vec<Registered>>>,
    /// Begins with the time of this start, so that it grows over starts as well.
    pub(crate) generation: AtomicU64,
    pub(crate) streams: Streams,
    pub(crate) confirming: Confirming,
}

/// A registration and how requests refer to it.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) reference: String,
    pub(crate) registration: Registration,
}

impl Service {
    /// Opens keys and store. Refuses when a key could be exported or certificates do not fit.
    pub(crate) async fn open(config: Config, now: u64) -> Result<(Self, HeldKey), ServerError> {
        files::private_folder(&config.state)?;
        let (root, intermediate) = ca::installed(&config)?;
        let opened = {
            let (config, root, intermediate) = (config.clone(), root.clone(), intermediate.clone());
            let open = move || -> Result<_, ServerError> {
                let folder = Places::of(&config.state).keys;
                let (holders, of) = (&config.holders, &config.trust_domain);
                let x509_key = keys::INTERMEDIATE.open(&folder, &*holders.intermediate.keys())?;
                ca::check(&config.trust_domain, &root, &intermediate, &x509_key, now)?;
                let wit_key = keys::WIT.open_or_create(&folder, &*holders.wit.keys(), of)?;
                let result_key = keys::RESULT.open_or_create(&folder, &*holders.result.keys(), of)?;
                // Nobody waits longer for a handshake.
                let handshakes = holders.tls.patient(listen::HANDSHAKE);
                let tls_key = keys::TLS.open_or_create(&folder, &*handshakes.keys(), of)?;
                let capacity = Capacity::measure(&wit_key, Purpose::Wit)?
                    .with(Capacity::measure(&x509_key, Purpose::Certificate)?);
                Ok((x509_key, wit_key, result_key, tls_key, capacity))
            };
            tokio::task::spawn_blocking(open)
                .await
                .map_err(|error| ServerError::Other(error.to_string()))?
        };
        let (x509_key, wit_key, result_key, tls_key, capacity) = opened?;
        let authority = Authority::new(
            config.trust_domain.clone(),
            intermediate,
            x509_key,
            wit_key,
            concat!("touchmark ", env!("CARGO_PKG_VERSION")),
            config.selection.covers_boot(),
        )?;
        let store = Store::open(&config.state.join("server.db")).await?;
        let origin = config.trust_domain.to_string();
        let service = Self {
            challenger: Challenger::new(&SystemEntropy, &origin, root.spki_digest(), CHALLENGE_LIFETIME)?,
            appraiser: TpmAppraiser::new(config.makers.clone()).with_file_keys(config.file_keys.clone()),
            capacity,
            rates: Rates::new(config.limits.per_source, config.limits.overall, Instant::now()),
            host_rates: Rates::new(config.limits.per_host, config.limits.overall, Instant::now()),
            issue_rates: capacity.issue_rates(config.limits.per_host),
            refusal_rates: Rates::new(1, config.limits.overall, Instant::now()),
            messages: Arc::new(Semaphore::new(
                usize::try_from(config.limits.messages).unwrap_or(0) * 1024,
            )),
            bundle: trust_bundle(&config, &root, &authority)?,
            authority: Arc::new(authority),
            changes: tokio::sync::Mutex::default(),
            notes: Notes::new(store.clone(), Instant::now()),
            references: RwLock::default(),
            policies: RwLock::new(Arc::new(
                Applied::compile(&[]).map_err(|error| ServerError::Other(error.to_string()))?,
            )),
            files: RwLock::default(),
            registrations: RwLock::default(),
            generation: AtomicU64::new(now << 20),
            streams: Streams::default(),
            confirming: Confirming::default(),
            result_key,
            root,
            store,
            config,
        };
        service.reload_references().await?;
        service.reload_policies().await?;
        service.reload_files().await?;
        service.reload_registrations().await?;
        service.note_name(now).await?;
        service.check_capacity().await?;
        Ok((service, tls_key))
    }

    /// A name that others could use as well is in the audit trail from the first start on.
    async fn note_name(&self, now: u64) -> Result<(), ServerError> {
        let domain = &self.config.trust_domain;
        let what = match domain.check_fqdn() {
            _ if domain.is_ip_literal() => "named by an address".to_owned(),
            Err(error) => error.to_string(),
            Ok(()) => return Ok(()),
        };
        tracing::warn!(trust_domain = %domain, %what, "the trust domain's name is no domain name");
        let origin = domain.to_string();
        Ok(self
            .store
            .record(now, "trust_domain.name", &origin, &what)
            .await?)
    }

    /// A fleet that needs more than the device signs is not served; one that needs more than half is, with a warning:
    /// what was measured differs from start to start, and a fleet that runs is not ended by that.
    async fn check_capacity(&self) -> Result<(), ServerError> {
        let need = self.need(&[], None).await?;
        let Err(why) = self.capacity.allows(need) else {
            return Ok(());
        };
        if self.capacity.suffices(need) {
            tracing::warn!(%why, "the service's device is slow for its fleet");
            return Ok(());
        }
        Err(ServerError::Other(why))
    }

    /// Signatures that the fleet needs, with these hosts as well, and with one label's registrations replaced.
    pub(crate) async fn need(
        &self,
        more: &[NewHost],
        replaced: Option<&RegistrationFile>,
    ) -> Result<Need, ServerError> {
        let hosts = self.store.hosts().await?;
        let registrations = Arc::clone(&self.registrations.read().unwrap_or_else(PoisonError::into_inner));
        let own = |registered: &&Registered| {
            replaced.is_none_or(|file| {
                let label = registered.reference.split_once('/').map(|(label, _)| label);
                label != Some(file.label.as_str())
            })
        };
        Ok(Need::of(
            hosts
                .iter()
                .filter(|host| host.is_active())
                .map(|host| (host.name.as_str(), host.labels.as_slice()))
                .chain(
                    more.iter()
                        .map(|host| (host.name.as_str(), host.labels.as_slice())),
                ),
            self.config.host_lifetime,
            registrations
                .iter()
                .filter(own)
                .map(|registered| &registered.registration)
                .chain(replaced.iter().flat_map(|file| &file.registrations)),
        ))
    }

    /// The sets of reference values that apply to a host.
    pub(crate) fn references(&self) -> Arc<Vec<ReferenceSet>> {
        Arc::clone(&self.references.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The registrations for a host.
    pub(crate) fn registrations_for(&self, host: &Host) -> Vec<Registered> {
        self.generation_for(host).1
    }

    /// The registrations for a host, and which generation of all that is.
    pub(crate) fn generation_for(&self, host: &Host) -> (u64, Vec<Registered>) {
        let (generation, all) = {
            let all = self.registrations.read().unwrap_or_else(PoisonError::into_inner);
            (self.generation.load(Ordering::SeqCst), Arc::clone(&all))
        };
        let own = all
            .iter()
            .filter(|entry| entry.registration.is_for_host(&host.name, &host.labels))
            .cloned()
            .collect();
        (generation, own)
    }

    /// Reads the reference values again after they were applied.
    pub(crate) async fn reload_references(&self) -> Result<(), ServerError> {
        let mut sets = Vec::new();
        let valid = self.store.references().await?.into_iter();
        for generation in valid.filter(|generation| generation.state == "valid") {
            let set = ReferenceSet::from_toml(&generation.body).map_err(|error| {
                ServerError::Other(format!("stored reference values {:?}: {error}", generation.label))
            })?;
            sets.push(set);
        }
        *self.references.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sets);
        Ok(())
    }

    /// Reads the registrations again after they were applied.
    pub(crate) async fn reload_registrations(&self) -> Result<(), ServerError> {
        let mut all = Vec::new();
        for StoredRegistration {
            label, name, body, ..
        } in self.store.registrations().await?
        {
            let reference = format!("{label}/{name}");
            let registration = Registration::from_json(&body, &self.config.trust_domain)
                .map_err(|error| ServerError::Other(format!("stored registration {reference:?}: {error}")))?;
            all.push(Registered {
                reference,
                registration,
            });
        }
        let all = Arc::new(all);
        let before = {
            let mut registrations = self.registrations.write().unwrap_or_else(PoisonError::into_inner);
            self.generation.fetch_add(1, Ordering::SeqCst);
            std::mem::replace(&mut *registrations, Arc::clone(&all))
        };
        self.streams.registrations_changed(&differing(&before, &all));
        Ok(())
    }

    /// The chain above a leaf: the intermediate.
    pub(crate) fn chain(&self, leaf: Vec<u8>) -> Vec<ByteBuf> {
        vec![
            ByteBuf::from(leaf),
            ByteBuf::from(self.authority.intermediate.der.clone()),
        ]
    }

    /// A challenge as it is sent.
    pub(crate) fn challenge(&self, issued: &Issued, selection: &PcrSelection, now: u64) -> attest::Challenge {
        attest::Challenge {
            trust_domain: self.challenger.trust_domain().to_owned(),
            anchor: ByteArray::new(self.challenger.anchor()),
            id: ByteArray::new(issued.id),
            nonce: ByteArray::new(issued.nonce),
            cookie: ByteBuf::from(issued.cookie.clone()),
            activation: None,
            selection: selection.to_wire(),
            log_offsets: issued.log_offsets.clone(),
            expires_in: issued.expiry.saturating_sub(now),
        }
    }
}

/// The registrations that are in one of two lists only.
fn differing<'a>(before: &'a [Registered], after: &'a [Registered]) -> Vec<&'a Registration> {
    let index = |all: &'a [Registered]| -> HashMap<&'a str, &'a Registration> {
        all.iter()
            .map(|entry| (entry.reference.as_str(), &entry.registration))
            .collect()
    };
    let (before, after) = (index(before), index(after));
    let gone = before
        .iter()
        .filter(|(reference, one)| after.get(*reference) != Some(one));
    let come = after
        .iter()
        .filter(|(reference, one)| before.get(*reference) != Some(one));
    gone.chain(come).map(|(_, registration)| *registration).collect()
}

/// A registration as an agent gets it.
pub(crate) fn to_wire(entry: &Registered) -> host::Registration {
    let registration = &entry.registration;
    host::Registration {
        reference: entry.reference.clone(),
        revision: ByteArray::new(sha256(&[registration.to_json().as_bytes()])),
        identifier: registration.identifier.as_str().to_owned(),
        uid: registration.workload.uid,
        gid: registration.workload.gid,
        exe: registration.workload.exe.clone(),
        exe_sha256: registration.workload.exe_sha256.clone(),
        kinds: registration
            .kinds
            .iter()
            .map(|kind| kind.as_str().to_owned())
            .collect(),
        custody: registration
            .custody
            .iter()
            .map(|class| class.as_str().to_owned())
            .collect(),
        usage: registration.usage.as_str().to_owned(),
    }
}

/// The trust bundle; its sequence grows whenever its keys are others than at the last start.
fn trust_bundle(
    config: &Config,
    root: &Certificate,
    authority: &Authority,
) -> Result<host::Bundle, ServerError> {
    let path = config.state.join("bundle.sequence");
    let digest = hex::encode(sha256(&[&root.der, authority.wit_public().spki()]));
    let before = if path.exists() {
        files::read_config(&path)?
    } else {
        String::new()
    };
    let (sequence, known) = before.trim().split_once(' ').unwrap_or(("0", ""));
    let sequence: u64 = sequence.parse().map_err(|_| ServerError::File {
        path: path.clone(),
        what: "is not a sequence number and a digest; restore it from a backup".into(),
    })?;
    let sequence = if known == digest { sequence } else { sequence + 1 };
    files::write_public(&path, format!("{sequence} {digest}\n").as_bytes())?;
    let jwks = bundle::to_jwks(
        std::slice::from_ref(root),
        std::slice::from_ref(authority.wit_public()),
        sequence,
    )?;
    Ok(host::Bundle {
        trust_domain: config.trust_domain.to_string(),
        x509: vec![ByteBuf::from(root.der.clone())],
        jwks: jwks.to_string(),
        sequence,
    })
}

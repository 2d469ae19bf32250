//! Credentials for workloads: matched, obtained, kept while they live.

mod held;
mod registered;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_bytes::ByteArray;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use touchmark_api::host::{Assignments, Bundle, Registration};
use touchmark_identity::TrustDomain;
use touchmark_tls::clock;

use crate::{
    AttestationError, ChannelError, Config, HostIdentity,
    caller::{Caller, Selectors},
    issue::{self, Ask, Credential},
    kept::Kept,
    run::Standing,
    session::Sessions,
    trust::pinned,
};

use held::Held;
use registered::{Known, Registered};

/// Why a workload gets nothing.
#[derive(Debug)]
pub(crate) enum NoCredential {
    /// No registration for this caller, or none that gives what it asks for.
    NoRegistration,
    /// Not now: the host is not attested, or the service or the TPM does not answer.
    Unavailable(String),
    /// The service refused the host, or this credential: asking again does not help before an operator acts.
    Refused(String),
}

/// A refusal under one revision of a registration, and until when it is not asked for again.
struct Refused {
    revision: ByteArray<32>,
    until: u64,
    why: String,
}

/// Seconds for which a refused request for a credential is not made again: each takes the TPM a key.
const REFUSED_FOR: u64 = 10;
/// How long an answer of the service counts for callers that no known registration means.
const ASKED_LATELY: Duration = Duration::from_millis(200);
/// How long a service that did not answer is not asked again.
const FAILED_LATELY: Duration = Duration::from_secs(5);
/// How long the service is waited for where something is known that will do.
const PATIENCE: Duration = Duration::from_secs(2);

/// How asking the service went.
struct Asked {
    at: Instant,
    /// Why there was no answer.
    failure: Option<String>,
}

impl Asked {
    /// For how long.
    fn counts(&self) -> Duration {
        match self.failure {
            None => ASKED_LATELY,
            Some(_) => FAILED_LATELY,
        }
    }
}

/// Held while one credential is obtained.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What workloads are served from.
pub(crate) struct Workloads {
    config: Arc<Config>,
    sessions: Sessions,
    held: Held,
    registered: Registered,
    standing: watch::Receiver<Standing>,
    /// The identity of this host that the service has withdrawn.
    withdrawn: Mutex<Option<Arc<HostIdentity>>>,
    /// Told when the service or the TPM no longer takes this host for what it was when it attested.
    doubt: Arc<Notify>,
    /// Told when there is something new to be had.
    changed: watch::Sender<()>,
    /// The last time that the service was asked for what is registered; held while it is asked.
    asked: tokio::sync::Mutex<Option<Asked>>,
    /// What was refused lately.
    refused: Mutex<HashMap<(String, String), Refused>>,
    /// One issuance at a time for a registration and kind: whoever waits finds what the one before obtained.
    turns: Mutex<HashMap<(String, String), Turn>>,
}

impl Workloads {
    /// Begins with what an earlier run has kept.
    pub(crate) fn new(
        config: Arc<Config>,
        standing: watch::Receiver<Standing>,
        doubt: Arc<Notify>,
        resumed: Option<(Kept, Vec<Credential>)>,
    ) -> Result<Self, touchmark_tls::files::FileError> {
        let registered = Registered::default();
        let credentials = resumed.map_or_else(Vec::new, |(kept, credentials)| {
            registered.learn(Known {
                generation: kept.generation,
                bundle: Arc::new(pinned(&config, &kept.bundle)),
                registrations: Arc::new(kept.registrations),
            });
            credentials
        });
        Ok(Self {
            held: Held::open(&config, credentials)?,
            sessions: Sessions::new(Arc::clone(&config)),
            config,
            registered,
            standing,
            withdrawn: Mutex::default(),
            doubt,
            changed: watch::Sender::new(()),
            asked: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
            turns: Mutex::default(),
        })
    }

    /// The host's identity while it holds.
    pub(crate) fn host(&self) -> Result<Arc<HostIdentity>, NoCredential> {
        match &*self.standing.borrow() {
            Standing::Attested(host) if self.is_withdrawn(host) => Err(NoCredential::Refused(
                "the service has withdrawn this host".into(),
            )),
            Standing::Attested(host) if host.not_after > clock::now() => Ok(Arc::clone(host)),
            Standing::Attested(_) => Err(NoCredential::Unavailable(
                "the host's credential has expired".into(),
            )),
            Standing::Attesting { .. } => {
                Err(NoCredential::Unavailable("the host is not attested yet".into()))
            }
            Standing::Refused { refusal, .. } => {
                Err(NoCredential::Refused(format!("the host was refused ({refusal})")))
            }
        }
    }

    /// Fails where the service has refused this host: then nothing of it is to be used any more.
    pub(crate) fn not_refused(&self) -> Result<(), NoCredential> {
        match self.host() {
            Err(refused @ NoCredential::Refused(_)) => Err(refused),
            _ => Ok(()),
        }
    }

    /// The trust domain of this host.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.config.pins.trust_domain
    }

    /// The agent's configuration.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Told when the service or the TPM no longer takes this host for what it was when it attested.
    pub(crate) fn doubt(&self) -> &Notify {
        &self.doubt
    }

    /// What this host may ask for, as far as it is known.
    pub(crate) fn registrations(&self) -> Option<Arc<Vec<Registration>>> {
        Some(self.registered.known()?.registrations)
    }

    /// The credential under a registration, also when it has expired.
    pub(crate) fn held(&self, registration: &Registration, kind: &str) -> Option<Arc<Credential>> {
        self.held.of(registration, kind)
    }

    /// What is to outlive this process; `None` while the host is not attested, or nothing is known yet.
    pub(crate) fn to_keep(&self) -> Option<Kept> {
        let (host, known) = (self.host().ok()?, self.registered.known()?);
        let credentials = self.held.current();
        Some(Kept::of(
            &self.config,
            &host,
            known.generation,
            &known.registrations,
            &known.bundle,
            &credentials,
        ))
    }

    /// Sessions with the service.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Told when there is something new to be had.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Somebody may have something else than before.
    pub(crate) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// The trust bundle: as it was pushed last, or as it came with the host's credential.
    pub(crate) fn bundle(&self) -> Result<Arc<Bundle>, NoCredential> {
        self.not_refused()?;
        let known = self.registered.known();
        let first = match &*self.standing.borrow() {
            Standing::Attested(host) => Some(Arc::clone(host)),
            _ => None,
        };
        match (known, first) {
            (Some(known), Some(host)) if host.bundle.sequence > known.bundle.sequence => {
                Ok(Arc::new(host.bundle.clone()))
            }
            (Some(known), _) => Ok(known.bundle),
            (None, Some(host)) => Ok(Arc::new(host.bundle.clone())),
            (None, None) => self.host().map(|host| Arc::new(host.bundle.clone())),
        }
    }

    /// Whether the service pushes what changes.
    pub(crate) fn followed(&self, followed: bool) {
        self.registered.followed(followed);
    }

    /// The service no longer believes this host: nothing is used until it has attested again, if it does.
    pub(crate) fn withdrawn(&self, host: &Arc<HostIdentity>) {
        *self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(host));
        self.tell();
        self.doubt.notify_one();
    }

    fn is_withdrawn(&self, host: &Arc<HostIdentity>) -> bool {
        let withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        withdrawn
            .as_ref()
            .is_some_and(|withdrawn| Arc::ptr_eq(withdrawn, host))
    }

    /// Takes in what is registered now.
    pub(crate) async fn learn(&self, generation: u64, registrations: Vec<Registration>, bundle: &Bundle) {
        let registrations = Arc::new(registrations);
        let known = Known {
            generation,
            registrations: Arc::clone(&registrations),
            bundle: Arc::new(pinned(&self.config, bundle)),
        };
        if self.registered.learn(known) {
            self.held.only_under(&registrations).await;
            self.tell();
        }
    }

    /// Asks the service for what is registered, and for a challenge.
    async fn ask(&self, host: &Arc<HostIdentity>) -> Result<Assignments, AttestationError> {
        let assignments = issue::assignments(&self.config, &self.sessions, host).await?;
        self.learn(
            assignments.generation,
            assignments.registrations.clone(),
            &assignments.bundle,
        )
        .await;
        Ok(assignments)
    }

    /// The registrations that give a caller credentials of one kind: among those that were pushed, or as the service says when
    /// it is asked. During an outage what was known before it counts on.
    async fn wanted(
        &self,
        host: &Arc<HostIdentity>,
        caller: &Caller,
        kind: &str,
        identifier: Option<&str>,
    ) -> Result<Vec<Registration>, NoCredential> {
        let matching = |known: Option<Known>| matching(known, caller, kind, identifier);
        let pushed = self.registered.pushed();
        let meant = pushed.as_ref().is_some_and(|known| {
            known
                .registrations
                .iter()
                .any(|registration| matches(registration, caller))
        });
        let found = matching(pushed);
        if !found.is_empty() {
            return Ok(found);
        }
        if meant {
            // It is known, and has nothing of this kind.
            return Err(NoCredential::NoRegistration);
        }
        // A push may be on its way: nobody is turned away on what was known a moment ago. Those who wait here share an answer.
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        // A service that pushes is there again.
        let back = self.registered.is_followed();
        let fresh = |asked: &Asked| asked.at + asked.counts() >= came && !(back && asked.failure.is_some());
        let failure = match asked.take_if(|asked| !fresh(asked)) {
            None if asked.is_some() => asked.as_ref().and_then(|asked| asked.failure.clone()),
            _ => {
                let answer = self.ask_soon(host, &matching).await;
                let failure = match answer {
                    Ok(()) => None,
                    Err(AttestationError::Channel(error)) if error.is_outage() => Some(error.to_string()),
                    Err(error) => return Err(self.unavailable(&error)),
                };
                *asked = Some(Asked {
                    at: Instant::now(),
                    failure: failure.clone(),
                });
                failure
            }
        };
        let found = matching(self.registered.known());
        match failure {
            // During an outage what was known before it counts on.
            _ if !found.is_empty() => Ok(found),
            Some(why) => Err(NoCredential::Unavailable(why)),
            None => Err(NoCredential::NoRegistration),
        }
    }

    /// Asks the service; not for long where something is known that will do.
    async fn ask_soon(
        &self,
        host: &Arc<HostIdentity>,
        matching: &impl Fn(Option<Known>) -> Vec<Registration>,
    ) -> Result<(), AttestationError> {
        if matching(self.registered.known()).is_empty() {
            return self.ask(host).await.map(|_| ());
        }
        match tokio::time::timeout(PATIENCE, self.ask(host)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(ChannelError::unreachable(&self.config.hosts, "no answer yet").into()),
        }
    }

    /// Credentials of one kind for a caller: those that live, and new ones for the rest.
    pub(crate) async fn obtain(
        &self,
        caller: &Caller,
        kind: &str,
        identifier: Option<&str>,
    ) -> Result<Vec<Arc<Credential>>, NoCredential> {
        let host = match self.host() {
            Ok(host) => host,
            Err(NoCredential::Unavailable(why)) => {
                // What is held counts until it ends, whoever cannot be reached meanwhile.
                let known = matching(self.registered.known(), caller, kind, identifier);
                let living = known
                    .iter()
                    .filter_map(|registration| self.held.living(registration, kind));
                let living: Vec<_> = living.collect();
                return if living.is_empty() {
                    Err(NoCredential::Unavailable(why))
                } else {
                    Ok(living)
                };
            }
            Err(refused) => return Err(refused),
        };
        let wanted = self.wanted(&host, caller, kind, identifier).await?;
        let mut credentials = Vec::new();
        let mut failure = None;
        for registration in &wanted {
            match self
                .obtain_under(&host, registration, kind, turn_of(caller))
                .await
            {
                Ok(credential) => credentials.push(credential),
                // One registration that cannot be satisfied does not take the others with it.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if credentials.is_empty() => Err(failure),
            _ => Ok(credentials),
        }
    }

    /// The credential under a registration: the one that lives, or a new one, for a caller who takes turns at the device.
    pub(crate) async fn obtain_under(
        &self,
        host: &Arc<HostIdentity>,
        registration: &Registration,
        kind: &str,
        turn: u64,
    ) -> Result<Arc<Credential>, NoCredential> {
        if let Some(credential) = self.held.living(registration, kind) {
            return Ok(credential);
        }
        let own = self.turn(&registration.reference, kind);
        let _held = own.lock().await;
        if let Some(credential) = self.held.living(registration, kind) {
            return Ok(credential);
        }
        if let Some(why) = self.refused_lately(registration, kind) {
            return Err(NoCredential::Refused(why));
        }
        let issued = async {
            // A challenge is for one request.
            let assignments = self.ask(host).await?;
            let ask = self.asking(host, &assignments, registration, kind);
            ask.issue(turn).await
        };
        let credential = issued
            .await
            .map_err(|error| self.failed(&error, registration, kind))?;
        self.keep(credential).await
    }

    /// Renews a credential. Where its key is certified no more, another key takes its place.
    pub(crate) async fn renew(
        &self,
        host: &Arc<HostIdentity>,
        registration: &Registration,
        credential: &Credential,
    ) -> Result<Arc<Credential>, NoCredential> {
        let own = self.turn(&registration.reference, &credential.kind);
        let _held = own.lock().await;
        let kind = credential.kind.as_str();
        let renewed = async {
            let assignments = self.ask(host).await?;
            let ask = self.asking(host, &assignments, registration, kind);
            ask.renew(credential).await
        };
        let renewed = match renewed.await {
            Err(AttestationError::Channel(ChannelError::Refused { refusal, retry })) if retry == "fresh" => {
                tracing::info!(%refusal, registration = %registration.reference, "a key is replaced");
                let replaced = async {
                    let assignments = self.ask(host).await?;
                    let ask = self.asking(host, &assignments, registration, kind);
                    ask.issue(0).await
                };
                replaced.await
            }
            renewed => renewed,
        };
        match renewed {
            Ok(renewed) => self.keep(renewed).await,
            Err(error) => Err(self.failed(&error, registration, &credential.kind)),
        }
    }

    fn asking<'a>(
        &'a self,
        host: &'a Arc<HostIdentity>,
        assignments: &'a Assignments,
        registration: &'a Registration,
        kind: &'a str,
    ) -> Ask<'a> {
        Ask {
            config: &self.config,
            sessions: &self.sessions,
            keys: self.held.keys(),
            host,
            assignments,
            registration,
            kind,
        }
    }

    async fn keep(&self, credential: Credential) -> Result<Arc<Credential>, NoCredential> {
        let credential = Arc::new(credential);
        self.held
            .keep(Arc::clone(&credential))
            .await
            .map_err(NoCredential::Unavailable)?;
        self.tell();
        Ok(credential)
    }

    /// Why there is no credential. Where it is the host that is no longer believed, it attests again at once; where it is
    /// this credential that is refused, it is not asked for again for a while.
    fn failed(&self, error: &AttestationError, registration: &Registration, kind: &str) -> NoCredential {
        match error {
            AttestationError::Channel(ChannelError::Refused { refusal, retry }) if retry != "fresh" => {
                tracing::warn!(registration = %registration.reference, %error, "refused");
                let why = format!("the service refused this credential ({refusal})");
                let until = clock::now() + REFUSED_FOR;
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.retain(|_, refused| refused.until > clock::now());
                refused.insert(
                    (registration.reference.clone(), kind.to_owned()),
                    Refused {
                        revision: registration.revision,
                        until,
                        why: why.clone(),
                    },
                );
                NoCredential::Refused(why)
            }
            error => self.unavailable(error),
        }
    }

    fn refused_lately(&self, registration: &Registration, kind: &str) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refused.get(&(registration.reference.clone(), kind.to_owned()))?;
        let holds = refused.until > clock::now() && refused.revision == registration.revision;
        holds.then(|| refused.why.clone())
    }

    /// Why nothing can be had now; where it is the host that is no longer believed, it attests again at once.
    fn unavailable(&self, error: &AttestationError) -> NoCredential {
        tracing::warn!(%error, "no credential");
        let host = match error {
            AttestationError::Channel(ChannelError::Refused { .. } | ChannelError::Key(_)) => true,
            AttestationError::Device(error) => error.is_sealed(),
            _ => false,
        };
        if host {
            self.doubt.notify_one();
        }
        NoCredential::Unavailable(error.to_string())
    }

    fn turn(&self, reference: &str, kind: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry((reference.to_owned(), kind.to_owned())).or_default())
    }

    /// The key of a credential is no longer in its device: another credential takes the place at once, with another key.
    pub(crate) async fn key_is_gone(&self, credential: &Credential) {
        tracing::warn!(registration = %credential.registration, kind = %credential.kind, "a key is gone from its device");
        self.held.drop_key(&credential.handle).await;
        self.tell();
    }

    /// The credential behind a handle, if it is this caller's.
    pub(crate) fn by_handle(&self, caller: &Caller, handle: &str) -> Option<Arc<Credential>> {
        let known = self.registered.known()?;
        let (credential, registration) = self.held.by_handle(handle, &known.registrations)?;
        matches(registration, caller).then_some(credential)
    }
}

/// Who takes turns at the device: a process.
pub(crate) fn turn_of(caller: &Caller) -> u64 {
    u64::from(caller.uid) << 32 | u64::from(caller.pid.unsigned_abs())
}

/// The registrations among these that give a caller credentials of one kind.
fn matching(
    known: Option<Known>,
    caller: &Caller,
    kind: &str,
    identifier: Option<&str>,
) -> Vec<Registration> {
    let known = known.map(|known| known.registrations).unwrap_or_default();
    let mut matching: Vec<Registration> = known
        .iter()
        .filter(|registration| registration.kinds.iter().any(|listed| listed == kind))
        .filter(|registration| identifier.is_none_or(|wanted| registration.identifier == wanted))
        .filter(|registration| matches(registration, caller))
        .cloned()
        .collect();
    // The default is the one that says most of the process; among equals the one of the first label and name.
    matching.sort_by_key(|registration| std::cmp::Reverse(precision(registration)));
    matching
}

/// How much a registration says of the processes that it means: what only one program has counts most.
fn precision(registration: &Registration) -> u32 {
    u32::from(registration.exe_sha256.is_some()) * 8
        + u32::from(registration.exe.is_some()) * 4
        + u32::from(registration.uid.is_some()) * 2
        + u32::from(registration.gid.is_some())
}

fn matches(registration: &Registration, caller: &Caller) -> bool {
    let selectors = Selectors {
        uid: registration.uid,
        gid: registration.gid,
        exe: registration.exe.clone(),
        exe_sha256: registration.exe_sha256.clone(),
    };
    selectors.matches(caller)
}

#[cfg(test)]
mod tests;

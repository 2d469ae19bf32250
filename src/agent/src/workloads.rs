//! Credentials for workloads: matched, obtained, kept while they live.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_bytes::ByteArray;
use tokio::sync::{Notify, watch};
use touchmark_api::host::{Assignments, Bundle, Registration};
use touchmark_identity::TrustDomain;
use touchmark_tls::clock;

use crate::{
    AttestationError, ChannelError, Config, HostIdentity,
    caller::{Caller, Selectors},
    issue::{self, Credential},
    key_files::KeyFiles,
    run::Standing,
};

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

/// Held while one credential is obtained.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What workloads are served from.
pub(crate) struct Workloads {
    config: Arc<Config>,
    keys: KeyFiles,
    standing: watch::Receiver<Standing>,
    /// Told when the service or the TPM no longer takes this host for what it was when it attested.
    doubt: Arc<Notify>,
    credentials: Mutex<HashMap<(String, String), Arc<Credential>>>,
    /// Credentials that a newer one has replaced: whoever fetched one may use its key until it expires.
    superseded: Mutex<Vec<Arc<Credential>>>,
    /// The latest registrations with their generation, once fetched after the attestation.
    registrations: Mutex<Option<(u64, Arc<Vec<Registration>>)>>,
    /// What was refused lately.
    refused: Mutex<HashMap<(String, String), Refused>>,
    /// One issuance at a time for a registration and kind: whoever waits finds what the one before obtained.
    turns: Mutex<HashMap<(String, String), Turn>>,
}

impl Workloads {
    pub(crate) fn new(
        config: Arc<Config>,
        standing: watch::Receiver<Standing>,
        doubt: Arc<Notify>,
    ) -> Result<Self, touchmark_tls::files::FileError> {
        Ok(Self {
            keys: KeyFiles::open(&config.state)?,
            config,
            standing,
            doubt,
            credentials: Mutex::default(),
            superseded: Mutex::default(),
            registrations: Mutex::default(),
            refused: Mutex::default(),
            turns: Mutex::default(),
        })
    }

    /// The host's identity while it holds.
    pub(crate) fn host(&self) -> Result<Arc<HostIdentity>, NoCredential> {
        match &*self.standing.borrow() {
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

    /// The trust domain of this host.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.config.pins.trust_domain
    }

    /// The trust bundle.
    pub(crate) fn bundle(&self) -> Result<Bundle, NoCredential> {
        Ok(self.host()?.bundle.clone())
    }

    /// Credentials of one kind for a caller: those that live, and new ones for the rest. The service is asked for its
    /// registrations each time, so that a change there is felt here at the next connection.
    pub(crate) async fn obtain(
        &self,
        caller: &Caller,
        kind: &str,
        identifier: Option<&str>,
    ) -> Result<Vec<Arc<Credential>>, NoCredential> {
        let host = self.host()?;
        let (mut channel, mut assignments) = issue::assignments(&self.config, &host)
            .await
            .map_err(|error| self.unavailable(&error))?;
        self.learn(&assignments).await;
        let wanted: Vec<Registration> = assignments
            .registrations
            .iter()
            .filter(|registration| matches(registration, caller))
            .filter(|registration| registration.kinds.iter().any(|listed| listed == kind))
            .filter(|registration| identifier.is_none_or(|wanted| registration.identifier == wanted))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Err(NoCredential::NoRegistration);
        }
        let mut credentials = Vec::new();
        let mut fresh = true;
        let mut refused = None;
        for registration in &wanted {
            if let Some(credential) = self.living(&registration.reference, kind, registration) {
                credentials.push(credential);
                continue;
            }
            let turn = self.turn(&registration.reference, kind);
            let _held = turn.lock().await;
            if let Some(credential) = self.living(&registration.reference, kind, registration) {
                credentials.push(credential);
                continue;
            }
            if let Some(why) = self.refused_lately(registration, kind) {
                refused = Some(why);
                continue;
            }
            if !fresh {
                // A challenge is for one request.
                (channel, assignments) = issue::assignments(&self.config, &host)
                    .await
                    .map_err(|error| self.unavailable(&error))?;
            }
            fresh = false;
            let issued = issue::issue(
                &self.config,
                &host,
                &mut channel,
                &assignments,
                registration,
                kind,
                turn_of(caller),
            )
            .await;
            match issued {
                Ok(credential) => {
                    let credential = Arc::new(credential);
                    self.keep(Arc::clone(&credential)).await?;
                    credentials.push(credential);
                }
                // One registration that cannot be satisfied does not take the others with it.
                Err(error) if wanted.len() > 1 => {
                    let _ = self.failed(&error, registration, kind);
                }
                Err(error) => return Err(self.failed(&error, registration, kind)),
            }
        }
        match refused {
            Some(why) if credentials.is_empty() => return Err(NoCredential::Refused(why)),
            _ if credentials.is_empty() => {
                return Err(NoCredential::Unavailable(
                    "no registration could be satisfied".into(),
                ));
            }
            _ => {}
        }
        Ok(credentials)
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

    /// The credential behind a handle, if it is this caller's.
    pub(crate) fn by_handle(&self, caller: &Caller, handle: &str) -> Option<Arc<Credential>> {
        let known = self
            .registrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?
            .1;
        let current = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let superseded = self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
        let credential = current
            .values()
            .chain(superseded.iter())
            .find(|credential| credential.handle == handle)?;
        let registration = known.iter().find(|entry| is_under(credential, entry))?;
        let lives = credential.not_after > clock::now();
        (lives && matches(registration, caller)).then(|| Arc::clone(credential))
    }

    /// Takes in what is registered now. An answer that was overtaken by a newer one is not taken.
    async fn learn(&self, assignments: &Assignments) {
        let registrations = &assignments.registrations;
        {
            let mut known = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
            if known
                .as_ref()
                .is_some_and(|(generation, _)| *generation > assignments.generation)
            {
                return;
            }
            *known = Some((assignments.generation, Arc::new(registrations.clone())));
        }
        // What is no longer registered is no longer held.
        let mut gone = Vec::new();
        let mut kept = |credential: &Arc<Credential>| {
            let kept = registrations.iter().any(|entry| is_under(credential, entry));
            if !kept {
                gone.push(credential.handle.clone());
            }
            kept
        };
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, credential| kept(credential));
        self.superseded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(kept);
        self.keys.remove(gone).await;
    }

    async fn keep(&self, credential: Arc<Credential>) -> Result<(), NoCredential> {
        let key = (credential.registration.clone(), credential.kind.clone());
        self.keys
            .write(&credential.handle, &credential.file)
            .await
            .map_err(NoCredential::Unavailable)?;
        let before = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, credential);
        let now = clock::now();
        let mut gone = Vec::new();
        {
            let mut superseded = self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
            superseded.extend(before);
            superseded.retain(|credential| {
                let lives = credential.not_after > now;
                if !lives {
                    gone.push(credential.handle.clone());
                }
                lives
            });
        }
        self.keys.remove(gone).await;
        Ok(())
    }

    /// A credential in the first two thirds of its life, under the registration as it is now.
    fn living(&self, reference: &str, kind: &str, registration: &Registration) -> Option<Arc<Credential>> {
        let credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let credential = credentials.get(&(reference.to_owned(), kind.to_owned()))?;
        let life = credential.not_after.saturating_sub(credential.issued_at);
        let fresh = clock::now() < credential.issued_at + life / 3 * 2;
        let same = credential.revision == registration.revision;
        (fresh && same).then(|| Arc::clone(credential))
    }
}

/// Whether a credential was issued under this registration and for the identifier that it names now.
fn is_under(credential: &Credential, registration: &Registration) -> bool {
    credential.registration == registration.reference && credential.identifier == registration.identifier
}

/// Who takes turns at the device: a process.
pub(crate) fn turn_of(caller: &Caller) -> u64 {
    u64::from(caller.uid) << 32 | u64::from(caller.pid.unsigned_abs())
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

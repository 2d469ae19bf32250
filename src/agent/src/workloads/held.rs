//! Credentials in the agent's hands, with the files of their keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use touchmark_api::host::Registration;
use touchmark_tls::{clock, files::FileError};

use crate::{Config, issue::Credential, key_files::KeyFiles};

#[derive(Default)]
struct Credentials {
    /// By registration and kind.
    current: HashMap<(String, String), Arc<Credential>>,
    /// Those that one with another key has replaced: whoever fetched one may use its key until it expires.
    superseded: Vec<Arc<Credential>>,
}

impl Credentials {
    fn all(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.current.values().chain(&self.superseded)
    }

    /// Drops all but these, and returns the handles that no credential is left for.
    fn retain(&mut self, kept: impl Fn(&Credential) -> bool) -> Vec<String> {
        let mut gone: Vec<String> = Vec::new();
        let mut keep = |credential: &Arc<Credential>| {
            let keep = kept(credential);
            if !keep {
                gone.push(credential.handle.clone());
            }
            keep
        };
        self.current.retain(|_, credential| keep(credential));
        self.superseded.retain(keep);
        gone.retain(|handle| self.all().all(|credential| credential.handle != *handle));
        gone
    }
}

/// What is held.
pub(crate) struct Held {
    keys: KeyFiles,
    credentials: Mutex<Credentials>,
}

impl Held {
    /// Opens what an earlier run has kept.
    pub(crate) fn open(config: &Config, kept: Vec<Credential>) -> Result<Self, FileError> {
        let handles: Vec<String> = kept.iter().map(|credential| credential.handle.clone()).collect();
        let token = config.token.as_ref().map(|hsm| hsm.token.clone());
        let current = kept.into_iter().map(|credential| {
            let key = (credential.registration.clone(), credential.kind.clone());
            (key, Arc::new(credential))
        });
        Ok(Self {
            keys: KeyFiles::open(&config.state, token, &handles)?,
            credentials: Mutex::new(Credentials {
                current: current.collect(),
                superseded: Vec::new(),
            }),
        })
    }

    /// The files of the keys.
    pub(crate) fn keys(&self) -> &KeyFiles {
        &self.keys
    }

    /// Those that are not replaced, in an order of their own.
    pub(crate) fn current(&self) -> Vec<Arc<Credential>> {
        let mut all: Vec<_> = self.lock().current.values().map(Arc::clone).collect();
        all.sort_by(|one, other| one.handle.cmp(&other.handle));
        all
    }

    /// A credential that lives, under the registration as it is now.
    pub(crate) fn living(&self, registration: &Registration, kind: &str) -> Option<Arc<Credential>> {
        self.of(registration, kind)
            .filter(|credential| credential.not_after > clock::now())
    }

    /// The credential under the registration as it is now, also when it has expired.
    pub(crate) fn of(&self, registration: &Registration, kind: &str) -> Option<Arc<Credential>> {
        let credentials = self.lock();
        let key = (registration.reference.clone(), kind.to_owned());
        let credential = credentials.current.get(&key)?;
        (credential.revision == registration.revision).then(|| Arc::clone(credential))
    }

    /// The living credential whose key this handle names, if it is under one of these registrations.
    pub(crate) fn by_handle<'a>(
        &self,
        handle: &str,
        registrations: &'a [Registration],
    ) -> Option<(Arc<Credential>, &'a Registration)> {
        let credentials = self.lock();
        let credential = credentials.all().find(|credential| credential.handle == handle)?;
        let registration = registrations.iter().find(|entry| is_under(credential, entry))?;
        (credential.not_after > clock::now()).then(|| (Arc::clone(credential), registration))
    }

    /// Holds another credential. The one before goes on answering until it expires.
    pub(crate) async fn keep(&self, credential: Arc<Credential>) -> Result<(), String> {
        // Durable before visible.
        let reference = credential.description.reference()?;
        self.keys.write(&credential.handle, &reference).await?;
        let now = clock::now();
        let gone = {
            let mut credentials = self.lock();
            let key = (credential.registration.clone(), credential.kind.clone());
            let same_key = credential.handle.clone();
            let before = credentials.current.insert(key, credential);
            let replaced = before.filter(|before| before.handle != same_key);
            credentials.superseded.extend(replaced);
            credentials.retain(|credential| credential.not_after > now)
        };
        self.keys.remove(gone).await;
        Ok(())
    }

    /// Nothing under this key is held any more.
    pub(crate) async fn drop_key(&self, handle: &str) {
        let gone = self.lock().retain(|credential| credential.handle != handle);
        self.keys.remove(gone).await;
    }

    /// What is no longer registered is no longer held.
    pub(crate) async fn only_under(&self, registrations: &[Registration]) {
        let gone = self.lock().retain(|credential| {
            registrations
                .iter()
                .any(|registration| is_under(credential, registration))
        });
        self.keys.remove(gone).await;
    }

    fn lock(&self) -> MutexGuard<'_, Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a credential was issued under this registration and for the identifier that it names now.
fn is_under(credential: &Credential, registration: &Registration) -> bool {
    credential.registration == registration.reference && credential.identifier == registration.identifier
}

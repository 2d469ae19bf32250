//! Who this program is, as the agent said last.

use std::{fmt, sync::Arc};

use rustls::{pki_types::CertificateDer, sign::CertifiedKey};
use tokio::sync::mpsc::WeakUnboundedSender;
use touchmark_api::workload::{WatchResponse, WitIdentity, X509Identity};
use touchmark_crypto::x509::Certificate;
use touchmark_identity::WorkloadId;

use crate::{Trust, background::Job, key::AgentKey};

/// This program's identity at one moment: its credentials and whom it believes. Immutable: when something changes, there is
/// another one.
#[derive(Debug, Clone)]
pub struct Identity {
    identifier: WorkloadId,
    x509: Option<X509>,
    wit: Option<Wit>,
    trust: Arc<Trust>,
}

/// An X.509 credential.
#[derive(Debug, Clone)]
pub struct X509 {
    pub(crate) certified: Arc<CertifiedKey>,
    not_after: u64,
}

/// A Workload Identity Token.
#[derive(Clone)]
pub struct Wit {
    token: String,
    not_after: u64,
}

impl Identity {
    /// Who this program is.
    pub fn identifier(&self) -> &WorkloadId {
        &self.identifier
    }

    /// Its X.509 credential, if its registration gives one.
    pub fn x509(&self) -> Option<&X509> {
        self.x509.as_ref()
    }

    /// Its token, if its registration gives one.
    pub fn wit(&self) -> Option<&Wit> {
        self.wit.as_ref()
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// What the agent said, read. The first credential is the default; the other kind has to be for the same identifier.
    pub(crate) fn read(answer: WatchResponse, jobs: &WeakUnboundedSender<Job>) -> Result<Self, String> {
        let bundle = answer.bundle.ok_or("no trust bundle")?;
        let trust = Trust::from_bundle(&bundle)?;
        let named = answer
            .x509
            .first()
            .map(|one| one.identifier.clone())
            .or_else(|| answer.wit.first().map(|one| one.identifier.clone()))
            .ok_or("no credential")?;
        let (identifier, ..) = trust
            .select(&named)
            .ok_or_else(|| format!("{named:?} is not of the agent's trust domain"))?;
        let x509 = answer.x509.into_iter().find(|one| one.identifier == named);
        let wit = answer.wit.into_iter().find(|one| one.identifier == named);
        Ok(Self {
            identifier,
            x509: x509.map(|one| X509::read(one, jobs)).transpose()?,
            wit: wit.map(Wit::read),
            trust: Arc::new(trust),
        })
    }
}

impl X509 {
    /// The chain, DER, leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// When it ends, seconds since the epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    fn read(received: X509Identity, jobs: &WeakUnboundedSender<Job>) -> Result<Self, String> {
        let leaf = received.chain.first().ok_or("a chain without certificates")?;
        let leaf = Certificate::parse(leaf).map_err(|error| error.to_string())?;
        let handle = received.key.ok_or("a credential without a key")?.handle;
        let key = AgentKey::new(handle, leaf.spki, jobs.clone())?;
        let chain = received.chain.into_iter().map(CertificateDer::from).collect();
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(chain, Arc::new(key))),
            not_after: u64::try_from(received.not_after).unwrap_or(0),
        })
    }
}

impl Wit {
    /// The token, compact serialization. It is worth nothing without proofs, and is not for logs all the same.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// When it ends, seconds since the epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    fn read(received: WitIdentity) -> Self {
        Self {
            token: received.token,
            not_after: u64::try_from(received.not_after).unwrap_or(0),
        }
    }
}

impl fmt::Debug for Wit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wit")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

//! A private key that the agent uses on this program's behalf.

use std::{sync::mpsc::sync_channel, time::Duration};

use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    pki_types::SubjectPublicKeyInfoDer,
    sign::{Signer, SigningKey},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::mpsc::WeakUnboundedSender,
};
use touchmark_crypto::{KeyKind, PublicKey};

use crate::background::Job;

/// How long a signature may take: a TPM signs one after the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The key of an X.509 credential, by its handle.
#[derive(Debug, Clone)]
pub(crate) struct AgentKey {
    handle: String,
    spki: Vec<u8>,
    /// Weak: an identity does not keep its source alive.
    jobs: WeakUnboundedSender<Job>,
}

impl AgentKey {
    pub(crate) fn new(handle: String, spki: Vec<u8>, jobs: WeakUnboundedSender<Job>) -> Result<Self, String> {
        // The agent signs with ECDSA and SHA-256.
        match PublicKey::from_spki(&spki).map(|key| key.kind()) {
            Ok(KeyKind::P256) => Ok(Self { handle, spki, jobs }),
            Ok(_) => Err("a key that is not on P-256".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks the agent and waits; only on threads that may block.
    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let (reply, answer) = sync_channel(1);
        let job = Job::Sign {
            handle: self.handle.clone(),
            message: message.to_vec(),
            reply,
        };
        self.jobs
            .upgrade()
            .and_then(|jobs| jobs.send(job).ok())
            .ok_or_else(|| Error::General("the identity source has ended".to_owned()))?;
        match answer.recv_timeout(PATIENCE) {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(why)) => Err(Error::General(format!("the agent did not sign: {why}"))),
            Err(_) => Err(Error::General("the agent did not sign in time".to_owned())),
        }
    }
}

impl SigningKey for AgentKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for AgentKey {
    /// [`crate::Listener`] and [`crate::Connector`] call this on threads that may block. Elsewhere a runtime with several
    /// threads is told; one with a single thread stands still for as long as the signature takes.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let threads =
            Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        if threads {
            tokio::task::block_in_place(|| self.ask(message))
        } else {
            self.ask(message)
        }
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

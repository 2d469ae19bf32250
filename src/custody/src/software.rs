//! A key in memory has no device whose callers would have to take turns.

use std::sync::Arc;

use touchmark_crypto::{PublicKey, Purpose, SignError, Signer, SigningAlg, SoftwareKey};

use crate::SharedSigner;

/// A [`SoftwareKey`] where a held key is expected: in tests and benches, and where a key lives for one process by design.
#[derive(Debug, Clone)]
pub struct InMemory(Arc<SoftwareKey>);

impl InMemory {
    /// Shares the key.
    pub fn new(key: impl Into<Arc<SoftwareKey>>) -> Self {
        Self(key.into())
    }
}

impl Signer for InMemory {
    fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    fn algorithm(&self) -> SigningAlg {
        self.0.algorithm()
    }

    fn sign(&self, purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.sign(purpose, message)
    }
}

impl SharedSigner for InMemory {
    fn on_behalf_of(&self, _caller: u64) -> Arc<dyn SharedSigner> {
        Arc::new(self.clone())
    }
}

//! The interface to whatever holds keys.

use std::sync::Arc;

use touchmark_crypto::{Purpose, SignError, Signer};

use crate::KeyReference;

/// In which boot state a key answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// In any.
    None,
    /// Only while these registers (bank identifier, numbers) hold what they hold now.
    Registers(Vec<(u16, Vec<u8>)>),
}

/// Why a key could not be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    /// The device is away or busy: the same call may succeed later.
    #[error("the device did not answer: {0}")]
    Retryable(String),
    /// The file does not hold a key that this device can use.
    #[error("the key cannot be used here: {0}")]
    Unusable(String),
    /// The device refused for good.
    #[error("the device refused: {0}")]
    Refused(String),
}

/// A signer whose device serves several callers.
pub trait SharedSigner: Signer {
    /// The same key, used for what this caller asked for: callers take turns at the device.
    fn on_behalf_of(&self, caller: u64) -> Arc<dyn SharedSigner>;
}

/// A key that a device holds, opened for a few purposes.
#[derive(Clone)]
pub struct HeldKey {
    signer: Arc<dyn SharedSigner>,
    exportable: bool,
    purposes: &'static [Purpose],
}

impl HeldKey {
    /// Wraps a device's signer. `exportable` is the device's own word on whether the key could ever leave it.
    pub fn new(signer: Arc<dyn SharedSigner>, exportable: bool, purposes: &'static [Purpose]) -> Self {
        Self {
            signer,
            exportable,
            purposes,
        }
    }

    /// The same key, used for what this caller asked for.
    pub fn on_behalf_of(&self, caller: u64) -> Self {
        Self {
            signer: self.signer.on_behalf_of(caller),
            ..self.clone()
        }
    }

    /// Whether the key could leave the device, or was not made in it.
    pub fn exportable(&self) -> bool {
        self.exportable
    }
}

impl std::fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "HeldKey({:?}, exportable: {})",
            self.signer.public_key(),
            self.exportable
        )
    }
}

impl Signer for HeldKey {
    fn public_key(&self) -> &touchmark_crypto::PublicKey {
        self.signer.public_key()
    }

    fn algorithm(&self) -> touchmark_crypto::SigningAlg {
        self.signer.algorithm()
    }

    fn sign(&self, purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError> {
        if !self.purposes.contains(&purpose) {
            return Err(SignError::Purpose(purpose));
        }
        self.signer.sign(purpose, message)
    }
}

/// What is asked of a key that is to be made: P-256, for signatures alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey<'a> {
    /// What it is called where keys have names; 1 to 64 bytes.
    pub label: &'a str,
    /// In which boot state it answers.
    pub seal: Seal,
}

/// Makes keys that never leave their device, and opens them again.
pub trait KeyBackend: Send + Sync {
    /// Makes a signing key and says where it rests.
    fn create(&self, wanted: &NewKey<'_>) -> Result<KeyReference, CustodyError>;

    /// Opens a key for `purposes`, after checking that this device can use it.
    fn open(&self, key: &KeyReference, purposes: &'static [Purpose]) -> Result<HeldKey, CustodyError>;
}

//! Keys in a TPM behind the helper, as custody knows them.

use std::sync::Arc;

use touchmark_api::device::KeyDescription;
use touchmark_crypto::{PublicKey, Purpose, SignError, Signer, SigningAlg};
use touchmark_custody::{CustodyError, HeldKey, KeyBackend, Seal, SharedSigner, tss2::Tss2Key};
use touchmark_rats::PcrSelection;

use crate::{Device, DeviceError};

/// A TPM as a [`KeyBackend`].
#[derive(Debug, Clone)]
pub struct TpmKeys(pub Device);

impl KeyBackend for TpmKeys {
    fn create(&self, seal: &Seal) -> Result<Tss2Key, CustodyError> {
        let selection = match seal {
            Seal::None => None,
            Seal::Registers(wire) => Some(
                PcrSelection::from_wire(wire)
                    .ok_or_else(|| CustodyError::Unusable("registers to seal to".to_owned()))?,
            ),
        };
        let description = self
            .0
            .create_key(selection.as_ref())
            .map_err(|error| custody_error(&error))?;
        Tss2Key::from_der(&description.key).map_err(|error| CustodyError::Unusable(error.to_string()))
    }

    fn open(&self, key: &Tss2Key, purposes: &'static [Purpose]) -> Result<HeldKey, CustodyError> {
        let description = self.0.check_key(key).map_err(|error| custody_error(&error))?;
        held(&self.0, &description, purposes)
    }
}

/// A key that [`Device::create_key`] has just made, without loading it again.
pub fn created_key(
    device: &Device,
    description: &KeyDescription,
    purposes: &'static [Purpose],
) -> Result<HeldKey, CustodyError> {
    held(device, description, purposes)
}

fn held(
    device: &Device,
    description: &KeyDescription,
    purposes: &'static [Purpose],
) -> Result<HeldKey, CustodyError> {
    let unusable = |error: touchmark_crypto::CryptoError| CustodyError::Unusable(error.to_string());
    let public = PublicKey::from_spki(&description.spki).map_err(unusable)?;
    let alg = SigningAlg::for_key(public.kind())
        .ok_or_else(|| CustodyError::Unusable("not a P-256 or P-384 key".to_owned()))?;
    let signer = TpmSigner {
        device: device.clone(),
        key: description.key.to_vec().into(),
        public,
        alg,
    };
    Ok(HeldKey::new(Arc::new(signer), description.exportable, purposes))
}

#[derive(Clone)]
struct TpmSigner {
    device: Device,
    key: Arc<[u8]>,
    public: PublicKey,
    alg: SigningAlg,
}

impl Signer for TpmSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SigningAlg {
        self.alg
    }

    fn sign(&self, _purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.device.sign(&self.key, message).map_err(|error| {
            if error.is_retryable() {
                SignError::Retryable(error.to_string())
            } else {
                SignError::Refused(error.to_string())
            }
        })
    }
}

impl SharedSigner for TpmSigner {
    fn on_behalf_of(&self, caller: u64) -> Arc<dyn SharedSigner> {
        Arc::new(Self {
            device: self.device.on_behalf_of(caller),
            ..self.clone()
        })
    }
}

fn custody_error(error: &DeviceError) -> CustodyError {
    if error.is_retryable() {
        CustodyError::Retryable(error.to_string())
    } else {
        CustodyError::Refused(error.to_string())
    }
}

//! Keys in a TPM behind the helper, as custody knows them.

use std::sync::Arc;

use touchmark_api::device::KeyDescription;
use touchmark_crypto::{PublicKey, Purpose, SignError, Signer, SigningAlg};
use touchmark_custody::{
    CustodyError, HeldKey, KeyBackend, KeyReference, NewKey, Seal, SharedSigner, tss2::Tss2Key,
};
use touchmark_rats::PcrSelection;

use crate::{Device, DeviceError};

/// A TPM as a [`KeyBackend`].
#[derive(Debug, Clone)]
pub struct TpmKeys(pub Device);

impl KeyBackend for TpmKeys {
    fn create(&self, wanted: &NewKey<'_>) -> Result<KeyReference, CustodyError> {
        let selection = match &wanted.seal {
            Seal::None => None,
            Seal::Registers(wire) => Some(
                PcrSelection::from_wire(wire)
                    .ok_or_else(|| CustodyError::Unusable("registers to seal to".to_owned()))?,
            ),
        };
        let description = self.0.create_key(selection.as_ref())?;
        let key = Tss2Key::from_der(&description.key);
        key.map(KeyReference::Tss2)
            .map_err(|error| CustodyError::Unusable(error.to_string()))
    }

    fn open(&self, key: &KeyReference, purposes: &'static [Purpose]) -> Result<HeldKey, CustodyError> {
        let KeyReference::Tss2(key) = key else {
            let what = "it is a PKCS#11 token's key, where configuration names a TPM for it";
            return Err(CustodyError::Unusable(what.to_owned()));
        };
        let description = self.0.check_key(key)?;
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

impl From<DeviceError> for CustodyError {
    fn from(error: DeviceError) -> Self {
        if error.is_retryable() {
            Self::Retryable(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

//! Keys in a PKCS#11 token behind the helper, as custody knows them.

use std::sync::Arc;

use touchmark_api::device::TokenKeyKind;
use touchmark_crypto::{PublicKey, Purpose, SignError, Signer, SigningAlg};
use touchmark_custody::{
    CustodyError, HeldKey, KeyBackend, KeyReference, NewKey, Seal, SharedSigner, pkcs11_uri::Pkcs11Uri,
};
use touchmark_rats::token::TokenKey;

use crate::Token;

/// A token as a [`KeyBackend`].
#[derive(Debug, Clone)]
pub struct TokenKeys(pub Token);

impl KeyBackend for TokenKeys {
    fn create(&self, wanted: &NewKey<'_>) -> Result<KeyReference, CustodyError> {
        if wanted.seal != Seal::None {
            let what = "a token knows no boot state: a key that is sealed to one needs a TPM";
            return Err(CustodyError::Unusable(what.to_owned()));
        }
        let key = self.0.create_key(TokenKeyKind::P256, wanted.label)?;
        let uri = Pkcs11Uri::parse(&key.uri).map_err(|error| CustodyError::Unusable(error.to_string()))?;
        Ok(KeyReference::Pkcs11(uri))
    }

    fn open(&self, key: &KeyReference, purposes: &'static [Purpose]) -> Result<HeldKey, CustodyError> {
        let KeyReference::Pkcs11(uri) = key else {
            let what = "it is a TPM's key, where configuration names a PKCS#11 token for it";
            return Err(CustodyError::Unusable(what.to_owned()));
        };
        self.described(&self.0.describe_key(&uri.to_string())?, purposes)
    }
}

impl TokenKeys {
    /// A key that the token has described already, without asking it again.
    pub fn described(&self, key: &TokenKey, purposes: &'static [Purpose]) -> Result<HeldKey, CustodyError> {
        let public =
            PublicKey::from_spki(&key.spki).map_err(|error| CustodyError::Unusable(error.to_string()))?;
        let alg = SigningAlg::for_key(public.kind())
            .ok_or_else(|| CustodyError::Unusable("not a P-256 or P-384 key".to_owned()))?;
        let signer = TokenSigner {
            token: self.0.clone(),
            uri: key.uri.as_str().into(),
            public,
            alg,
        };
        let exportable = key.attributes.could_leave().is_some();
        Ok(HeldKey::new(Arc::new(signer), exportable, purposes))
    }
}

#[derive(Clone)]
struct TokenSigner {
    token: Token,
    uri: Arc<str>,
    public: PublicKey,
    alg: SigningAlg,
}

impl Signer for TokenSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SigningAlg {
        self.alg
    }

    fn sign(&self, _purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.token.sign(&self.uri, message).map_err(|error| {
            if error.is_retryable() {
                SignError::Retryable(error.to_string())
            } else if error.is_no_key() {
                SignError::Gone(error.to_string())
            } else {
                SignError::Refused(error.to_string())
            }
        })
    }
}

impl SharedSigner for TokenSigner {
    fn on_behalf_of(&self, caller: u64) -> Arc<dyn SharedSigner> {
        Arc::new(Self {
            token: self.token.on_behalf_of(caller),
            ..self.clone()
        })
    }
}

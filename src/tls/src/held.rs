//! Held keys as TLS signers.

use std::sync::Arc;

use rustls::{
    Error, OtherError, SignatureAlgorithm, SignatureScheme,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    sign::{CertifiedKey, Signer as TlsSigner, SigningKey},
};
use touchmark_crypto::{Purpose, Signer, SigningAlg, ecdsa_der_from_fixed};
use touchmark_custody::HeldKey;

/// A chain (leaf first, with the root at its end where peers know only its digest) and the held key of its leaf.
pub fn identity(chain: &[Vec<u8>], key: HeldKey) -> Arc<CertifiedKey> {
    let chain = chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    Arc::new(CertifiedKey::new(chain, Arc::new(Held(key))))
}

#[derive(Debug, Clone)]
struct Held(HeldKey);

impl Held {
    fn scheme(&self) -> SignatureScheme {
        match self.0.algorithm() {
            SigningAlg::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            SigningAlg::Es384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        }
    }
}

impl SigningKey for Held {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn TlsSigner>> {
        offered
            .contains(&self.scheme())
            .then(|| Box::new(self.clone()) as Box<dyn TlsSigner>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public_key().spki()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl TlsSigner for Held {
    /// The device may take its time: the runtime is told, so that other tasks of this worker move on.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let sign = || self.0.sign(Purpose::TlsHandshake, message);
        let multi_threaded = tokio::runtime::Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
        let signature = if multi_threaded {
            tokio::task::block_in_place(sign)
        } else {
            sign()
        };
        signature
            .map(|signature| ecdsa_der_from_fixed(&signature))
            .map_err(|error| Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        Held::scheme(self)
    }
}

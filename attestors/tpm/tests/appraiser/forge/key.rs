//! Software keys that play a TPM's.

use rcgen::{KeyPair, RsaKeySize, SigningKey};
use touchmark_crypto::{PublicKey, Purpose, Signer, SigningAlg, SoftwareKey};

use super::{
    area::{ECDSA, RSASSA},
    write::{SHA256, SHA384},
};

/// A private key.
pub(crate) enum Key {
    Ecc(SoftwareKey),
    Rsa(KeyPair, PublicKey),
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::Ecc(SoftwareKey::generate(SigningAlg::Es256).unwrap())
    }

    pub(crate) fn p384() -> Self {
        Self::Ecc(SoftwareKey::generate(SigningAlg::Es384).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let public = PublicKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(&pair)).unwrap();
        Self::Rsa(pair, public)
    }

    pub(crate) fn public(&self) -> &PublicKey {
        match self {
            Self::Ecc(key) => key.public_key(),
            Self::Rsa(_, public) => public,
        }
    }

    /// TPM_ALG_ID of the scheme.
    pub(crate) fn scheme(&self) -> u16 {
        match self {
            Self::Ecc(_) => ECDSA,
            Self::Rsa(..) => RSASSA,
        }
    }

    /// TPM_ALG_ID of the scheme's hash.
    pub(crate) fn hash(&self) -> u16 {
        match self {
            Self::Ecc(key) if key.algorithm() == SigningAlg::Es384 => SHA384,
            _ => SHA256,
        }
    }

    /// `r` and `s`, or the one RSA number.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Ecc(key) => {
                let fixed = key.sign(Purpose::ProofOfPossession, message).unwrap();
                let (r, s) = fixed.split_at(fixed.len() / 2);
                vec![r.to_vec(), s.to_vec()]
            }
            Self::Rsa(pair, _) => vec![pair.sign(message).unwrap()],
        }
    }
}

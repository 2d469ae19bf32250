//! A key in this process's memory.
//!
//! Production code holds its keys in devices. This one stands in where a key lives for one process by design (tests,
//! benches), and is named for what it is in every credential.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};

use crate::{CryptoError, KeyKind, PublicKey, Purpose, SignError, Signer, SigningAlg};

/// An ECDSA key pair in memory. It answers for every purpose.
pub struct SoftwareKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    alg: SigningAlg,
}

impl SoftwareKey {
    /// Generates a key for `alg`.
    pub fn generate(alg: SigningAlg) -> Result<Self, CryptoError> {
        let (signing, kind) = match alg {
            SigningAlg::Es256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, KeyKind::P256),
            SigningAlg::Es384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, KeyKind::P384),
        };
        let pair = EcdsaKeyPair::generate(signing).map_err(|_| CryptoError::Provider("key generation"))?;
        let public = PublicKey::from_ec_point(kind, pair.public_key().as_ref())?;
        Ok(Self { pair, public, alg })
    }
}

impl std::fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoftwareKey({})", self.alg.jose())
    }
}

impl Signer for SoftwareKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SigningAlg {
        self.alg
    }

    fn sign(&self, _purpose: Purpose, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let signature = self
            .pair
            .sign(&rng, message)
            .map_err(|_| SignError::Refused("provider failed".to_owned()))?;
        Ok(signature.as_ref().to_vec())
    }
}

//! A public key to be certified by an authority of a test's own.

use rcgen::{PublicKeyData, SignatureAlgorithm};
use touchmark_crypto::PublicKey;

/// The key.
pub struct Subject(pub PublicKey);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        // Only the key's own algorithm identifier is taken from it.
        match self.0.rsa_parts() {
            Some(_) => &rcgen::PKCS_RSA_SHA256,
            None => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

//! Public-key encryption and the cipher that TPM credential protection is made of (TPM 2.0 library, part 1,
//! section 24 and annexes B, C): used to seal an activation secret to an endorsement key.

use aws_lc_rs::{
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey},
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};

use crate::{CryptoError, Entropy, KeyKind, PublicKey, Secret, SystemEntropy};

/// A fresh 32-byte seed and its encryption: RSAES-OAEP with SHA-256 for both hash and MGF1, and the given label.
pub fn oaep_sha256_seed(key: &PublicKey, label: &[u8]) -> Result<(Secret, Vec<u8>), CryptoError> {
    let mut seed = vec![0; 32];
    SystemEntropy.fill(&mut seed)?;
    let seed = Secret::new(seed);
    let encrypted = oaep_sha256(key, label, seed.expose())?;
    Ok((seed, encrypted))
}

fn oaep_sha256(key: &PublicKey, label: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    const FAILED: CryptoError = CryptoError::Provider("OAEP");
    if !matches!(key.kind(), KeyKind::Rsa { .. }) {
        return Err(CryptoError::KeyNotAccepted("OAEP needs an RSA key"));
    }
    let key = PublicEncryptingKey::from_der(key.spki()).map_err(|_| FAILED)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| FAILED)?;
    let mut out = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut out, Some(label))
        .map_err(|_| FAILED)?
        .len();
    out.truncate(length);
    Ok(out)
}

/// The outcome of an ephemeral Diffie-Hellman exchange.
pub struct Ephemeral {
    /// The ephemeral public key.
    pub public: PublicKey,
    /// The x coordinate of the shared point.
    pub shared_x: Secret,
}

/// ECDH between a fresh key and `peer`, which must be on P-256 or P-384.
pub fn ecdh(peer: &PublicKey) -> Result<Ephemeral, CryptoError> {
    const FAILED: CryptoError = CryptoError::Provider("ECDH");
    let alg = match peer.kind() {
        KeyKind::P256 => &agreement::ECDH_P256,
        KeyKind::P384 => &agreement::ECDH_P384,
        KeyKind::P521 | KeyKind::Secp256k1 | KeyKind::Rsa { .. } => {
            return Err(CryptoError::KeyNotAccepted("ECDH needs a curve point"));
        }
    };
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let private = EphemeralPrivateKey::generate(alg, &rng).map_err(|_| FAILED)?;
    let public = private.compute_public_key().map_err(|_| FAILED)?;
    let public = PublicKey::from_ec_point(peer.kind(), public.as_ref())?;
    let peer = UnparsedPublicKey::new(alg, peer.raw());
    let shared_x =
        agreement::agree_ephemeral(private, peer, FAILED, |shared| Ok(Secret::new(shared.to_vec())))?;
    Ok(Ephemeral { public, shared_x })
}

/// AES in 128-bit CFB mode with an all-zero initialization vector, as TPM credential blobs use it: the key, of 16 or 32 bytes, is
/// derived for one message.
pub fn aes_cfb_zero_iv(key: &Secret, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    const FAILED: CryptoError = CryptoError::Provider("AES-CFB");
    let algorithm = if key.expose().len() == 32 {
        &AES_256
    } else {
        &AES_128
    };
    let key = UnboundCipherKey::new(algorithm, key.expose()).map_err(|_| FAILED)?;
    let key = EncryptingKey::cfb128(key).map_err(|_| FAILED)?;
    let mut in_out = plaintext.to_vec();
    key.less_safe_encrypt(&mut in_out, EncryptionContext::Iv128(FixedLength::from([0; 16])))
        .map_err(|_| FAILED)?;
    Ok(in_out)
}

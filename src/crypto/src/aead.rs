//! AES-256-GCM under keys that are used once.
//!
//! Each sealing derives its own key from a master key and a random 16-byte id (HKDF, the id as salt), so that the
//! nonce can be constant and a master key may seal any number of messages.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{CryptoError, Secret, mac::hkdf_sha256};

/// Length in bytes of the id that a message's key is derived from.
pub const ID_LEN: usize = 16;
/// Bytes that sealing adds to the plaintext.
pub const TAG_LEN: usize = 16;

/// Seals `plaintext` under a key derived from `master` and `id`, which must be random and never used twice.
pub fn seal(
    master: &Secret,
    label: &[u8],
    id: &[u8; ID_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut in_out = plaintext.to_vec();
    key(master, label, id)?
        .seal_in_place_append_tag(nonce(), Aad::from(aad), &mut in_out)
        .map_err(|_| CryptoError::Provider("AES-GCM"))?;
    Ok(in_out)
}

/// Opens what [`seal`] made. Any difference in key, label, id, associated data or bytes is [`CryptoError::OpenFailed`].
pub fn open(
    master: &Secret,
    label: &[u8],
    id: &[u8; ID_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Secret, CryptoError> {
    let mut in_out = sealed.to_vec();
    let length = key(master, label, id)?
        .open_in_place(nonce(), Aad::from(aad), &mut in_out)
        .map_err(|_| CryptoError::OpenFailed)?
        .len();
    in_out.truncate(length);
    Ok(Secret::new(in_out))
}

fn key(master: &Secret, label: &[u8], id: &[u8; ID_LEN]) -> Result<LessSafeKey, CryptoError> {
    let key = hkdf_sha256(master, id, &[label])?;
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| CryptoError::Provider("AES-GCM"))?;
    Ok(LessSafeKey::new(key))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_message_opens_only_unchanged() {
        let master = Secret::new(vec![1; 32]);
        let id = [2; ID_LEN];
        let sealed = seal(&master, b"label", &id, b"aad", b"text").unwrap();
        assert_eq!(
            open(&master, b"label", &id, b"aad", &sealed).unwrap().expose(),
            b"text"
        );
        let other = Secret::new(vec![3; 32]);
        assert_eq!(
            open(&other, b"label", &id, b"aad", &sealed).unwrap_err(),
            CryptoError::OpenFailed
        );
        assert!(open(&master, b"lab", &id, b"aad", &sealed).is_err());
        assert!(open(&master, b"label", &[4; ID_LEN], b"aad", &sealed).is_err());
        assert!(open(&master, b"label", &id, b"aax", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&master, b"label", &id, b"aad", &flipped).is_err());
        }
    }
}

//! HMAC and HKDF (RFC 2104, RFC 5869), whole and streaming.

use aws_lc_rs::{hkdf, hmac};

use crate::{CryptoError, HashAlg, Secret};

/// HMAC of the concatenation of `parts`. SHA-1 is not offered.
pub fn hmac(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
    let algorithm = match alg {
        HashAlg::Sha1 => return Err(CryptoError::AlgNotAllowed("HMAC with SHA-1")),
        HashAlg::Sha256 => hmac::HMAC_SHA256,
        HashAlg::Sha384 => hmac::HMAC_SHA384,
        HashAlg::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    Ok(context.sign().as_ref().to_vec())
}

/// HMAC-SHA-256 over data that arrives in pieces.
pub struct MacSha256(hmac::Context);

impl MacSha256 {
    /// Length of the tag in bytes.
    pub const TAG_LEN: usize = 32;

    /// Starts a computation under `key`.
    pub fn new(key: &Secret) -> Self {
        Self(hmac::Context::with_key(&hmac::Key::new(
            hmac::HMAC_SHA256,
            key.expose(),
        )))
    }

    /// Feeds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The tag over everything fed.
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.sign().as_ref());
        out
    }

    /// Whether `tag` is the tag over everything fed, in constant time.
    pub fn verify(self, tag: &[u8]) -> bool {
        crate::ct_eq(&self.finish(), tag)
    }
}

/// HKDF-SHA-256: extract with `salt`, expand with the concatenation of `info`, 32 bytes out.
pub fn hkdf_sha256(secret: &Secret, salt: &[u8], info: &[&[u8]]) -> Result<Secret, CryptoError> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret.expose());
    let okm = prk
        .expand(info, hkdf::HKDF_SHA256)
        .map_err(|_| CryptoError::Provider("HKDF"))?;
    let mut out = vec![0; 32];
    okm.fill(&mut out).map_err(|_| CryptoError::Provider("HKDF"))?;
    Ok(Secret::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hkdf_matches_rfc_5869_case_1() {
        let ikm = Secret::new(vec![0x0b; 22]);
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let okm = hkdf_sha256(&ikm, &salt, &[&info]).unwrap();
        assert_eq!(
            hex::encode(okm.expose()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        );
    }

    #[test]
    fn a_tag_over_pieces_is_the_tag_over_the_whole() {
        let key = Secret::new(vec![7; 32]);
        let mut mac = MacSha256::new(&key);
        mac.update(b"ab");
        mac.update(b"c");
        assert_eq!(
            mac.finish().to_vec(),
            hmac(HashAlg::Sha256, key.expose(), &[b"abc"]).unwrap()
        );
    }
}

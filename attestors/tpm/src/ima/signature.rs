//! Signatures of files, as their `security.ima` attribute has them (struct signature_v2_hdr): who signed a file is known before its digest
//! has to be.

use touchmark_crypto::{CryptoError, HashAlg, PublicKey, SigScheme};

use super::entry::Entry;
use crate::reader::Reader;

/// EVM_IMA_XATTR_DIGSIG: the signature of a file's digest.
const DIGSIG: u8 = 3;
/// IMA_VERITY_DIGSIG: the signature of a digest of type, algorithm and file digest.
const VERITY_DIGSIG: u8 = 6;

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not the structure.
    #[error("not a file signature")]
    Malformed,
    /// A hash that is not accepted.
    #[error("a hash that is not accepted")]
    Hash,
    /// A hash that is not that of the file's digest: what was signed is something else.
    #[error("a signature of a digest of another algorithm")]
    OtherHash,
    /// SHA-1.
    #[error("a signature with SHA-1")]
    WeakHash,
    /// None of the keys has this identifier.
    #[error("no key with this identifier")]
    KeyUnknown,
    /// It does not verify.
    #[error("the signature does not verify")]
    Invalid,
}

/// The keys whose signatures count, by the kernel's identifiers: the last four bytes of SHA-1 of the subject public key.
#[derive(Debug, Clone, Default)]
pub struct SignatureKeys(Vec<([u8; 4], PublicKey)>);

impl SignatureKeys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let identified = keys.into_iter().map(|key| {
            let digest = HashAlg::Sha1.digest(&[key.raw()]);
            let mut id = [0; 4];
            id.copy_from_slice(digest.get(16..20).unwrap_or(&[0; 4]));
            (id, key)
        });
        Self(identified.collect())
    }

    /// Whether there is no key, so that nothing verifies.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the signature of an entry's file over its digest.
    pub fn verify(&self, entry: &Entry<'_>) -> Result<(), SignatureError> {
        let mut reader = Reader::new(&entry.signature);
        let malformed = |_| SignatureError::Malformed;
        let kind = reader.u8().map_err(malformed)?;
        let version = reader.u8().map_err(malformed)?;
        let number = reader.u8().map_err(malformed)?;
        // HASH_ALGO_SHA1.
        if number == 2 {
            return Err(SignatureError::WeakHash);
        }
        let hash = hash(number).ok_or(SignatureError::Hash)?;
        let id: [u8; 4] = reader.array().map_err(malformed)?;
        let signature = reader.sized().map_err(malformed)?;
        reader.end().map_err(malformed)?;
        if entry.file.hash() != Some(hash) {
            return Err(SignatureError::OtherHash);
        }
        let digest = match (kind, version) {
            (DIGSIG, 2) => entry.file.digest.to_vec(),
            // struct ima_file_id: type, algorithm, digest.
            (VERITY_DIGSIG, 3) => {
                let number = *entry.signature.get(2).ok_or(SignatureError::Malformed)?;
                hash.digest(&[&[kind, number], &entry.file.digest])
            }
            _ => return Err(SignatureError::Malformed),
        };
        let mut named = self.0.iter().filter(|(known, _)| *known == id).peekable();
        if named.peek().is_none() {
            return Err(SignatureError::KeyUnknown);
        }
        let scheme = |key: &PublicKey| match key.kind().field_len() {
            Some(_) => SigScheme::Ecdsa(hash),
            None => SigScheme::RsaPkcs1(hash),
        };
        let verified = named.any(|(_, key)| {
            let verified = key.verify_digest(scheme(key), &digest, signature);
            !matches!(verified, Err(CryptoError::AlgNotAllowed(_))) && verified.is_ok()
        });
        if verified {
            Ok(())
        } else {
            Err(SignatureError::Invalid)
        }
    }
}

/// enum hash_algo of the kernel; SHA-1 signs nothing.
fn hash(number: u8) -> Option<HashAlg> {
    match number {
        4 => Some(HashAlg::Sha256),
        5 => Some(HashAlg::Sha384),
        6 => Some(HashAlg::Sha512),
        _ => None,
    }
}

//! Digests. SHA-1 exists only to name and replay legacy PCR banks; nothing signs or verifies with it.

use aws_lc_rs::digest;

/// A hash algorithm, as TPMs and JOSE name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlg {
    /// SHA-1: legacy PCR banks only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Up to this many bytes are put together before they are hashed.
const SHORT: usize = 512;

impl HashAlg {
    /// Digest length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub fn len(self) -> usize {
        self.algorithm().output_len()
    }

    /// Whether the algorithm is refused for signatures and names.
    pub fn is_weak(self) -> bool {
        self == Self::Sha1
    }

    /// The digest of the concatenation of `parts`.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        self.computed(parts).as_ref().to_vec()
    }

    /// Whether this is the digest of the concatenation of `parts`. Not for secrets: it takes its time where they differ.
    pub fn is_digest(self, digest: &[u8], parts: &[&[u8]]) -> bool {
        self.computed(parts).as_ref() == digest
    }

    /// Replaces `value` by the digest of it and `more`: what a register does when it is extended.
    pub fn extend(self, value: &mut Vec<u8>, more: &[u8]) {
        let extended = self.computed(&[value, more]);
        value.clear();
        value.extend_from_slice(extended.as_ref());
    }

    fn computed(self, parts: &[&[u8]]) -> digest::Digest {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut joined = [0; SHORT];
        // What is short is hashed in one call: setting a context up costs more than hashing it.
        if let Some(all) = joined.get_mut(..length) {
            let mut rest = all;
            for part in parts {
                let (here, after) = std::mem::take(&mut rest).split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
            return digest::digest(self.algorithm(), joined.get(..length).unwrap_or_default());
        }
        let mut context = digest::Context::new(self.algorithm());
        for part in parts {
            context.update(part);
        }
        context.finish()
    }

    /// The name in lower case, as event logs and tools print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    pub(crate) fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

/// SHA-256 of data that arrives in pieces.
#[derive(Clone)]
pub struct Sha256Hasher(digest::Context);

impl Sha256Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Feeds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything fed.
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

impl Default for Sha256Hasher {
    fn default() -> Self {
        Self::new()
    }
}

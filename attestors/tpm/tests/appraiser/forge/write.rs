//! Big-endian TPM structures, written field by field.

/// Bytes under construction.
#[derive(Default, Clone)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub(crate) fn u16(mut self, n: u16) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// TPM2B: a 16-bit size, then the bytes.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap()).raw(bytes)
    }
}

/// Digest of `parts` by TPM_ALG_ID.
pub(crate) fn digest(alg: u16, parts: &[&[u8]]) -> Vec<u8> {
    use touchmark_crypto::HashAlg;
    let hash = match alg {
        SHA1 => HashAlg::Sha1,
        SHA256 => HashAlg::Sha256,
        SHA384 => HashAlg::Sha384,
        SHA512 => HashAlg::Sha512,
        other => panic!("no hash {other:#06x}"),
    };
    hash.digest(parts)
}

pub(crate) const SHA1: u16 = 0x0004;
pub(crate) const SHA256: u16 = 0x000b;
pub(crate) const SHA384: u16 = 0x000c;
pub(crate) const SHA512: u16 = 0x000d;

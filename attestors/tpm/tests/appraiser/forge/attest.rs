//! TPMS_ATTEST and TPMT_SIGNATURE with every field open to alteration.

use super::{
    key::Key,
    write::{SHA256, Writer},
};

pub(crate) const MAGIC: u32 = 0xff54_4347;
pub(crate) const CERTIFY: u16 = 0x8017;
pub(crate) const QUOTE: u16 = 0x8018;

/// An attestation before it is signed.
#[derive(Clone)]
pub(crate) struct Attest {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) signer: Vec<u8>,
    pub(crate) extra: Vec<u8>,
    pub(crate) reset: u32,
    pub(crate) restart: u32,
    pub(crate) safe: u8,
    pub(crate) body: Vec<u8>,
}

impl Attest {
    /// A quote over `selection` (TPML_PCR_SELECTION, see [`selection`]).
    pub(crate) fn quote(bind: &[u8], selection: &[u8], pcr_digest: &[u8]) -> Self {
        Self {
            magic: MAGIC,
            kind: QUOTE,
            signer: vec![0; 34],
            extra: bind.to_vec(),
            reset: 7,
            restart: 2,
            safe: 1,
            body: Writer::default().raw(selection).sized(pcr_digest).0,
        }
    }

    /// A certification of the key with this Name.
    pub(crate) fn certify(bind: &[u8], name: &[u8]) -> Self {
        Self {
            kind: CERTIFY,
            body: Writer::default().sized(name).sized(&[0; 34]).0,
            ..Self::quote(bind, &[], &[])
        }
    }

    /// TPMS_ATTEST.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        Writer::default()
            .u32(self.magic)
            .u16(self.kind)
            .sized(&self.signer)
            .sized(&self.extra)
            .u64(123_456)
            .u32(self.reset)
            .u32(self.restart)
            .u8(self.safe)
            .u64(0x2019_1023_0016_3636)
            .raw(&self.body)
            .0
    }
}

/// TPML_PCR_SELECTION of these banks and registers, three bytes of bits each.
pub(crate) fn selection(banks: &[(u16, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::default().u32(u32::try_from(banks.len()).unwrap());
    for (bank, indices) in banks {
        writer = writer.u16(*bank).u8(3).raw(&bits(indices, 3));
    }
    writer.0
}

/// TPMS_PCR_SELECT's bits.
pub(crate) fn bits(indices: &[u8], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    for index in indices {
        out[usize::from(index / 8)] |= 1 << (index % 8);
    }
    out
}

/// A signature by `key` in its own scheme.
pub(crate) fn sign(key: &Key, message: &[u8]) -> Vec<u8> {
    signature(key.scheme(), key.hash(), &key.sign(message))
}

/// TPMT_SIGNATURE: two numbers for ECDSA, one for RSA.
pub(crate) fn signature(scheme: u16, hash: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    parts
        .iter()
        .fold(Writer::default().u16(scheme).u16(hash), |writer, part| {
            writer.sized(part)
        })
        .0
}

/// A signature that names SHA-256 whatever made it.
pub(crate) fn sha256_signature(scheme: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    signature(scheme, SHA256, parts)
}

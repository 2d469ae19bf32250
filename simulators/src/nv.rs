//! Certificates in NV indices, as a TPM's maker leaves them: TCG EK Credential Profile, "NV index content".

use crate::command::{ALG_SHA256, Channel, Code, Command, PLATFORM, Writer};
use crate::error::SimError;

/// The certificate of the RSA-2048 EK.
pub const EK_CERTIFICATE_RSA: u32 = 0x01c0_0002;
/// The certificate of the P-256 EK.
pub const EK_CERTIFICATE_P256: u32 = 0x01c0_000a;
/// The certificates between the maker's root and the EK certificates, DER after DER.
pub const EK_CERTIFICATE_CHAIN: u32 = 0x01c0_0100;

/// The certificate of the attestation key that a cloud made, where Azure keeps it.
pub const AK_CERTIFICATE: u32 = 0x01c1_01d0;

/// TPMA_NV: ppwrite, writedefine, ppread, ownerread, authread, no_da, platformcreate. What the platform's maker
/// wrote and locked, everybody reads, and the owner cannot remove.
const ATTRIBUTES: u32 = 1 | 1 << 13 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 25 | 1 << 30;
/// TPM_PT_NV_BUFFER_MAX of swtpm is 1024; half of it fits every TPM.
const PIECE: usize = 512;

/// Defines `index`, writes `content` into it and locks it against writing.
///
/// # Errors
/// When the TPM refuses, or the content is too long for an index.
pub fn store(tpm: &mut Channel, index: u32, content: &[u8]) -> Result<(), SimError> {
    let too_long = |_| SimError::Malformed {
        command: Code::NvDefineSpace.name(),
        detail: "the content is too long for an index",
    };
    let size = u16::try_from(content.len()).map_err(too_long)?;
    let public = Writer::default()
        .u32(index)
        .u16(ALG_SHA256)
        .u32(ATTRIBUTES)
        .sized(&[])
        .u16(size);
    let define = Writer::default().sized(&[]).sized_writer(&public);
    tpm.execute(&Command::new(Code::NvDefineSpace, [PLATFORM], define).authorized(1))?;

    let mut offset = 0_u16;
    for piece in content.chunks(PIECE) {
        let write = Writer::default().sized(piece).u16(offset);
        tpm.execute(&Command::new(Code::NvWrite, [PLATFORM, index], write).authorized(1))?;
        offset += u16::try_from(piece.len()).map_err(too_long)?;
    }
    let lock = Command::new(Code::NvWriteLock, [PLATFORM, index], Writer::default()).authorized(1);
    tpm.execute(&lock).map(|_| ())
}

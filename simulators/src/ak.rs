//! The attestation key that a cloud makes and certifies in a virtual machine's TPM, where Azure keeps it.

use crate::command::{ALG_NULL, ALG_RSA, ALG_RSASSA, ALG_SHA256, Channel, Writer};
use crate::error::SimError;
use crate::primary::{self, PublicPart};

/// Its persistent handle.
const HANDLE: u32 = 0x8100_0003;
/// TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 16 | 1 << 18;

/// Makes the key, RSA with 2048 bits, and keeps it.
///
/// # Errors
/// When the TPM refuses.
pub fn create(tpm: &mut Channel) -> Result<PublicPart, SimError> {
    let template = Writer::default()
        .u16(ALG_RSA)
        .u16(ALG_SHA256)
        .u32(ATTRIBUTES)
        .sized(&[])
        .u16(ALG_NULL)
        .u16(ALG_RSASSA)
        .u16(ALG_SHA256)
        .u16(2048)
        .u32(0)
        .sized(&[0; 256]);
    primary::keep(tpm, &template, HANDLE)
}

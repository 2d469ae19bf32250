//! Platform configuration registers: which banks there are, and how they are extended.

use aws_lc_rs::digest;

use crate::command::{
    ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512, Channel, Code, Command, PLATFORM, Writer,
};
use crate::error::SimError;

/// A digest in each active bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-384.
    pub sha384: [u8; 48],
}

impl Digests {
    /// Of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut digests = Self {
            sha256: [0; 32],
            sha384: [0; 48],
        };
        digests
            .sha256
            .copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        digests
            .sha384
            .copy_from_slice(digest::digest(&digest::SHA384, bytes).as_ref());
        digests
    }
}

/// Makes SHA-256 and SHA-384 the only banks, from the next reset on.
///
/// # Errors
/// When the TPM refuses.
pub fn allocate(tpm: &mut Channel) -> Result<(), SimError> {
    let mut selection = Writer::default().u32(4);
    for (bank, selected) in [
        (ALG_SHA1, 0),
        (ALG_SHA256, 0xff),
        (ALG_SHA384, 0xff),
        (ALG_SHA512, 0),
    ] {
        selection = selection.u16(bank).u8(3).raw(&[selected; 3]);
    }
    let answer = tpm.execute(&Command::new(Code::PcrAllocate, [PLATFORM], selection).authorized(1))?;
    if answer.parameters().u8()? == 1 {
        return Ok(());
    }
    Err(SimError::Malformed {
        command: Code::PcrAllocate.name(),
        detail: "the TPM has no room for the banks",
    })
}

/// Extends `pcr` in both banks.
///
/// # Errors
/// When the TPM refuses.
pub fn extend(tpm: &mut Channel, pcr: u32, digests: &Digests) -> Result<(), SimError> {
    tpm.execute(&extension(pcr, digests)).map(|_| ())
}

/// The command that extends `pcr` in both banks.
#[must_use]
pub fn extension(pcr: u32, digests: &Digests) -> Command {
    let values = Writer::default()
        .u32(2)
        .u16(ALG_SHA256)
        .raw(&digests.sha256)
        .u16(ALG_SHA384)
        .raw(&digests.sha384);
    Command::new(Code::PcrExtend, [pcr], values).authorized(1)
}

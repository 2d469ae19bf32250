//! TPM 2.0 commands, written by hand: TPM 2.0 Library Specification part 1 (framing) and part 3 (commands).
//!
//! Only what setting a simulated TPM up needs. All authorizations are empty passwords, as a fresh TPM has them.

mod channel;
mod codes;
mod reader;
mod writer;

pub use channel::{Answer, Channel};
pub(crate) use channel::{frame, read_frame};
pub use codes::name_of;
pub use reader::Reader;
pub use writer::Writer;

/// TPM_RH_OWNER.
pub const OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT.
pub const ENDORSEMENT: u32 = 0x4000_000b;
/// TPM_RH_PLATFORM.
pub const PLATFORM: u32 = 0x4000_000c;

/// TPM_ALG_RSA.
pub const ALG_RSA: u16 = 0x0001;
/// TPM_ALG_AES.
pub const ALG_AES: u16 = 0x0006;
/// TPM_ALG_SHA1.
pub const ALG_SHA1: u16 = 0x0004;
/// TPM_ALG_SHA256.
pub const ALG_SHA256: u16 = 0x000b;
/// TPM_ALG_SHA384.
pub const ALG_SHA384: u16 = 0x000c;
/// TPM_ALG_SHA512.
pub const ALG_SHA512: u16 = 0x000d;
/// TPM_ALG_NULL.
pub const ALG_NULL: u16 = 0x0010;
/// TPM_ALG_RSASSA.
pub const ALG_RSASSA: u16 = 0x0014;
/// TPM_ALG_ECC.
pub const ALG_ECC: u16 = 0x0023;
/// TPM_ALG_CFB.
pub const ALG_CFB: u16 = 0x0043;

/// The commands that are sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// TPM2_EvictControl.
    EvictControl = 0x120,
    /// TPM2_NV_DefineSpace.
    NvDefineSpace = 0x12a,
    /// TPM2_PCR_Allocate.
    PcrAllocate = 0x12b,
    /// TPM2_CreatePrimary.
    CreatePrimary = 0x131,
    /// TPM2_NV_Write.
    NvWrite = 0x137,
    /// TPM2_NV_WriteLock.
    NvWriteLock = 0x138,
    /// TPM2_Startup.
    Startup = 0x144,
    /// TPM2_Shutdown.
    Shutdown = 0x145,
    /// TPM2_FlushContext.
    FlushContext = 0x165,
    /// TPM2_PCR_Extend.
    PcrExtend = 0x182,
}

impl Code {
    /// The specification's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(self as u32).unwrap_or("a TPM command")
    }
}

/// One command before it is framed.
#[derive(Debug)]
pub struct Command {
    /// What to do.
    pub code: Code,
    /// The handle area; the handles that need an authorization come first.
    pub handles: Vec<u32>,
    /// How many of the handles need one.
    pub authorizations: usize,
    /// The parameter area.
    pub parameters: Writer,
    /// Whether the answer has a handle.
    pub answers_handle: bool,
}

impl Command {
    /// A command without authorization, whose answer has no handle.
    #[must_use]
    pub fn new(code: Code, handles: impl Into<Vec<u32>>, parameters: Writer) -> Self {
        Self {
            code,
            handles: handles.into(),
            authorizations: 0,
            parameters,
            answers_handle: false,
        }
    }

    /// The same with empty passwords for its first `count` handles.
    #[must_use]
    pub fn authorized(mut self, count: usize) -> Self {
        self.authorizations = count;
        self
    }

    /// The same, with a handle in the answer.
    #[must_use]
    pub fn answering_handle(mut self) -> Self {
        self.answers_handle = true;
        self
    }
}

/// TPM2_Startup(CLEAR).
#[must_use]
pub fn startup() -> Command {
    Command::new(Code::Startup, [], Writer::default().u16(0))
}

/// TPM2_Shutdown(CLEAR).
#[must_use]
pub fn shutdown() -> Command {
    Command::new(Code::Shutdown, [], Writer::default().u16(0))
}

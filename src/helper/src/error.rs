//! What can go wrong between a daemon and its device.

use touchmark_api::device::{Fault, FaultKind};

/// Why a device call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The helper could not be started; the text says which path was tried.
    #[error("cannot start {path}: {cause}; set device.path to the touchmark-device binary")]
    Start {
        /// The path that was tried.
        path: String,
        /// The system's reason.
        cause: String,
    },
    /// The helper died or was replaced while the call was under way: the same call may succeed now.
    #[error("the device helper ended while the call was under way; it is started again")]
    HelperDied,
    /// No answer within the caller's patience.
    #[error("the device did not answer within {0} ms")]
    Timeout(u32),
    /// The helper's answer.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The helper answered something else than was asked: versions differ.
    #[error("the device helper answered something that was not asked; install binaries of one version")]
    Mismatch,
    /// A list of what the kernel measured that does not fit into a message.
    #[error(
        "the kernel has measured more since it was last asked than a message holds ({0} MiB): reboot this host and start its agent early, \
         or measure less (IMA policy)"
    )]
    LongList(usize),
}

impl DeviceError {
    /// Whether the same call may succeed later without anybody acting.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::HelperDied | Self::Timeout(_) => true,
            Self::Fault(fault) => fault.kind.is_retryable(),
            Self::Start { .. } | Self::Mismatch | Self::LongList(_) => false,
        }
    }

    /// Whether the key is sealed to another boot state than the present one.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.kind == FaultKind::Sealed)
    }

    /// Whether the device holds no such key: another has to take its place.
    pub fn is_no_key(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.kind == FaultKind::NoKey)
    }
}

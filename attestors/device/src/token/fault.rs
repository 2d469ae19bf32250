//! What a module answers, by what a caller can do about it.

use cryptoki::error::{Error, RvError};
use touchmark_api::device::{Fault, FaultKind};

use crate::fault::fault;

/// A failure inside an operation: the module's, kept so that a lost session can be told, or our own.
pub(super) enum Failure {
    Module {
        what: &'static str,
        error: Error,
    },
    Fault(Fault),
    /// There is no such token, as far as the module knows.
    Absent(String),
}

impl Failure {
    pub(super) fn module(what: &'static str, error: Error) -> Self {
        Self::Module { what, error }
    }

    pub(super) fn fault(kind: FaultKind, message: impl Into<String>) -> Self {
        Self::Fault(fault(kind, message))
    }

    /// The module's answer, where it is that.
    pub(super) fn answer(&self) -> Option<RvError> {
        match self {
            Self::Module {
                error: Error::Pkcs11(answer, _),
                ..
            } => Some(*answer),
            _ => None,
        }
    }

    /// Whether the session, or what was found through it, is none any more.
    pub(super) fn is_session(&self) -> bool {
        matches!(
            self.answer(),
            Some(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::UserNotLoggedIn
                    | RvError::KeyHandleInvalid
                    | RvError::ObjectHandleInvalid
                    | RvError::DeviceRemoved
                    | RvError::TokenNotPresent
                    | RvError::OperationActive
            )
        )
    }

    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Absent(_))
    }

    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Module { what, error } => from_module(what, &error),
            Self::Fault(fault) => fault,
            Self::Absent(message) => fault(FaultKind::Unavailable, message),
        }
    }
}

/// The fault for a module's error in the operation `what`.
pub(super) fn from_module(what: &str, error: &Error) -> Fault {
    let Error::Pkcs11(answer, _) = error else {
        return fault(
            FaultKind::Refused,
            format!("{what}: the module cannot do it ({error})"),
        );
    };
    let (kind, advice) = match answer {
        RvError::PinLocked => (
            FaultKind::LockedOut,
            "the token's PIN is locked: its security officer has to set it anew",
        ),
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
            (FaultKind::Authorization, "the PIN is wrong: see hsm.pin_file")
        }
        RvError::PinExpired => (
            FaultKind::Authorization,
            "the PIN has expired: set a new one (pkcs11-tool --change-pin)",
        ),
        RvError::UserPinNotInitialized => (
            FaultKind::Authorization,
            "the token has no PIN yet: set one (pkcs11-tool --init-pin)",
        ),
        RvError::UserNotLoggedIn => (FaultKind::Unavailable, "nobody is logged in any more"),
        RvError::DeviceMemory => (
            FaultKind::Full,
            "the token has no room for it: delete keys that nobody needs (pkcs11-tool --delete-object)",
        ),
        RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::SlotIdInvalid => {
            (FaultKind::Unavailable, "the token was taken out: put it back")
        }
        RvError::SessionCount => (
            FaultKind::Unavailable,
            "the token has no free session: lower hsm.sessions, or end who else uses it",
        ),
        RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::DeviceError
        | RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::HostMemory => (FaultKind::Unavailable, "the token failed"),
        RvError::TokenWriteProtected | RvError::SessionReadOnly => {
            (FaultKind::Refused, "the token is write-protected")
        }
        RvError::MechanismInvalid | RvError::CurveNotSupported | RvError::DomainParamsInvalid => {
            (FaultKind::Refused, "the token has no such mechanism or curve")
        }
        _ => (FaultKind::Refused, "the token refused"),
    };
    fault(kind, format!("{what}: {advice} ({answer})"))
}

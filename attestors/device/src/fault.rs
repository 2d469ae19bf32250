//! Device errors, by what a caller can do about them.

use touchmark_api::device::{Fault, FaultKind};
use tss_esapi::{Error, constants::response_code::Tss2ResponseCodeKind as Kind};

/// The outcome of a device operation.
pub(crate) type Outcome<T> = Result<T, Fault>;

/// A fault with its text.
pub(crate) fn fault(kind: FaultKind, message: impl Into<String>) -> Fault {
    Fault {
        kind,
        message: message.into(),
    }
}

/// What a library error is about.
pub(crate) fn kind(error: Error) -> Option<Kind> {
    match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    }
}

/// Whether the connection to the device is gone, as opposed to the device refusing. The library cannot name the
/// failures of its transport.
pub(crate) fn is_transport(error: Error) -> bool {
    matches!(error, Error::Tss2Error(code) if code.kind().is_none())
}

/// Whether what was loaded is gone: the device was reset or its resource manager restarted.
pub(crate) fn is_stale(error: Error) -> bool {
    matches!(
        kind(error),
        Some(
            Kind::ReferenceH0
                | Kind::ReferenceH1
                | Kind::ReferenceH2
                | Kind::ReferenceS0
                | Kind::ReferenceS1
                | Kind::Handle
                | Kind::Initialize
        )
    )
}

/// What a resource manager makes of handles whose contexts a reset has voided: `TPM_RC_VALUE` for tpm2-abrmd. It can
/// mean other things as well, so it is only a reason to try once more on a new connection.
pub(crate) fn may_be_stale(error: Error) -> bool {
    is_stale(error) || kind(error) == Some(Kind::Value)
}

/// The fault for a library error in the operation `what`.
pub(crate) fn from_tss(what: &str, error: Error) -> Fault {
    let (class, advice) = match kind(error) {
        _ if is_transport(error) => (FaultKind::Unavailable, "the TPM does not answer"),
        Some(Kind::Lockout) => (
            FaultKind::LockedOut,
            "the TPM is locked out; see tpm2_dictionarylockout --clear-lockout",
        ),
        Some(Kind::PcrChanged | Kind::PolicyFail) => (
            FaultKind::Sealed,
            "the boot state is not the one the key is sealed to",
        ),
        Some(Kind::AuthFail | Kind::BadAuth | Kind::AuthMissing) => (
            FaultKind::Authorization,
            "an authorization is wrong or missing: see tpm.owner_auth_file in agent.toml",
        ),
        Some(
            Kind::Retry
            | Kind::Yielded
            | Kind::Testing
            | Kind::NvRate
            | Kind::NvUnavailable
            | Kind::Initialize,
        ) => (FaultKind::Unavailable, "the TPM is busy or starting"),
        Some(
            Kind::ObjectMemory
            | Kind::SessionMemory
            | Kind::Memory
            | Kind::SessionHandles
            | Kind::ObjectHandles,
        ) => (
            FaultKind::Unavailable,
            "the TPM has no free slot; use a resource manager (/dev/tpmrm0)",
        ),
        Some(Kind::Integrity) => (
            FaultKind::Refused,
            "the key belongs to another TPM, or the owner hierarchy was cleared since",
        ),
        _ if is_stale(error) => (FaultKind::Unavailable, "the TPM was reset"),
        _ => (FaultKind::Refused, "the TPM refused"),
    };
    fault(class, format!("{what}: {advice} ({error})"))
}

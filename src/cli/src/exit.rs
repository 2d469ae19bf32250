//! Exit codes, and errors as people read them.

use std::process::ExitCode;

/// Refused, not verified, no registration, not an identifier.
pub(crate) const REFUSED: u8 = 1;
/// Usage or unusable input.
pub(crate) const UNUSABLE: u8 = 2;
/// A service, agent or device cannot be reached.
pub(crate) const UNREACHABLE: u8 = 3;

/// Prints why and returns the code.
pub(crate) fn fail(code: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("touchmark: {why}");
    ExitCode::from(code)
}

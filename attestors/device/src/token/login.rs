//! Logging in. A PIN that was wrong is not tried again: a few wrong tries lock the token. It is read anew each time, so that whoever mends the
//! file needs to restart nothing.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt};

use cryptoki::{
    error::{Error, RvError},
    session::{Session, UserType},
    slot::TokenInfo,
    types::RawAuthPin,
};
use touchmark_api::device::{FaultKind, TokenSettings};
use touchmark_crypto::sha256;
use zeroize::Zeroizing;

use super::fault::Failure;

/// Longest PIN, in bytes.
const MAX_PIN: u64 = 1024;

/// What is known of tries.
#[derive(Default)]
pub(super) struct Login {
    /// SHA-256 of the PIN that was wrong last.
    wrong: Option<[u8; 32]>,
}

impl Login {
    /// Logs the user in, for all sessions of this process.
    pub(super) fn user(
        &mut self,
        session: &Session,
        info: &TokenInfo,
        settings: &TokenSettings,
    ) -> Result<(), Failure> {
        if info.user_pin_locked() {
            return Err(Failure::module("login", Error::Pkcs11(RvError::PinLocked, LOGIN)));
        }
        let result = match &settings.pin_file {
            None if info.protected_authentication_path() => session.login(UserType::User, None),
            None => {
                return Err(Failure::fault(
                    FaultKind::Authorization,
                    "the token asks for a PIN: say in hsm.pin_file where it is",
                ));
            }
            Some(path) => {
                let pin = pin(path)?;
                let digest = sha256(&[&pin]);
                if self.wrong == Some(digest) {
                    return Err(Failure::fault(
                        FaultKind::Authorization,
                        format!(
                            "the PIN in {path} was wrong, and is not tried again: put the right one there"
                        ),
                    ));
                }
                if info.user_pin_final_try() {
                    return Err(Failure::fault(
                        FaultKind::Authorization,
                        "one more wrong PIN locks the token: log in by hand once (pkcs11-tool --login --test), which clears the count",
                    ));
                }
                let result = session.login_with_raw(UserType::User, &raw(&pin));
                let incorrect = matches!(
                    result,
                    Err(Error::Pkcs11(
                        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                        _
                    ))
                );
                self.wrong = incorrect.then_some(digest);
                result
            }
        };
        match result {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(Failure::module("login", error)),
        }
    }

    /// Logs in for one signature of a key that asks for it each time.
    pub(super) fn once(&mut self, session: &Session, settings: &TokenSettings) -> Result<(), Failure> {
        let result = match &settings.pin_file {
            None => session.login(UserType::ContextSpecific, None),
            Some(path) => session.login_with_raw(UserType::ContextSpecific, &raw(&pin(path)?)),
        };
        result.map_err(|error| Failure::module("login for one signature", error))
    }
}

const LOGIN: cryptoki::context::Function = cryptoki::context::Function::Login;

/// The PIN in the form that the module takes; it is wiped when it is dropped.
fn raw(pin: &[u8]) -> RawAuthPin {
    RawAuthPin::new(Box::new(pin.to_vec()))
}

/// The PIN in a file that nobody else can read: its first line.
fn pin(path: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cannot =
        |what: String| Failure::fault(FaultKind::Authorization, format!("hsm.pin_file: {path}: {what}"));
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    let about = file.metadata().map_err(|error| cannot(error.to_string()))?;
    if about.mode() & 0o077 != 0 {
        return Err(cannot(
            "others can read it: take that away (chmod 600), and change the PIN".to_owned(),
        ));
    }
    // As long as it can get, so that no copy of it is left where it was before it grew.
    let mut pin = Zeroizing::new(Vec::with_capacity(2 * 1024));
    file.take(MAX_PIN + 1)
        .read_to_end(&mut pin)
        .map_err(|error| cannot(error.to_string()))?;
    let end = pin
        .iter()
        .position(|byte| [b'\n', b'\r'].contains(byte))
        .unwrap_or(pin.len());
    pin.truncate(end);
    if pin.is_empty() || pin.len() as u64 > MAX_PIN {
        return Err(cannot("it has no PIN in its first line".to_owned()));
    }
    Ok(pin)
}

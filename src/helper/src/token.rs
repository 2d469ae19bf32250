//! A PKCS#11 token, whichever process serves it at the moment. Each token has a helper of its own: a module that crashes or hangs takes
//! no other device down.

use std::{path::Path, time::Duration};

use serde_bytes::ByteBuf;
use touchmark_api::device::{Op, Reply, TokenKeyKind, TokenSettings, Urgency};
use touchmark_rats::token::{TokenDescription, TokenKey};

use crate::{DeviceError, helper::Helper};

/// Most sessions of a token.
const MAX_SESSIONS: u32 = 64;

/// A token behind its helper process. Cloning shares it.
#[derive(Clone)]
pub struct Token {
    helper: Helper,
    settings: TokenSettings,
}

impl Token {
    /// A token served by the binary at `path`. Nothing is started before the first call.
    pub fn new(path: &Path, settings: TokenSettings) -> Self {
        Self {
            helper: Helper::new(path, Op::OpenToken(settings.clone())),
            settings,
        }
    }

    /// A token as a configuration in `here` names it: by the vendor's module, a PKCS#11 URI, the file with the PIN, and the number of
    /// sessions that sign at the same time.
    ///
    /// # Errors
    ///
    /// Says that there are to be too many sessions, or none.
    pub fn configured(
        helper: &Path,
        here: &Path,
        module: &Path,
        token: &str,
        pin_file: Option<&Path>,
        sessions: u32,
    ) -> Result<Self, String> {
        if !(1..=MAX_SESSIONS).contains(&sessions) {
            return Err(format!("hsm.sessions: 1 to {MAX_SESSIONS}"));
        }
        let path = |path: &Path| here.join(path).display().to_string();
        let settings = TokenSettings {
            module: path(module),
            token: token.to_owned(),
            pin_file: pin_file.map(path),
            sessions,
        };
        Ok(Self::new(helper, settings))
    }

    /// What can be said of the settings without starting anything: the helper, the module and the PIN's file are there.
    ///
    /// # Errors
    ///
    /// Says which is not, and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.helper.check()?;
        let is_file = |path: &str| std::fs::metadata(path).is_ok_and(|found| found.is_file());
        if !is_file(&self.settings.module) {
            return Err(format!(
                "hsm.module: {} is not a file; it is the shared library of the module\'s vendor",
                self.settings.module
            ));
        }
        match &self.settings.pin_file {
            Some(path) if !is_file(path) => Err(format!("hsm.pin_file: {path} is not a file")),
            _ => Ok(()),
        }
    }

    /// The same token for callers who wait no longer than this.
    pub fn patient(&self, patience: Duration) -> Self {
        Self {
            helper: self.helper.patient(patience),
            ..self.clone()
        }
    }

    /// The same token for requests of another urgency, for the daemon itself. It begins as [`Urgency::Renewal`].
    pub fn urgent(&self, urgency: Urgency) -> Self {
        Self {
            helper: self.helper.urgent(urgency),
            ..self.clone()
        }
    }

    /// The same token for what one of the daemon's callers asks for: it takes turns with the others.
    pub fn on_behalf_of(&self, caller: u64) -> Self {
        Self {
            helper: self.helper.on_behalf_of(caller),
            ..self.clone()
        }
    }

    /// Process id of the helper that serves the token now; `None` before the first call.
    pub fn helper_pid(&self) -> Option<u32> {
        self.helper.pid()
    }

    /// What the token says of itself.
    pub fn describe(&self) -> Result<TokenDescription, DeviceError> {
        match self.helper.call(Op::DescribeToken)? {
            Reply::Token(token) => Ok(token),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Makes a key that never leaves the token.
    pub fn create_key(&self, kind: TokenKeyKind, label: &str) -> Result<TokenKey, DeviceError> {
        let label = label.to_owned();
        self.key(Op::CreateTokenKey { kind, label })
    }

    /// What the token says of the key that a URI names.
    pub fn describe_key(&self, uri: &str) -> Result<TokenKey, DeviceError> {
        self.key(Op::DescribeTokenKey(uri.to_owned()))
    }

    /// Destroys a key.
    pub fn destroy_key(&self, uri: &str) -> Result<(), DeviceError> {
        match self.helper.call(Op::DestroyTokenKey(uri.to_owned()))? {
            Reply::Done => Ok(()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Puts a certificate beside the key that it is of.
    pub fn store_certificate(&self, key: &str, certificate: &[u8]) -> Result<(), DeviceError> {
        let store = Op::StoreCertificate {
            key: key.to_owned(),
            certificate: ByteBuf::from(certificate),
        };
        match self.helper.call(store)? {
            Reply::Done => Ok(()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Signs a message with the key that a URI names; `r ‖ s`.
    pub fn sign(&self, uri: &str, message: &[u8]) -> Result<Vec<u8>, DeviceError> {
        let sign = Op::Sign {
            key: ByteBuf::from(uri.as_bytes()),
            message: ByteBuf::from(message),
        };
        match self.helper.call(sign)? {
            Reply::Signature(signature) => Ok(signature.into_vec()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    fn key(&self, op: Op) -> Result<TokenKey, DeviceError> {
        match self.helper.call(op)? {
            Reply::TokenKey(key) => Ok(key),
            _ => Err(DeviceError::Mismatch),
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.settings.token)
    }
}

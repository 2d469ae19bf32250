//! What holds the service's keys: a TPM, a PKCS#11 token, or both, chosen per key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use touchmark_api::{Guarded, device::Settings};
use touchmark_custody::{CustodyError, KeyBackend, KeyReference};
use touchmark_helper::{Device, Token, TokenKeys, TpmKeys};
use touchmark_tls::files;

use crate::ServerError;

/// The TPM, and the helper that serves it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceFile {
    tcti: Option<String>,
    path: Option<PathBuf>,
    owner_auth_file: Option<PathBuf>,
}

/// A token in an HSM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HsmFile {
    /// The vendor's module.
    module: PathBuf,
    /// The token, as a PKCS#11 URI.
    token: String,
    /// File with the user's PIN.
    pin_file: Option<PathBuf>,
    /// Sessions that sign at the same time.
    #[serde(default = "four")]
    sessions: u32,
}

fn four() -> u32 {
    4
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Tpm,
    Hsm,
}

/// Which key is where. Without a word it is in the TPM where there is one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysFile {
    intermediate: Option<Place>,
    wit: Option<Place>,
    result: Option<Place>,
    tls: Option<Place>,
}

/// What holds a key.
#[derive(Debug, Clone)]
pub enum Holder {
    /// A TPM.
    Tpm(Device),
    /// A token.
    Token(Token),
}

impl Holder {
    /// Makes keys in it, and opens them.
    pub(crate) fn keys(&self) -> Box<dyn KeyBackend> {
        match self.clone() {
            Self::Tpm(device) => Box::new(TpmKeys(device)),
            Self::Token(token) => Box::new(TokenKeys(token)),
        }
    }

    /// The same for callers who wait no longer than this.
    pub(crate) fn patient(&self, patience: Duration) -> Self {
        match self {
            Self::Tpm(device) => Self::Tpm(device.patient(patience)),
            Self::Token(token) => Self::Token(token.patient(patience)),
        }
    }

    /// Where a key of it is and what the device says of it, for people.
    pub(crate) fn tell(&self, key: &KeyReference) -> Result<String, ServerError> {
        match (self, key) {
            (Self::Token(token), KeyReference::Pkcs11(uri)) => {
                let uri = uri.to_string();
                let about = token.describe().map_err(CustodyError::from)?;
                let key = token.describe_key(&uri).map_err(CustodyError::from)?;
                let held = match key.attributes.could_leave() {
                    None => "made in the token, and never able to leave it, as the token says",
                    Some(why) => why,
                };
                Ok(format!(
                    "{uri}\n  in {} {}, serial number {}, firmware {}.{}; {held}",
                    about.manufacturer, about.model, about.serial, about.firmware.0, about.firmware.1
                ))
            }
            _ => Ok("in a TPM, wrapped by a key of its own: no other TPM can load it".to_owned()),
        }
    }

    /// Puts a certificate beside its key, where keys have such company.
    pub(crate) fn store(&self, key: &KeyReference, certificate: &[u8]) -> Result<(), ServerError> {
        match (self, key) {
            (Self::Token(token), KeyReference::Pkcs11(uri)) => Ok(token
                .store_certificate(&uri.to_string(), certificate)
                .map_err(CustodyError::from)?),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Tpm(device) => device.check(),
            Self::Token(token) => token.check(),
        }
    }
}

/// What holds each of the service's keys.
#[derive(Debug, Clone)]
pub struct Holders {
    pub(crate) intermediate: Holder,
    pub(crate) wit: Holder,
    pub(crate) result: Holder,
    pub(crate) tls: Holder,
}

impl Holders {
    /// Reads the three parts of a configuration in `here`.
    pub(crate) fn read(
        here: &Path,
        device: DeviceFile,
        hsm: Option<HsmFile>,
        keys: &KeysFile,
    ) -> Result<Self, String> {
        let helper = match &device.path {
            Some(path) => here.join(path),
            None => Device::beside_this_binary().map_err(|error| format!("device.path: {error}"))?,
        };
        let tpm = device.open(here, &helper)?;
        let token = hsm.map(|hsm| hsm.open(here, &helper)).transpose()?;
        let of = |name: &str, place: Option<Place>| {
            match (place, &tpm, &token) {
            (None | Some(Place::Tpm), Some(tpm), _) => Ok(Holder::Tpm(tpm.clone())),
            (None | Some(Place::Hsm), _, Some(token)) => Ok(Holder::Token(token.clone())),
            (None, None, None) => Err(
                "device.tcti names the TPM, or [hsm] the token, that holds the service's keys: give one of them"
                    .to_owned(),
            ),
            (Some(Place::Tpm), None, _) => Err(format!("keys.{name} is \"tpm\", and device.tcti names none")),
            (Some(Place::Hsm), _, None) => Err(format!("keys.{name} is \"hsm\", and there is no [hsm]")),
        }
        };
        Ok(Self {
            intermediate: of("intermediate", keys.intermediate)?,
            wit: of("wit", keys.wit)?,
            result: of("result", keys.result)?,
            tls: of("tls", keys.tls)?,
        })
    }

    /// What can be said without starting anything.
    ///
    /// # Errors
    ///
    /// Says what does not hold, and what to do.
    pub fn check(&self) -> Result<(), String> {
        [&self.intermediate, &self.wit, &self.result, &self.tls]
            .into_iter()
            .try_for_each(Holder::check)
    }
}

impl DeviceFile {
    fn open(self, here: &Path, helper: &Path) -> Result<Option<Device>, String> {
        let Some(tcti) = self.tcti else { return Ok(None) };
        let owner_auth = match &self.owner_auth_file {
            None => Guarded::default(),
            Some(path) => {
                let secret = files::read_secret(&here.join(path));
                Guarded::from(secret.map_err(|error| error.to_string())?)
            }
        };
        let settings = Settings {
            owner_auth,
            ..Settings::at(tcti)
        };
        Ok(Some(Device::new(helper, settings)))
    }
}

impl HsmFile {
    fn open(self, here: &Path, helper: &Path) -> Result<Token, String> {
        let pin_file = self.pin_file.as_deref();
        Token::configured(helper, here, &self.module, &self.token, pin_file, self.sessions)
    }
}

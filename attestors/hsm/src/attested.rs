//! What a module says of a key.

use touchmark_crypto::{PublicKey, x509::DeviceCertificate};
use touchmark_rats::{Check, ClaimValue, Claims, Reason};

/// What a statement is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A certificate that a YubiHSM 2 made of a key (1.3.6.1.4.1.41482.4).
    YubiHsm2,
    /// A certificate that a YubiKey made of a key in a PIV slot (1.3.6.1.4.1.41482.3).
    YubiKeyPiv,
    /// Attributes that a partition of a Marvell LiquidSecurity module signed, as Google Cloud HSM hands them out.
    Marvell,
}

impl Format {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::YubiHsm2, Self::YubiKeyPiv, Self::Marvell];

    /// The word in commands, claims and manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::YubiHsm2 => "yubihsm2",
            Self::YubiKeyPiv => "yubikey-piv",
            Self::Marvell => "marvell",
        }
    }

    /// The format that a statement seems to be in; which it is, is judged when it is read.
    pub fn of(bytes: &[u8]) -> Self {
        let certificate = DeviceCertificate::parse(bytes).ok();
        let has = |arc: &str| {
            let extensions = certificate.iter().flat_map(|read| &read.facts.extensions);
            extensions.into_iter().any(|(oid, ..)| oid.starts_with(arc))
        };
        match certificate {
            None => Self::Marvell,
            Some(_) if has("1.3.6.1.4.1.41482.3.") => Self::YubiKeyPiv,
            Some(_) => Self::YubiHsm2,
        }
    }

    /// The format that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

/// Where a key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made in the module, and never outside of it.
    Generated,
    /// Put into it from outside.
    Imported,
    /// Put into it under a wrapping key, so that it was in another place, or left this one.
    Unwrapped,
    /// The module does not say.
    Unknown,
}

impl Origin {
    /// The word in claims.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Imported => "imported",
            Self::Unwrapped => "unwrapped",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether a key can leave its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exportability {
    /// It cannot, and never could.
    Never,
    /// It cannot now; whether it could once is not known, or it could.
    NotNow,
    /// It can, under a wrapping key or in clear.
    Possible,
}

impl Exportability {
    /// The word in claims.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::NotNow => "not_now",
            Self::Possible => "possible",
        }
    }
}

/// A key that a maker's module made a statement about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedKey {
    /// What the statement was written in.
    pub format: Format,
    /// The key.
    pub key: PublicKey,
    /// What was looked at, in order; all passed or noted.
    pub checks: Vec<Check>,
    /// The module's serial number, decimal where it is a number.
    pub serial: Option<String>,
    /// The module's firmware, `2.4.0`.
    pub firmware: Option<String>,
    /// Whether the module is one of a validated series (FIPS 140), as it says.
    pub fips: Option<bool>,
    /// Where the key came from.
    pub origin: Origin,
    /// Whether it can leave.
    pub exportability: Exportability,
    /// What it is called in the module.
    pub label: Option<String>,
}

impl AttestedKey {
    /// Whether what the module says of the key is enough for custody `hardware`: made inside, and never able to leave (E17).
    pub fn held(&self) -> Check {
        const NAME: &str = "hsm.key.held";
        let (origin, exportability) = (self.origin.as_str(), self.exportability.as_str());
        let found = format!("origin {origin}, export {exportability}");
        match (self.origin, self.exportability) {
            (Origin::Generated, Exportability::Never) => Check::passed(NAME, found),
            _ => Check::failed(
                NAME,
                Reason::KeyNotHardware,
                "a key that was generated in the module and could never leave it",
                found,
                "make a new key in the module: not extractable, not exportable under a wrapping key",
            ),
        }
    }

    /// Whether the statement is about this key.
    pub fn is_about(&self, key: &PublicKey) -> Check {
        const NAME: &str = "hsm.key";
        if self.key == *key {
            return Check::passed(NAME, "the one that was named");
        }
        let digest = |key: &PublicKey| hex::encode(key.digest());
        let remedy = "have the module attest the key that is used";
        Check::failed(
            NAME,
            Reason::BindingMismatch,
            digest(key),
            digest(&self.key),
            remedy,
        )
    }

    /// Whether the module has this serial number.
    pub fn has_serial(&self, expected: &str) -> Check {
        const NAME: &str = "hsm.module.serial";
        let found = self.serial.clone().unwrap_or("no serial number".to_owned());
        if self.serial.as_deref() == Some(expected) {
            return Check::passed(NAME, found);
        }
        let remedy = "the key is in another module than the one that was named: use that one";
        Check::failed(NAME, Reason::SerialMismatch, expected, found, remedy)
    }

    /// Whether the module says that it is of a validated series.
    pub fn is_fips(&self) -> Check {
        const NAME: &str = "hsm.module.fips";
        match self.fips {
            Some(true) => Check::passed(NAME, "of a FIPS series"),
            other => Check::failed(
                NAME,
                Reason::FipsMissing,
                "a module of a FIPS series",
                if other.is_some() {
                    "one that is not"
                } else {
                    "one that does not say so"
                },
                "use a module of the maker's FIPS series",
            ),
        }
    }

    /// The statement as claims that policy can test.
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        let mut text = |name: &'static str, value: &str| claims.set(name, ClaimValue::Text(value.to_owned()));
        text("hsm.format", self.format.as_str());
        text("hsm.origin", self.origin.as_str());
        text("hsm.export", self.exportability.as_str());
        for (name, value) in [
            ("hsm.serial", &self.serial),
            ("hsm.firmware", &self.firmware),
            ("hsm.label", &self.label),
        ] {
            value.iter().for_each(|value| text(name, value));
        }
        if let Some(fips) = self.fips {
            claims.set("hsm.fips", ClaimValue::Bool(fips));
        }
        claims
    }
}

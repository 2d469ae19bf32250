//! Certificates that a YubiHSM 2 or a YubiKey makes of its keys (Yubico, "Product OID arc": 1.3.6.1.4.1.41482, .3 for PIV, .4 for YubiHSM).
//!
//! The device signs with a key that was put into it at manufacture, whose certificate the maker issued. Extensions say what the key is; they count
//! for nothing unless the certificate leads to the maker's root: whoever likes can write the same extensions into a certificate of their own.

use touchmark_crypto::{
    PublicKey, der,
    x509::{DeviceCertificate, Habits},
};
use touchmark_rats::{Check, Reason};

use crate::{AttestedKey, Exportability, Format, Origin, Statement, path};

/// What one of the two formats has.
pub(crate) struct Arc {
    format: Format,
    /// The part of the arc below which its extensions are.
    arc: &'static str,
    firmware: u8,
    serial: u8,
    /// Extensions that each certificate of a key has.
    needed: &'static [u8],
}

pub(crate) const YUBIHSM: Arc = Arc {
    format: Format::YubiHsm2,
    arc: "1.3.6.1.4.1.41482.4",
    firmware: 1,
    serial: 2,
    needed: &[1, 2, ORIGIN, DOMAINS, CAPABILITIES, OBJECT],
};
pub(crate) const PIV: Arc = Arc {
    format: Format::YubiKeyPiv,
    arc: "1.3.6.1.4.1.41482.3",
    firmware: 3,
    serial: 7,
    needed: &[3, POLICY],
};

/// Of a YubiHSM 2.
const ORIGIN: u8 = 3;
const DOMAINS: u8 = 4;
const CAPABILITIES: u8 = 5;
const OBJECT: u8 = 6;
const LABEL: u8 = 9;
/// The number of its FIPS certificate's programme, and whether it has one: of the FIPS series only.
const FIPS_NUMBER: u8 = 10;
const FIPS_FLAG: u8 = 12;
/// Of a YubiKey: policies of PIN and touch, and the form factor, whose highest bit is set on those of the FIPS series.
const POLICY: u8 = 8;
const FORM_FACTOR: u8 = 9;
const FORM_FACTOR_FIPS: u8 = 0x80;

/// Origins of objects of a YubiHSM 2.
const GENERATED: u64 = 0x01;
const IMPORTED: u64 = 0x02;
const WRAPPED: u64 = 0x10;
/// The capability `exportable-under-wrap`.
const EXPORTABLE: u64 = 1 << 16;

const STRUCTURE: &str = "hsm.statement.structure";
const KEY: &str = "hsm.key";
const EXTENSIONS: &str = "hsm.statement.extensions";

pub(crate) fn judge(statement: &Statement<'_>, arc: &Arc, now: u64) -> Result<AttestedKey, Check> {
    let leaf = DeviceCertificate::parse(statement.bytes).map_err(|error| {
        Check::failed(
            STRUCTURE,
            Reason::Malformed,
            "an X.509 certificate",
            error.to_string(),
            "have the device attest the key again",
        )
    })?;
    let mut checks = vec![Check::passed(STRUCTURE, leaf.label())];
    let helpers = path::readable(statement.certificates);
    let by: Vec<&DeviceCertificate> = helpers.iter().collect();
    let found = path::check(&leaf, &by, statement.makers, Habits::NONE, now, &mut checks)?;
    let key = PublicKey::from_spki(&leaf.facts.spki).map_err(|error| {
        let remedy = "make a P-256, P-384 or RSA key of at least 2,048 bits";
        Check::failed(
            KEY,
            Reason::KeyInvalid,
            "an RSA, P-256 or P-384 key",
            error.to_string(),
            remedy,
        )
    })?;
    if key.is_weak() {
        return Err(Check::failed(
            KEY,
            Reason::WeakKey,
            "a key that nobody can factor",
            "an RSA key of the library of CVE-2017-15361",
            "use an elliptic-curve key, or a device of later firmware",
        ));
    }
    let extensions = Extensions { leaf: &leaf, arc };
    extensions.complete()?;
    let serial = extensions.number(arc.serial)?;
    // The device's own certificate names it as well, where it is one of a YubiHSM 2.
    let issuer = helpers.iter().find(|helper| {
        found
            .issuers
            .first()
            .is_some_and(|first| *first == helper.facts.spki_digest())
    });
    if let Some(of_device) =
        issuer.and_then(|issuer| Extensions { leaf: issuer, arc }.number(arc.serial).ok().flatten())
        && serial != Some(of_device)
    {
        return Err(Check::failed(
            EXTENSIONS,
            Reason::SerialMismatch,
            format!("the serial number in the device's certificate, {of_device}"),
            serial.map_or("none".to_owned(), |serial| serial.to_string()),
            "the statement was made by another device than it names: do not trust it",
        ));
    }
    let (origin, exportability, fips) = match arc.format {
        Format::YubiHsm2 => (
            origin(extensions.bits(ORIGIN)?),
            exportability(extensions.bits(CAPABILITIES)?, extensions.bits(ORIGIN)?),
            extensions.of_fips_series(),
        ),
        // A slot's key is attested only if it was generated there, and none can be read out.
        _ => (
            Origin::Generated,
            Exportability::Never,
            extensions
                .byte(FORM_FACTOR)?
                .map(|form| form & FORM_FACTOR_FIPS != 0),
        ),
    };
    let firmware = extensions.version()?;
    checks.push(Check::passed(
        EXTENSIONS,
        format!(
            "serial number {}, firmware {firmware}, origin {}, export {}",
            serial.map_or("none".to_owned(), |serial| serial.to_string()),
            origin.as_str(),
            exportability.as_str()
        ),
    ));
    Ok(AttestedKey {
        format: arc.format,
        key,
        checks,
        serial: serial.map(|serial| serial.to_string()),
        firmware: Some(firmware),
        fips,
        origin,
        exportability,
        label: extensions.label()?,
    })
}

fn origin(bits: u64) -> Origin {
    match bits {
        GENERATED => Origin::Generated,
        IMPORTED => Origin::Imported,
        bits if bits & WRAPPED != 0 => Origin::Unwrapped,
        _ => Origin::Unknown,
    }
}

/// Capabilities of an object are fixed when it is made: what cannot be exported never could. What came in under a wrapping key was outside.
fn exportability(capabilities: u64, origin: u64) -> Exportability {
    if capabilities & EXPORTABLE != 0 {
        Exportability::Possible
    } else if origin == GENERATED {
        Exportability::Never
    } else {
        Exportability::NotNow
    }
}

/// The extensions of the maker's in a certificate.
struct Extensions<'a> {
    leaf: &'a DeviceCertificate,
    arc: &'a Arc,
}

impl Extensions<'_> {
    fn raw(&self, number: u8) -> Option<&[u8]> {
        self.leaf.facts.extension(&format!("{}.{number}", self.arc.arc))
    }

    /// Whether it has what each certificate of a key has: that of a device has not.
    fn complete(&self) -> Result<(), Check> {
        let missing = self.arc.needed.iter().find(|number| self.raw(**number).is_none());
        let Some(number) = missing else { return Ok(()) };
        Err(Check::failed(
            EXTENSIONS,
            Reason::ClaimMissing,
            format!("what a {} says of a key", self.arc.format.as_str()),
            format!(
                "no extension {}.{number}: this is no certificate of a key",
                self.arc.arc
            ),
            "give the certificate that the device made of the key",
        ))
    }

    fn malformed(&self, number: u8) -> Check {
        Check::failed(
            EXTENSIONS,
            Reason::Malformed,
            "extensions as the maker defines them",
            format!("extension {}.{number} is none", self.arc.arc),
            "have the device attest the key again",
        )
    }

    /// A DER INTEGER, unsigned; absent where the device does not show it.
    fn number(&self, number: u8) -> Result<Option<u64>, Check> {
        let Some(value) = self.raw(number) else {
            return Ok(None);
        };
        let contents = der::contents(0x02, value).filter(|contents| {
            let negative = contents.first().is_some_and(|first| *first >= 0x80);
            !contents.is_empty() && contents.len() <= 9 && !negative
        });
        let digits = contents.ok_or_else(|| self.malformed(number))?;
        big_endian(digits).map(Some).ok_or_else(|| self.malformed(number))
    }

    /// A DER BIT STRING of whole bytes, as a number.
    fn bits(&self, number: u8) -> Result<u64, Check> {
        let contents = self.raw(number).and_then(|value| der::contents(0x03, value));
        let bits = contents.and_then(|contents| contents.strip_prefix(&[0]));
        bits.and_then(big_endian).ok_or_else(|| self.malformed(number))
    }

    /// One bare byte.
    fn byte(&self, number: u8) -> Result<Option<u8>, Check> {
        match self.raw(number) {
            None => Ok(None),
            Some([byte]) => Ok(Some(*byte)),
            Some(_) => Err(self.malformed(number)),
        }
    }

    /// Three bytes, bare or in an OCTET STRING.
    fn version(&self) -> Result<String, Check> {
        let value = self.raw(self.arc.firmware).unwrap_or_default();
        match der::contents(0x04, value).unwrap_or(value) {
            [major, minor, patch] => Ok(format!("{major}.{minor}.{patch}")),
            _ => Err(self.malformed(self.arc.firmware)),
        }
    }

    /// Whether a YubiHSM 2 says that it is of the FIPS series: others have neither extension.
    fn of_fips_series(&self) -> Option<bool> {
        let numbered = self.raw(FIPS_NUMBER).map(|value| {
            let number = der::contents(0x04, value).unwrap_or(value);
            der::contents(0x02, number).is_some_and(|number| number.iter().any(|byte| *byte != 0))
        });
        let flagged = self.raw(FIPS_FLAG).map(|value| value == [0x01, 0x01, 0xff]);
        numbered.or(flagged)
    }

    /// A UTF8String of a YubiHSM 2.
    fn label(&self) -> Result<Option<String>, Check> {
        if self.arc.format != Format::YubiHsm2 {
            return Ok(None);
        }
        let Some(value) = self.raw(LABEL) else {
            return Ok(None);
        };
        let text = der::contents(0x0c, value).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.ok_or_else(|| self.malformed(LABEL))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

fn big_endian(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |number, byte| {
        number.checked_mul(256).map(|number| number | u64::from(*byte))
    })
}

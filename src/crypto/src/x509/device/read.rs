//! One certificate, read tolerantly.

use super::tlv::{Cursor, Notes, Tlv, bits, boolean};
use crate::{
    CryptoError, HashAlg, SigScheme, der,
    x509::{Certificate, DirectoryAttribute, MAX_CERTIFICATE},
};

const WHAT: CryptoError = CryptoError::Malformed("certificate");
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;

fn oid(contents: &[u8]) -> Result<String, CryptoError> {
    der::oid(contents).ok_or(WHAT)
}

/// A certificate whose encoding may deviate from DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// What it says.
    pub facts: Certificate,
    /// How its encoding deviates from DER; empty for DER.
    pub deviations: Vec<&'static str>,
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// `None` for an algorithm that is not known here.
    pub(super) scheme: Option<SigScheme>,
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    /// Most intermediates that may follow below it.
    pub(super) path_length: Option<u64>,
    /// Whether KeyUsage is there at all.
    pub(super) has_key_usage: bool,
    /// Whether it lets the key receive secrets: keyEncipherment or keyAgreement.
    pub(super) receives_secrets: bool,
    /// A critical extension that is not understood.
    pub(super) unknown_critical: Option<String>,
}

impl DeviceCertificate {
    /// Reads one certificate with nothing after it.
    pub fn parse(der: &[u8]) -> Result<Self, CryptoError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CryptoError::Malformed("certificate: over 8 KiB"));
        }
        let mut notes = Notes::default();
        let mut outer = Cursor::new(der);
        let mut certificate = outer.open(SEQUENCE, &mut notes)?;
        outer.end()?;
        let tbs = certificate.take(SEQUENCE, &mut notes)?;
        let algorithm = certificate.take(SEQUENCE, &mut notes)?;
        let signature = certificate.take(0x03, &mut notes)?;
        let inside = certificate.inside(&tbs)?;
        certificate.end()?;
        let (signature, unused) = bits(&signature, &mut notes)?;
        if unused != 0 {
            return Err(WHAT);
        }
        let mut out = Self {
            facts: Certificate::blank(der),
            deviations: Vec::new(),
            signed: tbs.whole.to_vec(),
            signature: signature.to_vec(),
            scheme: None,
            issuer: Vec::new(),
            subject: Vec::new(),
            path_length: None,
            has_key_usage: false,
            receives_secrets: false,
            unknown_critical: None,
        };
        out.read_body(inside, &algorithm, &mut notes)?;
        out.deviations = notes.0;
        Ok(out)
    }

    /// The certificate at the start of what a TPM's NV index holds: behind the header of the TCG PC Client profile for TPM 1.2
    /// (7 bytes: 0x1001, 0x00, length, 0x1002), which some makers kept, and in front of whatever fills the index up.
    pub fn in_nv(contents: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let contents = match contents {
            [0x10, 0x01, 0x00, high, low, 0x10, 0x02, rest @ ..] => {
                // The length counts the two bytes of the second tag.
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let length = length.checked_sub(2).ok_or(WHAT)?;
                rest.get(..length).ok_or(WHAT)?
            }
            other => other,
        };
        let mut notes = Notes::default();
        let found = Cursor::new(contents).take(SEQUENCE, &mut notes)?;
        Ok(found.whole.to_vec())
    }

    /// Whether `certificate` names this one as its issuer: by the same bytes, or by text that differs in case, spaces or kind of string only
    /// (RFC 5280 section 7.1).
    pub(super) fn is_named(&self, certificate: &Self) -> bool {
        let folded = |name: &str| {
            name.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase()
        };
        self.subject == certificate.issuer
            || !self.facts.subject.is_empty()
                && folded(&self.facts.subject) == folded(&certificate.facts.issuer)
    }

    /// Whether `now` (seconds since the epoch) is within its dates.
    pub fn holds_at(&self, now: u64) -> bool {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        (self.facts.not_before..=self.facts.not_after).contains(&now)
    }

    /// Whether the certificate lets its key receive secrets, as an endorsement key does: one that says nothing of its use does.
    pub fn may_receive_secrets(&self) -> bool {
        !self.has_key_usage || self.receives_secrets
    }

    /// Whether the certificate lets its key sign, as an attestation key does: one that says nothing of its use does.
    pub fn may_sign(&self) -> bool {
        !self.has_key_usage || self.facts.digital_signature
    }

    /// Whose it is, for people: the subject, or where it is empty the names of the TPM, or the serial number.
    pub fn label(&self) -> String {
        let names: Vec<&str> = self
            .facts
            .directory_sans
            .iter()
            .map(|attribute| attribute.value.as_str())
            .collect();
        if !self.facts.subject.is_empty() {
            self.facts.subject.clone()
        } else if !names.is_empty() {
            names.join(" ")
        } else {
            let digits: Vec<String> = self
                .facts
                .serial
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("serial number {}", digits.concat())
        }
    }

    fn read_body(
        &mut self,
        mut body: Cursor<'_>,
        outer: &Tlv<'_>,
        notes: &mut Notes,
    ) -> Result<(), CryptoError> {
        self.facts.version = match body.optional(0xa0, notes)? {
            None => 1,
            Some(version) => {
                let mut version = body.inside(&version)?;
                match version.take(0x02, notes)?.contents {
                    [0] => {
                        notes.add("a default value that is written out");
                        1
                    }
                    [1] => 2,
                    [2] => 3,
                    _ => return Err(WHAT),
                }
            }
        };
        let serial = body.take(0x02, notes)?.contents;
        match serial {
            [] => return Err(WHAT),
            [0, second, ..] if *second < 0x80 => notes.add("an INTEGER that is not in its shortest form"),
            [first, ..] if *first >= 0x80 => notes.add("a negative serial number"),
            _ => {}
        }
        self.facts.serial = serial.to_vec();
        let algorithm = body.take(SEQUENCE, notes)?;
        // The algorithm stands twice: outside the signature, and inside of it (RFC 5280 section 4.1.1.2).
        if algorithm.contents != outer.contents {
            return Err(CryptoError::Malformed("certificate: two signature algorithms"));
        }
        self.scheme = scheme(body.inside(&algorithm)?, notes)?;
        let issuer = body.take(SEQUENCE, notes)?;
        let validity = body.take(SEQUENCE, notes)?;
        let subject = body.take(SEQUENCE, notes)?;
        self.facts.issuer = name(body.inside(&issuer)?, notes)?.text;
        self.facts.subject = name(body.inside(&subject)?, notes)?.text;
        let mut validity = body.inside(&validity)?;
        self.facts.not_before = time(&validity.any(notes)?, notes)?;
        self.facts.not_after = time(&validity.any(notes)?, notes)?;
        validity.end()?;
        let key = body.take(SEQUENCE, notes)?;
        let mut parts = body.inside(&key)?;
        parts.take(SEQUENCE, notes)?;
        parts.take(0x03, notes)?;
        parts.end()?;
        self.facts.spki = key.whole.to_vec();
        self.facts.self_issued = issuer.whole == subject.whole;
        self.issuer = issuer.whole.to_vec();
        self.subject = subject.whole.to_vec();
        for tag in [0x81, 0x82] {
            // issuerUniqueID and subjectUniqueID say nothing that anybody uses.
            body.optional(tag, notes)?;
        }
        if let Some(extensions) = body.optional(0xa3, notes)? {
            if self.facts.version != 3 {
                return Err(CryptoError::Malformed("certificate: extensions before version 3"));
            }
            let mut list = body.inside(&extensions)?;
            let mut each = list.open(SEQUENCE, notes)?;
            list.end()?;
            while !each.is_empty() {
                let extension = each.open(SEQUENCE, notes)?;
                self.read_extension(extension, notes)?;
            }
        }
        body.end()
    }

    fn read_extension(&mut self, mut extension: Cursor<'_>, notes: &mut Notes) -> Result<(), CryptoError> {
        let id = oid(extension.take(OID, notes)?.contents)?;
        let critical = match extension.optional(0x01, notes)? {
            None => false,
            Some(value) => {
                let critical = boolean(&value, notes)?;
                if !critical {
                    notes.add("a default value that is written out");
                }
                critical
            }
        };
        let value = extension.take(0x04, notes)?.contents;
        extension.end()?;
        if self.facts.extensions.iter().any(|(other, ..)| *other == id) {
            return Err(CryptoError::Malformed("certificate: an extension twice"));
        }
        let mut inner = Cursor::new(value);
        match id.as_str() {
            "2.5.29.19" => self.read_basic_constraints(inner, notes)?,
            "2.5.29.15" => {
                let usage = inner.take(0x03, notes)?;
                inner.end()?;
                let (bytes, unused) = bits(&usage, notes)?;
                if bytes.last().is_some_and(|last| last >> unused & 1 == 0) {
                    notes.add("a named BIT STRING with zeros at its end");
                }
                let first = bytes.first().copied().unwrap_or(0);
                self.has_key_usage = true;
                self.receives_secrets = first & 0x28 != 0;
                self.facts.digital_signature = first & 0x80 != 0;
                self.facts.can_sign_certificates = first & 0x04 != 0;
            }
            "2.5.29.37" => {
                let mut usages = inner.open(SEQUENCE, notes)?;
                inner.end()?;
                while !usages.is_empty() {
                    let usage = oid(usages.take(OID, notes)?.contents)?;
                    self.facts.extended_key_usages.push(usage);
                }
            }
            "2.5.29.17" => {
                let mut names = inner.open(SEQUENCE, notes)?;
                inner.end()?;
                while !names.is_empty() {
                    let general = names.any(notes)?;
                    self.read_general_name(&names, &general, notes)?;
                }
            }
            _ if critical && !UNDERSTOOD.contains(&id.as_str()) => {
                self.unknown_critical.get_or_insert_with(|| id.clone());
            }
            _ => {}
        }
        self.facts.extensions.push((id, critical, value.to_vec()));
        Ok(())
    }

    fn read_basic_constraints(
        &mut self,
        mut value: Cursor<'_>,
        notes: &mut Notes,
    ) -> Result<(), CryptoError> {
        let mut constraints = value.open(SEQUENCE, notes)?;
        value.end()?;
        if let Some(ca) = constraints.optional(0x01, notes)? {
            self.facts.is_ca = boolean(&ca, notes)?;
            if !self.facts.is_ca {
                notes.add("a default value that is written out");
            }
        }
        if let Some(length) = constraints.optional(0x02, notes)? {
            if length.contents.is_empty() || length.contents.len() > 4 {
                return Err(WHAT);
            }
            let length = length
                .contents
                .iter()
                .fold(0, |sum, digit| sum << 8 | u64::from(*digit));
            self.path_length = Some(length);
        }
        constraints.end()
    }

    fn read_general_name(
        &mut self,
        names: &Cursor<'_>,
        general: &Tlv<'_>,
        notes: &mut Notes,
    ) -> Result<(), CryptoError> {
        let text = || String::from_utf8(general.contents.to_vec()).map_err(|_| WHAT);
        match general.tag {
            0x82 => self.facts.dns_sans.push(text()?),
            0x86 => self.facts.uri_sans.push(text()?),
            0xa4 => {
                let mut directory = names.inside(general)?;
                let inner = directory.open(SEQUENCE, notes)?;
                directory.end()?;
                self.facts.directory_sans.extend(name(inner, notes)?.attributes);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Extensions that may be critical although nothing here reads them: who issues by which policy, and about which key, changes
/// nothing below an anchor that is pinned for this use.
const UNDERSTOOD: &[&str] = &[
    "2.5.29.14",
    "2.5.29.35",
    "2.5.29.32",
    "2.5.29.31",
    "2.5.29.9",
    "1.3.6.1.5.5.7.1.1",
];

struct Name {
    text: String,
    attributes: Vec<DirectoryAttribute>,
}

/// RDNSequence. Some makers put all attributes into one set, in no order.
fn name(mut sequence: Cursor<'_>, notes: &mut Notes) -> Result<Name, CryptoError> {
    let mut attributes = Vec::new();
    while !sequence.is_empty() {
        let mut set = sequence.open(SET, notes)?;
        let mut before: &[u8] = &[];
        while !set.is_empty() {
            let attribute = set.take(SEQUENCE, notes)?;
            if attribute.whole < before {
                notes.add("a SET OF that is not sorted");
            }
            before = attribute.whole;
            let mut pair = set.inside(&attribute)?;
            let oid = oid(pair.take(OID, notes)?.contents)?;
            let value = pair.any(notes)?;
            pair.end()?;
            attributes.push(DirectoryAttribute {
                oid,
                value: text(&value),
            });
        }
    }
    let parts: Vec<String> = attributes
        .iter()
        .map(|attribute| format!("{}={}", short(&attribute.oid), attribute.value))
        .collect();
    Ok(Name {
        text: parts.join(", "),
        attributes,
    })
}

/// A DirectoryString as text.
fn text(value: &Tlv<'_>) -> String {
    let latin = || value.contents.iter().map(|byte| char::from(*byte)).collect();
    match value.tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString; TeletexString as Latin-1, and so what is none of these.
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => {
            String::from_utf8(value.contents.to_vec()).unwrap_or_else(|_| latin())
        }
        0x14 => latin(),
        0x1e => {
            let units: Vec<u16> = value
                .contents
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        // No text: as RFC 4514 prints it.
        _ => {
            let digits: Vec<String> = value.whole.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("#{}", digits.concat())
        }
    }
}

fn short(oid: &str) -> &str {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.23.133.2.1" => "tpmManufacturer",
        "2.23.133.2.2" => "tpmModel",
        "2.23.133.2.3" => "tpmVersion",
        other => other,
    }
}

/// UTCTime or GeneralizedTime, in seconds since the epoch.
fn time(value: &Tlv<'_>, notes: &mut Notes) -> Result<i64, CryptoError> {
    let text = std::str::from_utf8(value.contents).map_err(|_| WHAT)?;
    let digits = text.strip_suffix('Z').ok_or(WHAT)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WHAT);
    }
    let number = |range: std::ops::Range<usize>| -> Result<i32, CryptoError> {
        digits.get(range).ok_or(WHAT)?.parse().map_err(|_| WHAT)
    };
    let (year, at) = match (value.tag, digits.len()) {
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on are of the last century.
        (0x17, 10 | 12) => {
            let year = number(0..2)?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, 2)
        }
        (0x18, 14) => (number(0..4)?, 4),
        _ => return Err(WHAT),
    };
    let second = if digits.len() == 10 {
        notes.add("a time without seconds");
        0
    } else {
        number(at + 8..at + 10)?
    };
    let small = |value: i32| u8::try_from(value).map_err(|_| WHAT);
    let month = time::Month::try_from(small(number(at..at + 2)?)?).map_err(|_| WHAT)?;
    let date =
        time::Date::from_calendar_date(year, month, small(number(at + 2..at + 4)?)?).map_err(|_| WHAT)?;
    let time = date
        .with_hms(
            small(number(at + 4..at + 6)?)?,
            small(number(at + 6..at + 8)?)?,
            small(second)?,
        )
        .map_err(|_| WHAT)?;
    Ok(time.assume_utc().unix_timestamp())
}

/// The scheme of an AlgorithmIdentifier; `None` for one that is not known.
fn scheme(mut algorithm: Cursor<'_>, notes: &mut Notes) -> Result<Option<SigScheme>, CryptoError> {
    let id = oid(algorithm.take(OID, notes)?.contents)?;
    Ok(match id.as_str() {
        "1.2.840.10045.4.1" => Some(SigScheme::Ecdsa(HashAlg::Sha1)),
        "1.2.840.10045.4.3.2" => Some(SigScheme::Ecdsa(HashAlg::Sha256)),
        "1.2.840.10045.4.3.3" => Some(SigScheme::Ecdsa(HashAlg::Sha384)),
        "1.2.840.10045.4.3.4" => Some(SigScheme::Ecdsa(HashAlg::Sha512)),
        "1.2.840.113549.1.1.5" => Some(SigScheme::RsaPkcs1(HashAlg::Sha1)),
        "1.2.840.113549.1.1.11" => Some(SigScheme::RsaPkcs1(HashAlg::Sha256)),
        "1.2.840.113549.1.1.12" => Some(SigScheme::RsaPkcs1(HashAlg::Sha384)),
        "1.2.840.113549.1.1.13" => Some(SigScheme::RsaPkcs1(HashAlg::Sha512)),
        "1.2.840.113549.1.1.10" => pss(algorithm, notes)?,
        _ => None,
    })
}

/// RSASSA-PSS-params (RFC 4055): hash, mask of the same hash, a salt as long as the digest.
fn pss(mut algorithm: Cursor<'_>, notes: &mut Notes) -> Result<Option<SigScheme>, CryptoError> {
    let mut parameters = algorithm.open(SEQUENCE, notes)?;
    let hash_of = |mut identifier: Cursor<'_>, notes: &mut Notes| -> Result<Option<HashAlg>, CryptoError> {
        let id = oid(identifier.take(OID, notes)?.contents)?;
        Ok(match id.as_str() {
            "2.16.840.1.101.3.4.2.1" => Some(HashAlg::Sha256),
            "2.16.840.1.101.3.4.2.2" => Some(HashAlg::Sha384),
            "2.16.840.1.101.3.4.2.3" => Some(HashAlg::Sha512),
            _ => None,
        })
    };
    // Absent members mean SHA-1, which is not accepted with PSS.
    let Some(hash) = parameters.optional(0xa0, notes)? else {
        return Ok(Some(SigScheme::RsaPss(HashAlg::Sha1)));
    };
    let identifier = parameters.inside(&hash)?.open(SEQUENCE, notes)?;
    let Some(hash) = hash_of(identifier, notes)? else {
        return Ok(None);
    };
    let Some(mask) = parameters.optional(0xa1, notes)? else {
        return Ok(None);
    };
    let mut mask = parameters.inside(&mask)?.open(SEQUENCE, notes)?;
    if oid(mask.take(OID, notes)?.contents)? != "1.2.840.113549.1.1.8" {
        return Ok(None);
    }
    let same = hash_of(mask.open(SEQUENCE, notes)?, notes)? == Some(hash);
    // Of whatever length the salt is, the signature tells it.
    parameters.optional(0xa2, notes)?;
    Ok(same.then_some(SigScheme::RsaPss(hash)))
}

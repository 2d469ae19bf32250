//! Attributes of keys that a partition of a Marvell (Cavium) LiquidSecurity module signed, as Google Cloud HSM hands them out
//! (Marvell, "Software key attestation").
//!
//! All numbers are big-endian. A header of 16 bytes: response code, flags, length of everything, length of the buffer. Two handles of eight
//! bytes. Then the buffer: version and flags and where the first and the second object begin in it (two bytes each), and the objects: handle,
//! number of attributes, length (four bytes each), attributes as type, length (four each) and value. The last 256 bytes are a signature,
//! RSA PKCS#1 with SHA-256, by the key of the partition over everything before.
//!
//! The maker certified the module, the module its partition; the module's owner, Google, certified the partition as well.

use touchmark_crypto::{
    HashAlg, KeyKind, PublicKey, SigScheme,
    x509::{DeviceAnchors, DeviceCertificate, DevicePath, Habits},
};
use touchmark_rats::{Check, Reason};

use crate::{AttestedKey, Exportability, Format, Origin, Statement, path};

/// Largest statement accepted, in bytes.
pub const MAX_ATTESTATION: usize = 64 * 1024;
/// Most attributes of an object.
const MAX_ATTRIBUTES: u32 = 128;
/// Most certificates whose keys are tried.
const MAX_SIGNERS: usize = 16;
const SIGNATURE: usize = 256;
/// Where the buffer begins.
const BUFFER: usize = 32;

const STRUCTURE: &str = "hsm.statement.structure";
const SIGNED: &str = "hsm.statement.signature";
const OWNER: &str = "hsm.owner_path";
const KEY: &str = "hsm.key";

/// Attributes, by PKCS#11's numbers and the maker's.
mod attribute {
    pub(super) const CLASS: u32 = 0x0000;
    pub(super) const LABEL: u32 = 0x0003;
    pub(super) const KEY_TYPE: u32 = 0x0100;
    pub(super) const SENSITIVE: u32 = 0x0103;
    pub(super) const MODULUS: u32 = 0x0120;
    pub(super) const PUBLIC_EXPONENT: u32 = 0x0122;
    pub(super) const EXTRACTABLE: u32 = 0x0162;
    pub(super) const LOCAL: u32 = 0x0163;
    pub(super) const NEVER_EXTRACTABLE: u32 = 0x0164;
    pub(super) const ALWAYS_SENSITIVE: u32 = 0x0165;
}
/// CKO_PRIVATE_KEY, CKK_RSA, CKK_EC.
const PRIVATE_KEY: &[u8] = &[3];
const RSA: &[u8] = &[0];
const ELLIPTIC: &[u8] = &[3];

pub(crate) fn judge(statement: &Statement<'_>, now: u64) -> Result<AttestedKey, Check> {
    let certificates = path::readable(statement.certificates);
    let helpers: Vec<&DeviceCertificate> = certificates.iter().collect();
    let (signed, signature) = split(statement.bytes).map_err(unreadable)?;
    let partitions = signers(signed, signature, &helpers)?;
    let mut checks = vec![Check::passed(SIGNED, "verifies under the key of the partition")];
    // The maker's and the owner's certificates are of the same key.
    let leads = |anchors: &DeviceAnchors, checks: &mut Vec<Check>| {
        let mut failed = None;
        for partition in &partitions {
            let mut found = Vec::new();
            match path::check(partition, &helpers, anchors, Habits::OF_MODULES, now, &mut found) {
                Ok(path) if vouches(&path, partition) => {
                    checks.append(&mut found);
                    return Ok(());
                }
                Ok(path) => failed = failed.or(Some(no_module(&path))),
                Err(check) => failed = failed.or(Some(check)),
            }
        }
        Err(failed)
    };
    if let Err(failed) = leads(statement.makers, &mut checks) {
        return Err(failed.unwrap_or_else(|| nobody("no certificate at hand")));
    }
    if let Some(owners) = statement.owners {
        leads(owners, &mut checks).map_err(|failed| {
            let reason = match failed.as_ref().and_then(Check::reason) {
                Some(Reason::CertExpired) => Reason::CertExpired,
                _ => Reason::OwnerChainMissing,
            };
            Check::failed(
                OWNER,
                reason,
                "a chain to the root of the module's owner",
                failed.map_or(String::new(), |failed| failed.found),
                "give the owner's certificates as well",
            )
        })?;
        checks.push(Check::passed(OWNER, "a path to the owner's root"));
    }
    let objects = objects(signed, statement.bytes.len()).map_err(unreadable)?;
    checks.push(Check::passed(STRUCTURE, format!("{} objects", objects.len())));
    let private = private(&objects)?;
    let key = public_key(private)?;
    let module = partitions.first().map(|partition| partition.label());
    Ok(AttestedKey {
        format: Format::Marvell,
        key,
        checks,
        serial: module.as_deref().and_then(serial),
        firmware: None,
        fips: module.map(|name| name.contains("FIPS mode")),
        origin: match private.flag(attribute::LOCAL) {
            Some(true) => Origin::Generated,
            Some(false) => Origin::Imported,
            None => Origin::Unknown,
        },
        exportability: exportability(private),
        label: private.text(attribute::LABEL),
    })
}

fn unreadable((reason, what): (Reason, &'static str)) -> Check {
    let expected = "a signed statement of a LiquidSecurity module";
    Check::failed(
        STRUCTURE,
        reason,
        expected,
        what,
        "fetch the statement of the key again, uncompressed",
    )
}

fn nobody(found: &str) -> Check {
    Check::failed(
        SIGNED,
        Reason::SignatureInvalid,
        "a signature by the key of a partition",
        found,
        "give the certificates of module and partition that came with the statement",
    )
}

/// The certificates at hand whose key signed the statement.
fn signers<'a>(
    message: &[u8],
    signature: &[u8],
    certificates: &[&'a DeviceCertificate],
) -> Result<Vec<&'a DeviceCertificate>, Check> {
    let signed = |certificate: &&DeviceCertificate| {
        PublicKey::from_spki(&certificate.facts.spki).is_ok_and(|key| {
            key.verify(SigScheme::RsaPkcs1(HashAlg::Sha256), message, signature)
                .is_ok()
        })
    };
    let found: Vec<&DeviceCertificate> = certificates
        .iter()
        .take(MAX_SIGNERS)
        .copied()
        .filter(signed)
        .collect();
    if found.is_empty() {
        return Err(nobody(
            "none of the certificates at hand has the key that signed it",
        ));
    }
    Ok(found)
}

/// Whether each certificate on the way may have issued the next: an authority, or the very module that the partition is of.
fn vouches(path: &DevicePath, partition: &DeviceCertificate) -> bool {
    let module = path.through.first().map(|name| serial(name));
    !path.issuer_without_ca
        || module.is_some_and(|module| module.is_some() && module == serial(&partition.label()))
}

fn no_module(path: &DevicePath) -> Check {
    let found = path.through.first().cloned().unwrap_or_default();
    Check::failed(
        "hsm.path",
        Reason::IssuerNotCa,
        "an authority, or the module that the partition is of",
        found,
        "the certificate of the partition was made by somebody else: do not trust it",
    )
}

/// The serial number of a module in the name of its partition: `HSM:5.3G1953-ICM001225:PARTN:1, for FIPS mode`.
fn serial(name: &str) -> Option<String> {
    let behind = name.split("HSM:").nth(1)?;
    let end = behind
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'))
        .unwrap_or(behind.len());
    behind
        .get(..end)
        .filter(|serial| !serial.is_empty())
        .map(str::to_owned)
}

fn exportability(private: &Object<'_>) -> Exportability {
    let flag = |kind| private.flag(kind);
    let never =
        flag(attribute::NEVER_EXTRACTABLE) == Some(true) && flag(attribute::ALWAYS_SENSITIVE) == Some(true);
    match (flag(attribute::EXTRACTABLE), flag(attribute::SENSITIVE)) {
        (Some(false), Some(true)) if never => Exportability::Never,
        (Some(false), Some(true)) => Exportability::NotNow,
        // What the module does not say it could do.
        _ => Exportability::Possible,
    }
}

fn public_key(private: &Object<'_>) -> Result<PublicKey, Check> {
    let point = private.value(attribute::MODULUS).unwrap_or_default();
    let read = match private.value(attribute::KEY_TYPE) {
        Some(ELLIPTIC) => {
            let kind = if point.len() == 97 {
                KeyKind::P384
            } else {
                KeyKind::P256
            };
            PublicKey::from_ec_point(kind, point)
        }
        Some(RSA) => {
            let exponent = private.value(attribute::PUBLIC_EXPONENT).unwrap_or_default();
            PublicKey::from_rsa(point, exponent)
        }
        _ => Err(touchmark_crypto::CryptoError::KeyNotAccepted(
            "neither an elliptic-curve nor an RSA key",
        )),
    };
    read.map_err(|error| {
        Check::failed(
            KEY,
            Reason::KeyInvalid,
            "an RSA, P-256 or P-384 key",
            error.to_string(),
            "make a key of another kind",
        )
    })
}

type Unreadable = (Reason, &'static str);

/// What is signed, and the signature.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    if bytes.len() > MAX_ATTESTATION {
        return Err((Reason::Oversized, "over 64 KiB"));
    }
    let length = bytes.len().checked_sub(SIGNATURE);
    length
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or((Reason::Malformed, "it is shorter than a signature"))
}

/// The objects in what was signed; `whole` is the length of the statement with its signature.
fn objects(signed: &[u8], whole: usize) -> Result<Vec<Object<'_>>, Unreadable> {
    let malformed = |what| (Reason::Malformed, what);
    let mut header = Reader(signed);
    let mut number = || header.u32().ok_or(malformed("it ends within its header"));
    let (code, _flags, length, buffer) = (number()?, number()?, number()?, number()?);
    if code != 0 {
        return Err(malformed("the answer to a request that failed"));
    }
    if length as usize != whole {
        return Err(malformed("it is of another length than it says"));
    }
    let inside = signed
        .get(BUFFER..)
        .filter(|inside| inside.len() == buffer as usize)
        .ok_or(malformed("its buffer is of another length than it says"))?;
    let mut info = Reader(inside);
    let mut half = || info.u16().ok_or(malformed("it ends within its header"));
    let (_version, _flags, first, second) = (half()?, half()?, half()?, half()?);
    let mut out = Vec::new();
    let mut end = 8;
    for at in [first, second].map(usize::from) {
        // A key that is not a pair has one object.
        if at == 0 && !out.is_empty() {
            continue;
        }
        // One after the other, so that nothing lies between them that is not read.
        let rest = inside
            .get(at..)
            .filter(|_| at == end)
            .ok_or(malformed("an object that is not where it should be"))?;
        let mut reader = Reader(rest);
        out.push(Object::read(&mut reader).ok_or(malformed("an object that cannot be read"))?);
        end = inside.len() - reader.0.len();
    }
    if end != inside.len() {
        return Err(malformed("bytes after the last object"));
    }
    Ok(out)
}

/// The one private key among objects.
fn private<'a, 'b>(objects: &'b [Object<'a>]) -> Result<&'b Object<'a>, Check> {
    let mut private = objects
        .iter()
        .filter(|object| object.value(attribute::CLASS) == Some(PRIVATE_KEY));
    match (private.next(), private.next()) {
        (Some(object), None) => Ok(object),
        (found, _) => Err(Check::failed(
            KEY,
            Reason::ClaimMissing,
            "the attributes of a private key",
            if found.is_some() {
                "two private keys"
            } else {
                "those of none"
            },
            "fetch the statement of an asymmetric key",
        )),
    }
}

/// Attributes of an object, as they were signed.
struct Object<'a>(Vec<(u32, &'a [u8])>);

impl<'a> Object<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let whole = reader.0;
        let (_handle, count, length) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if count > MAX_ATTRIBUTES {
            return None;
        }
        let mut attributes: Vec<(u32, &[u8])> = Vec::new();
        for _ in 0..count {
            let (kind, length) = (reader.u32()?, reader.u32()?);
            let value = reader.take(length as usize)?;
            if attributes.iter().any(|(other, _)| *other == kind) {
                return None;
            }
            attributes.push((kind, value));
        }
        // Its length counts its attributes, and not the twelve bytes before them.
        (whole.len() - reader.0.len() == length as usize + 12).then_some(Self(attributes))
    }

    fn value(&self, kind: u32) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(other, _)| *other == kind)
            .map(|(_, value)| *value)
    }

    /// A flag; `None` for one that is absent or no flag.
    fn flag(&self, kind: u32) -> Option<bool> {
        match self.value(kind)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Text that is filled up with zeros.
    fn text(&self, kind: u32) -> Option<String> {
        let value = self.value(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        let text = String::from_utf8_lossy(value.get(..end)?).into_owned();
        (!text.is_empty()).then_some(text)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }
}

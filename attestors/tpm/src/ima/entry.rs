//! One entry: what was extended, and what its template says.

use std::borrow::Cow;

use touchmark_crypto::HashAlg;

use super::read::ImaError;

/// Hash algorithms by their names in the kernel, with the length of their digests.
const DIGESTS: [(&str, usize); 14] = [
    ("md5", 16),
    ("sha1", 20),
    ("rmd160", 20),
    ("sha224", 28),
    ("sha256", 32),
    ("sha384", 48),
    ("sha512", 64),
    ("sm3", 32),
    ("sm3-256", 32),
    ("sha3-256", 32),
    ("sha3-384", 48),
    ("sha3-512", 64),
    ("wp512", 64),
    ("streebog512", 64),
];

/// Most fields of a template.
const MAX_FIELDS: usize = 32;

/// The digest of a file, or of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest<'a> {
    /// The kernel's name of the algorithm.
    pub algorithm: &'a str,
    /// The digest.
    pub digest: Cow<'a, [u8]>,
}

impl FileDigest<'_> {
    /// The algorithm, where it is one that is computed here.
    pub fn hash(&self) -> Option<HashAlg> {
        [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
            .into_iter()
            .find(|hash| hash.name() == self.algorithm)
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The register.
    pub register: u32,
    /// The digest of the template data, as the list has it.
    pub template_digest: Cow<'a, [u8]>,
    /// The name of the template.
    pub template: &'a str,
    /// What is hashed: the fields with their lengths.
    pub data: Cow<'a, [u8]>,
    /// The digest of the file.
    pub file: FileDigest<'a>,
    /// The file's path, or the name of a buffer.
    pub path: Cow<'a, str>,
    /// The file's signature, empty where there is none.
    pub signature: Cow<'a, [u8]>,
    /// The buffer of an `ima-buf` entry.
    pub buffer: Option<Cow<'a, [u8]>>,
}

impl Entry<'_> {
    /// Whether a file was written while it was measured, or the other way round: then the digest is zeros, and ones are extended.
    pub fn is_violation(&self) -> bool {
        self.template_digest.iter().all(|byte| *byte == 0)
    }

    /// Whether it stands for the boot before the kernel.
    pub fn is_boot_aggregate(&self) -> bool {
        self.path == "boot_aggregate"
    }
}

/// The fields of an entry, apart from where they lie.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) file: FileDigest<'a>,
    pub(super) path: Cow<'a, str>,
    pub(super) signature: Cow<'a, [u8]>,
    pub(super) buffer: Option<Cow<'a, [u8]>>,
}

/// The formats of the fields of a template (Documentation/security/IMA-templates.rst); `None` for one that is not known.
pub(super) fn formats(template: &str) -> Option<Vec<&str>> {
    Some(match template {
        "ima" => vec!["d", "n"],
        "ima-ng" => vec!["d-ng", "n-ng"],
        "ima-ngv2" => vec!["d-ngv2", "n-ng"],
        "ima-sig" => vec!["d-ng", "n-ng", "sig"],
        "ima-sigv2" => vec!["d-ngv2", "n-ng", "sig"],
        "ima-buf" => vec!["d-ng", "n-ng", "buf"],
        "ima-modsig" => vec!["d-ng", "n-ng", "sig", "d-modsig", "modsig"],
        "evm-sig" => vec![
            "d-ng",
            "n-ng",
            "evmsig",
            "xattrnames",
            "xattrlengths",
            "xattrvalues",
            "iuid",
            "igid",
            "imode",
        ],
        // A format that the administrator wrote: its fields are its name.
        custom if custom.contains('|') && custom.matches('|').count() < MAX_FIELDS => {
            let fields: Vec<&str> = custom.split('|').collect();
            return in_place(&fields).then_some(fields);
        }
        _ => return None,
    })
}

/// Whether fields begin with the file's digest and its name, as in every template of the kernel's own, and have no others. No digest covers
/// a template's name: were the places free, a list could call a file's attribute its digest.
fn in_place(fields: &[&str]) -> bool {
    let (digests, names) = (["d", "d-ng", "d-ngv2"], ["n", "n-ng"]);
    let [first, second, rest @ ..] = fields else {
        return false;
    };
    let free = |field: &&str| !digests.contains(field) && !names.contains(field);
    digests.contains(first) && names.contains(second) && rest.iter().all(free)
}

/// A `d-ng` or `d-ngv2` field: an algorithm, a colon and a NUL, a digest; before it, in the second, what was hashed.
pub(super) fn digest_field<'a>(field: &'a [u8], format: &str) -> Result<FileDigest<'a>, ImaError> {
    const WRONG: ImaError = ImaError::Field("a file digest that is not algorithm, colon, NUL, digest");
    let end = field.iter().position(|byte| *byte == 0).ok_or(WRONG)?;
    let (name, digest) = (field.get(..end).ok_or(WRONG)?, field.get(end + 1..).ok_or(WRONG)?);
    let name = std::str::from_utf8(name)
        .map_err(|_| WRONG)?
        .strip_suffix(':')
        .ok_or(WRONG)?;
    let name = if format == "d-ngv2" {
        // What was hashed: the file, or its Merkle tree.
        let (of, name) = name.split_once(':').ok_or(WRONG)?;
        if !["ima", "verity"].contains(&of) {
            return Err(WRONG);
        }
        name
    } else {
        name
    };
    file_digest(name, Cow::Borrowed(digest))
}

/// A digest by the kernel's name of its algorithm, as long as that algorithm's are.
pub(super) fn file_digest<'a>(algorithm: &'a str, digest: Cow<'a, [u8]>) -> Result<FileDigest<'a>, ImaError> {
    let known = DIGESTS.iter().find(|(name, _)| *name == algorithm);
    let (_, length) = known.ok_or(ImaError::Algorithm)?;
    if digest.len() != *length {
        return Err(ImaError::Field(
            "a file digest that is not as long as its algorithm's",
        ));
    }
    Ok(FileDigest { algorithm, digest })
}

//! Reading a list: the kernel's `binary_runtime_measurements` and `ascii_runtime_measurements`.

use std::borrow::Cow;

use super::{
    MAX_ENTRIES, MAX_LIST, MAX_TEMPLATE,
    entry::{Entry, Fields, FileDigest, digest_field, file_digest, formats},
};
use crate::log::little::Little;

/// Longest name of a template.
const MAX_NAME: usize = 255;
/// What the name of a file is padded to in the oldest template.
const EVENT_NAME: usize = 256;

/// Why a list cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImaError {
    /// Over [`MAX_LIST`], [`MAX_ENTRIES`] or [`MAX_TEMPLATE`].
    #[error("the list exceeds the limit on {0}")]
    Limit(&'static str),
    /// The bytes end within an entry.
    #[error("the list ends within an entry")]
    Truncated,
    /// A template that is not known: how its data is built up is not either.
    #[error("a template that is not known")]
    Template,
    /// A hash algorithm that the kernel does not have.
    #[error("a hash algorithm that is not known")]
    Algorithm,
    /// A register that no TPM has.
    #[error("a register that does not exist")]
    Register,
    /// A field that is not of its format.
    #[error("{0}")]
    Field(&'static str),
}

/// Entries of the binary form, one after another, so that nobody needs them all at once.
#[derive(Debug, Clone)]
pub struct Binary<'a> {
    rest: Little<'a>,
    whole: usize,
    /// Length of the template digests that it shows.
    digest: usize,
}

impl<'a> Binary<'a> {
    /// Entries of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::with_digests(bytes, 20)
    }

    /// Entries of a list that shows digests of this length: newer kernels have a list for each bank
    /// (`binary_runtime_measurements_sha256`).
    fn with_digests(bytes: &'a [u8], digest: usize) -> Self {
        Self {
            rest: Little(bytes),
            whole: bytes.len(),
            digest,
        }
    }

    /// How many bytes the entries so far took.
    pub fn position(&self) -> usize {
        self.whole - self.rest.0.len()
    }
}

impl<'a> Iterator for Binary<'a> {
    type Item = Result<Entry<'a>, ImaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = entry(&mut self.rest, self.digest);
        if entry.is_err() {
            // What follows an entry that cannot be read begins nowhere.
            self.rest = Little(&[]);
        }
        Some(entry)
    }
}

/// Reads a whole binary list.
pub fn read_binary(bytes: &[u8]) -> Result<Vec<Entry<'_>>, ImaError> {
    if bytes.len() > MAX_LIST {
        return Err(ImaError::Limit("bytes"));
    }
    let first = match collect(Binary::new(bytes)) {
        Ok(entries) => return Ok(entries),
        Err(error) => error,
    };
    let banks = [32, 48, 64].into_iter();
    banks
        .map(|digest| collect(Binary::with_digests(bytes, digest)))
        .find_map(Result::ok)
        .ok_or(first)
}

/// Reads a whole ASCII list.
pub fn read_ascii(bytes: &[u8]) -> Result<Vec<Entry<'_>>, ImaError> {
    if bytes.len() > MAX_LIST {
        return Err(ImaError::Limit("bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ImaError::Field("a list that is not text"))?;
    let lines = text.lines().filter(|line| !line.is_empty());
    collect(lines.map(line))
}

fn collect<'a>(
    entries: impl Iterator<Item = Result<Entry<'a>, ImaError>>,
) -> Result<Vec<Entry<'a>>, ImaError> {
    let mut out = Vec::new();
    for entry in entries {
        if out.len() >= MAX_ENTRIES {
            return Err(ImaError::Limit("entries"));
        }
        out.push(entry?);
    }
    Ok(out)
}

fn entry<'a>(reader: &mut Little<'a>, digest: usize) -> Result<Entry<'a>, ImaError> {
    const SHORT: ImaError = ImaError::Truncated;
    let register = reader.u32().ok_or(SHORT)?;
    if register >= 24 {
        return Err(ImaError::Register);
    }
    let digest = reader.take(digest).ok_or(SHORT)?;
    let length = reader.size().ok_or(SHORT)?;
    if length == 0 || length > MAX_NAME {
        return Err(ImaError::Template);
    }
    let name = std::str::from_utf8(reader.take(length).ok_or(SHORT)?).map_err(|_| ImaError::Template)?;
    let formats = formats(name).ok_or(ImaError::Template)?;
    let (fields, data) = if name == "ima" {
        oldest(reader)?
    } else {
        let length = reader.size().ok_or(SHORT)?;
        if length > MAX_TEMPLATE {
            return Err(ImaError::Limit("template data"));
        }
        let data = reader.take(length).ok_or(SHORT)?;
        (fields(data, &formats)?, Cow::Borrowed(data))
    };
    Ok(Entry {
        register,
        template_digest: Cow::Borrowed(digest),
        template: name,
        data,
        file: fields.file,
        path: fields.path,
        signature: fields.signature,
        buffer: fields.buffer,
    })
}

/// The template `ima`: a SHA-1 digest without a length, then the name; what is hashed has the name padded with zeros.
fn oldest<'a>(reader: &mut Little<'a>) -> Result<(Fields<'a>, Cow<'a, [u8]>), ImaError> {
    const SHORT: ImaError = ImaError::Truncated;
    let digest = reader.take(20).ok_or(SHORT)?;
    let length = reader.size().ok_or(SHORT)?;
    if length > EVENT_NAME - 1 {
        return Err(ImaError::Field("a name that is longer than this template takes"));
    }
    let name = reader.take(length).ok_or(SHORT)?;
    let data = padded(digest, name);
    Ok((
        Fields {
            file: file_digest("sha1", Cow::Borrowed(digest))?,
            path: path(name)?,
            signature: Cow::Borrowed(&[]),
            buffer: None,
        },
        Cow::Owned(data),
    ))
}

fn padded(digest: &[u8], name: &[u8]) -> Vec<u8> {
    let mut data = [digest, name].concat();
    data.resize(digest.len() + EVENT_NAME, 0);
    data
}

/// Fields with their lengths, nothing after them.
fn fields<'a>(data: &'a [u8], formats: &[&str]) -> Result<Fields<'a>, ImaError> {
    let mut reader = Little(data);
    let (mut file, mut name) = (None, None);
    let mut signature: &[u8] = &[];
    let mut buffer = None;
    for format in formats {
        let length = reader.size().ok_or(ImaError::Truncated)?;
        let field = reader.take(length).ok_or(ImaError::Truncated)?;
        match *format {
            "d-ng" | "d-ngv2" => file = Some(digest_field(field, format)?),
            "d" => file = Some(file_digest("sha1", Cow::Borrowed(field))?),
            "n" | "n-ng" => name = Some(path(field)?),
            "sig" => signature = field,
            "buf" => buffer = Some(Cow::Borrowed(field)),
            _ => {}
        }
    }
    if !reader.is_empty() {
        return Err(ImaError::Field("bytes after the last field"));
    }
    Ok(Fields {
        file: file.ok_or(ImaError::Field("a template without a file digest"))?,
        path: name.ok_or(ImaError::Field("a template without a name"))?,
        signature: Cow::Borrowed(signature),
        buffer,
    })
}

/// A name up to its NUL, which the newer templates count.
fn path(field: &[u8]) -> Result<Cow<'_, str>, ImaError> {
    let name = field.strip_suffix(&[0]).unwrap_or(field);
    if name.contains(&0) {
        return Err(ImaError::Field("a name with a NUL in it"));
    }
    Ok(String::from_utf8_lossy(name))
}

/// `10 <template digest> <template> <fields>`: the data is put together again from what is printed.
fn line(text: &str) -> Result<Entry<'_>, ImaError> {
    const WRONG: ImaError = ImaError::Field("a line that is not register, template digest, template, fields");
    let mut words = text.splitn(4, ' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(WRONG);
    let register: u32 = word()?.parse().map_err(|_| WRONG)?;
    if register >= 24 {
        return Err(ImaError::Register);
    }
    let digest = hex::decode(word()?).map_err(|_| WRONG)?;
    if ![20, 32, 48, 64].contains(&digest.len()) {
        return Err(WRONG);
    }
    let template = word()?;
    if template.len() > MAX_NAME {
        return Err(ImaError::Template);
    }
    let rest = word()?;
    if rest.len() > 2 * MAX_TEMPLATE {
        return Err(ImaError::Limit("template data"));
    }
    let formats = formats(template).ok_or(ImaError::Template)?;
    let printed = words_of(rest, &formats);
    let mut printed = printed.into_iter();
    let (mut file, mut name) = (None, None);
    let mut signature = Vec::new();
    let mut buffer = None;
    let mut data = Vec::new();
    for format in formats {
        let word = printed.next().unwrap_or_default();
        let binary = || hex::decode(word).map_err(|_| ImaError::Field("a field that is not hexadecimal"));
        let field = match format {
            "d" => {
                let digest = binary()?;
                file = Some(owned("sha1", digest.clone())?);
                digest
            }
            "d-ng" | "d-ngv2" => {
                let (algorithm, digest) = word.rsplit_once(':').ok_or(WRONG)?;
                let digest = hex::decode(digest).map_err(|_| WRONG)?;
                let name = algorithm.rsplit(':').next().unwrap_or(algorithm);
                file = Some(owned(name, digest.clone())?);
                [algorithm.as_bytes(), b":\0", &digest].concat()
            }
            "n" => {
                name = Some(word);
                word.as_bytes().to_vec()
            }
            "n-ng" => {
                name = Some(word);
                [word.as_bytes(), &[0]].concat()
            }
            "sig" => {
                signature = binary()?;
                signature.clone()
            }
            "d-modsig" => printed_digest(word)?,
            "xattrnames" => [word.as_bytes(), &[0]].concat(),
            "iuid" | "igid" => word.parse::<u32>().map_err(|_| WRONG)?.to_le_bytes().to_vec(),
            "imode" => word.parse::<u16>().map_err(|_| WRONG)?.to_le_bytes().to_vec(),
            "buf" => {
                let bytes = binary()?;
                buffer = Some(Cow::Owned(bytes.clone()));
                bytes
            }
            _ => binary()?,
        };
        if template != "ima" {
            let length = u32::try_from(field.len()).map_err(|_| ImaError::Limit("template data"))?;
            data.extend(length.to_le_bytes());
        }
        data.extend(field);
    }
    if printed.next().is_some_and(|word| !word.is_empty()) {
        return Err(ImaError::Field("words after the last field"));
    }
    if template == "ima" {
        data.resize(20 + EVENT_NAME, 0);
    }
    Ok(Entry {
        register,
        template_digest: Cow::Owned(digest),
        template,
        data: Cow::Owned(data),
        file: file.ok_or(WRONG)?,
        path: Cow::Borrowed(name.filter(|name| !name.is_empty()).ok_or(WRONG)?),
        signature: Cow::Owned(signature),
        buffer,
    })
}

/// What an appended signature is over, printed like the digest of a file; nothing where there is no such signature.
fn printed_digest(word: &str) -> Result<Vec<u8>, ImaError> {
    const WRONG: ImaError = ImaError::Field("a digest that is not algorithm, colon, hexadecimal");
    if word.trim_matches(':').is_empty() {
        return Ok(Vec::new());
    }
    let (algorithm, digest) = word.rsplit_once(':').ok_or(WRONG)?;
    let digest = hex::decode(digest).map_err(|_| WRONG)?;
    Ok([algorithm.as_bytes(), b":\0", &digest].concat())
}

/// The printed fields. Newer kernels print spaces in names as underscores; older ones do not, so that a name takes what is left, but for
/// a last word in hexadecimal where the template has a field for one.
fn words_of<'a>(rest: &'a str, formats: &[&str]) -> Vec<&'a str> {
    let name_at = formats.iter().position(|format| format.starts_with('n'));
    let (Some((digest, rest)), Some(1), true) = (rest.split_once(' '), name_at, formats.len() <= 3) else {
        return rest.split(' ').collect();
    };
    let Some(last) = formats.get(2) else {
        return vec![digest, rest];
    };
    let rest = rest.strip_suffix(' ').unwrap_or(rest);
    let is_hex = |word: &str| {
        !word.is_empty() && word.len().is_multiple_of(2) && word.bytes().all(|b| b.is_ascii_hexdigit())
    };
    match rest.rsplit_once(' ') {
        Some((name, word)) if is_hex(word) && (*last != "sig" || word.len() >= 18) => {
            vec![digest, name, word]
        }
        _ => vec![digest, rest, ""],
    }
}

fn owned(algorithm: &str, digest: Vec<u8>) -> Result<FileDigest<'_>, ImaError> {
    file_digest(algorithm, Cow::Owned(digest))
}

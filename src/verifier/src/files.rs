//! Lists of known files: the digests of a distribution's release, say, hundreds of thousands of them. All hosts that a list is for share it
//! in memory, a digest in its length and nothing more.

use std::{collections::BTreeMap, sync::Arc};

use serde_bytes::ByteBuf;
use touchmark_crypto::{HashAlg, sha256};
use touchmark_rats::{KnownFiles, cbor};

/// Most files in one list.
pub const MAX_FILES: usize = 2_000_000;
/// Largest list as it is stored and sent, in bytes.
pub const MAX_FILE_LIST: usize = 72 * 1024 * 1024;
/// The hashes that a file can be known by.
const HASHES: [HashAlg; 3] = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// Why a list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileListError {
    /// A label that is empty, too long or not printable.
    #[error("label {0:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    Label(String),
    /// A line that is not a digest and a path.
    #[error("line {0}: not a digest and a path, as sha256sum, sha384sum and sha512sum print them")]
    Line(usize),
    /// Nothing in it.
    #[error("there is no file in it")]
    Empty,
    /// Over [`MAX_FILES`].
    #[error("more than 2,000,000 files; split the list")]
    Limit,
    /// Not what [`FileList::to_bytes`] makes.
    #[error("not a list of known files")]
    Malformed,
}

/// Files of one label.
#[derive(Clone, PartialEq, Eq)]
pub struct FileList {
    label: String,
    /// Labels of the hosts that it is for; `None` for all.
    hosts: Option<Vec<String>>,
    /// Sorted digests, one after another, by the name of their hash.
    digests: BTreeMap<&'static str, Vec<u8>>,
    id: String,
}

impl std::fmt::Debug for FileList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileList({}, {} files)", self.id, self.len())
    }
}

impl FileList {
    /// Reads what `sha256sum` and its kin print, with or without an algorithm (`sha256:HEX PATH`); empty lines and those that begin with
    /// `#` are skipped.
    pub fn from_text(label: &str, text: &str) -> Result<Self, FileListError> {
        let mut found: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
        let mut count = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (hash, digest) = entry(line).ok_or(FileListError::Line(number + 1))?;
            count += 1;
            if count > MAX_FILES {
                return Err(FileListError::Limit);
            }
            found.entry(hash.name()).or_default().push(digest);
        }
        let sorted = found.into_iter().map(|(hash, mut digests)| {
            digests.sort_unstable();
            digests.dedup();
            (hash, digests.concat())
        });
        Self::new(label, None, sorted.collect())
    }

    /// Reads what [`Self::to_bytes`] made.
    pub fn from_bytes(label: &str, hosts: Option<Vec<String>>, bytes: &[u8]) -> Result<Self, FileListError> {
        let read: BTreeMap<String, ByteBuf> =
            cbor::decode(bytes, MAX_FILE_LIST).map_err(|_| FileListError::Malformed)?;
        let mut digests = BTreeMap::new();
        for (name, bytes) in read {
            let hash = HASHES
                .into_iter()
                .find(|hash| hash.name() == name)
                .ok_or(FileListError::Malformed)?;
            let sorted = bytes.chunks(hash.len()).is_sorted();
            if !sorted || bytes.len() % hash.len() != 0 {
                return Err(FileListError::Malformed);
            }
            digests.insert(hash.name(), bytes.into_vec());
        }
        Self::new(label, hosts, digests)
    }

    fn new(
        label: &str,
        hosts: Option<Vec<String>>,
        digests: BTreeMap<&'static str, Vec<u8>>,
    ) -> Result<Self, FileListError> {
        let printable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if label.is_empty() || label.len() > 64 || !label.chars().all(printable) {
            return Err(FileListError::Label(label.to_owned()));
        }
        let mut out = Self {
            label: label.to_owned(),
            hosts,
            digests,
            id: String::new(),
        };
        if out.is_empty() {
            return Err(FileListError::Empty);
        }
        if out.len() > MAX_FILES {
            return Err(FileListError::Limit);
        }
        let digest = sha256(&[&out.to_bytes()]);
        out.id = format!("{label}:{}", hex::encode(digest.get(..8).unwrap_or_default()));
        Ok(out)
    }

    /// The list as it is stored and sent: a map from the names of hashes to their digests, sorted, one after another. CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let map: BTreeMap<&str, &serde_bytes::Bytes> = self
            .digests
            .iter()
            .map(|(hash, digests)| (*hash, serde_bytes::Bytes::new(digests)))
            .collect();
        cbor::encode(&map)
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Labels of the hosts that it is for; `None` for all.
    pub fn hosts(&self) -> Option<&[String]> {
        self.hosts.as_deref()
    }

    /// Label and digest of what is in it: another list of the same label has another.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        HASHES
            .iter()
            .map(|hash| {
                self.digests
                    .get(hash.name())
                    .map_or(0, |all| all.len() / hash.len())
            })
            .sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.digests.values().all(Vec::is_empty)
    }

    /// Whether the list is for a host with these labels.
    pub fn applies_to(&self, host_labels: &[String]) -> bool {
        self.hosts
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|label| host_labels.contains(label)))
    }

    /// Whether a file of this digest is in it.
    pub fn has(&self, algorithm: &str, digest: &[u8]) -> bool {
        let of_its_length = |hash: &HashAlg| hash.name() == algorithm && hash.len() == digest.len();
        let known = HASHES.iter().find(|hash| of_its_length(hash));
        let Some(all) = known.and_then(|hash| self.digests.get(hash.name())) else {
            return false;
        };
        let (mut low, mut high) = (0, all.len().checked_div(digest.len()).unwrap_or(0));
        while low < high {
            let middle = low + (high - low) / 2;
            let at = middle * digest.len();
            match all.get(at..at + digest.len()).map(|one| one.cmp(digest)) {
                Some(std::cmp::Ordering::Equal) => return true,
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                Some(std::cmp::Ordering::Greater) | None => high = middle,
            }
        }
        false
    }
}

fn entry(line: &str) -> Option<(HashAlg, Vec<u8>)> {
    // sha256sum marks names with escapes in them.
    let line = line.strip_prefix('\\').unwrap_or(line);
    let (word, path) = line.split_once([' ', '\t'])?;
    let digits = word.rsplit(':').next()?;
    let digest = hex::decode(digits).ok()?;
    let hash = HASHES.into_iter().find(|hash| hash.len() == digest.len())?;
    let named = word.split_once(':').is_none_or(|(name, _)| name == hash.name());
    (named && !path.trim().is_empty()).then_some((hash, digest))
}

/// The lists that apply to one host.
#[derive(Debug, Clone, Default)]
pub struct KnownLists(pub Vec<Arc<FileList>>);

impl KnownLists {
    /// Those of these lists that apply to a host with these labels.
    pub fn for_host(all: &[Arc<FileList>], labels: &[String]) -> Self {
        Self(
            all.iter()
                .filter(|list| list.applies_to(labels))
                .cloned()
                .collect(),
        )
    }

    /// What they are, as [`FileList::id`] has it.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|list| list.id().to_owned()).collect()
    }
}

impl KnownFiles for KnownLists {
    fn knows(&self, algorithm: &str, digest: &[u8]) -> bool {
        self.0.iter().any(|list| list.has(algorithm, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> String {
        hex::encode([byte; 32])
    }

    #[test]
    fn what_sha256sum_prints_is_read_and_found_again() {
        let text = format!(
            "# of two packages\n{}  /usr/bin/one\nsha256:{} /usr/bin/two\n\\{}  odd\\nname\n{}  /usr/bin/wide\n",
            digest(9),
            digest(1),
            digest(5),
            hex::encode([7; 64])
        );
        let list = FileList::from_text("debian-12.8", &text).unwrap();
        assert_eq!(list.len(), 4);
        for byte in [1, 5, 9] {
            assert!(list.has("sha256", &[byte; 32]), "{byte}");
        }
        assert!(list.has("sha512", &[7; 64]));
        for (algorithm, wrong) in [
            ("sha256", vec![2; 32]),
            ("sha256", vec![1; 31]),
            ("sha256", vec![]),
            ("sha1", vec![1; 20]),
            ("sha512", vec![1; 32]),
        ] {
            assert!(!list.has(algorithm, &wrong), "{algorithm} {wrong:?}");
        }
        let hosts = Some(vec!["rack-7".to_owned()]);
        let again = FileList::from_bytes("debian-12.8", hosts, &list.to_bytes()).unwrap();
        assert_eq!((again.id(), again.len()), (list.id(), 4));
        assert!(again.applies_to(&["rack-7".to_owned()]) && !again.applies_to(&[]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        for (text, error) in [
            ("", FileListError::Empty),
            ("# nothing\n", FileListError::Empty),
            (&format!("{}  /a\nword\n", digest(1)), FileListError::Line(2)),
            (&format!("{}\n", digest(1)), FileListError::Line(1)),
            (&format!("sha512:{}  /a\n", digest(1)), FileListError::Line(1)),
            (&format!("{}  /a\n", "ab".repeat(20)), FileListError::Line(1)),
        ] {
            assert_eq!(FileList::from_text("x", text), Err(error), "{text}");
        }
        assert!(matches!(
            FileList::from_text("a b", ""),
            Err(FileListError::Label(_))
        ));
        let list = FileList::from_text("x", &format!("{}  /a\n{}  /b\n", digest(1), digest(2))).unwrap();
        let mut bytes = list.to_bytes();
        let last = bytes.len() - 1;
        bytes[last] = 0;
        bytes[last - 31..].fill(0);
        assert_eq!(
            FileList::from_bytes("x", None, &bytes),
            Err(FileListError::Malformed),
            "unsorted"
        );
        assert_eq!(
            FileList::from_bytes("x", None, b"\xa0"),
            Err(FileListError::Empty)
        );
    }
}

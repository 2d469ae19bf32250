//! A search for private keys: whatever 32 bytes are the scalar of a key whose public half is known.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
};

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use touchmark_crypto::PublicKey;

/// The P-256 keys that are looked for, by what they are.
#[derive(Default)]
pub struct Search {
    wanted: HashMap<Vec<u8>, String>,
    /// Windows that were tried already, wherever they were seen.
    tried: HashSet<[u8; 32]>,
}

impl Search {
    /// Looks for this key as well.
    pub fn add(&mut self, name: &str, key: &PublicKey) {
        self.wanted.insert(key.raw().to_vec(), name.to_owned());
    }

    /// How many keys are looked for.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// How many different windows were tried as scalars.
    pub fn tried(&self) -> usize {
        self.tried.len()
    }

    /// Keys in the private writable memory of a process: at multiples of eight bytes, in both byte orders.
    pub fn process(&mut self, pid: u32) -> Vec<String> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("memory");
        let mut found = Vec::new();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, mode) = (fields.next().expect("range"), fields.next().expect("mode"));
            if !mode.starts_with("rw") || !mode.ends_with('p') {
                continue;
            }
            let (start, end) = range.split_once('-').expect("range");
            let number = |text| u64::from_str_radix(text, 16).expect("address");
            let (mut at, end) = (number(start), number(end));
            // Pieces that share a window's length, so that none is cut in two.
            while at + 32 <= end {
                let length = (end - at).min(1 << 20);
                let mut piece = vec![0; usize::try_from(length).expect("a piece")];
                // What was unmapped meanwhile holds nothing.
                if memory.read_exact_at(&mut piece, at).is_ok() {
                    found.extend(self.bytes(&piece, 8));
                }
                at += if length < 1 << 20 { length } else { length - 32 };
            }
        }
        found
    }

    /// Keys in the files below a folder, at every byte.
    pub fn folder(&mut self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            let kind = std::fs::symlink_metadata(&path).expect("metadata").file_type();
            if kind.is_dir() {
                found.extend(self.folder(&path));
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).expect("file");
                let named = |name| format!("{name} in {}", path.display());
                found.extend(self.bytes(&bytes, 1).into_iter().map(named));
            }
        }
        found
    }

    /// Keys in these bytes, at every `step`.
    fn bytes(&mut self, bytes: &[u8], step: usize) -> Vec<String> {
        let mut found = Vec::new();
        for window in bytes.windows(32).step_by(step) {
            if !could_be_a_scalar(window) {
                continue;
            }
            let scalar: [u8; 32] = window.try_into().expect("32 bytes");
            if !self.tried.insert(scalar) {
                continue;
            }
            let mut reversed = scalar;
            reversed.reverse();
            for scalar in [scalar, reversed] {
                if let Some(name) = self.of(&scalar) {
                    found.push(name);
                }
            }
        }
        found
    }

    fn of(&self, scalar: &[u8; 32]) -> Option<String> {
        let key = PrivateKey::from_private_key(&ECDH_P256, scalar).ok()?;
        let public = key.compute_public_key().ok()?;
        self.wanted.get(public.as_ref()).cloned()
    }
}

/// Random bytes have no word that is empty, small, or a pointer, and are no text.
fn could_be_a_scalar(window: &[u8]) -> bool {
    let words = window.chunks_exact(8);
    let plausible = |word: &[u8]| {
        let pointer_like = |high: &[u8]| high == [0, 0];
        !pointer_like(&word[..2]) && !pointer_like(&word[6..])
    };
    words.clone().all(plausible) && !window.iter().all(u8::is_ascii) && window[..8] != window[8..16]
}

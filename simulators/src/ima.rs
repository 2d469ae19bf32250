//! What a host's kernel measures while it runs: the list of Linux's Integrity Measurement Architecture
//! (`binary_runtime_measurements`, template `ima-ng`), in step with PCR 10.
//!
//! Files are stand-ins: their digests are those of a fixed text for each path. A list begins with the digest of the
//! boot's registers and what a Debian host starts; from then on it gains a file now and then, as hosts do.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use crate::boot::Boot;
use crate::command::Command;
use crate::pcr::{self, Digests};

/// The register that Linux extends.
const REGISTER: u32 = 10;
/// How often a running host measures another file.
const PACE: Duration = Duration::from_secs(2);
/// How many files it goes on to measure.
const LATER: usize = 2_000;
/// What a host has started by the time that it attests.
const STARTED: [&str; 22] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libsystemd.so.0.35.0",
    "/usr/lib/x86_64-linux-gnu/libselinux.so.1",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/systemd/systemd-journald",
    "/usr/lib/systemd/systemd-udevd",
    "/usr/bin/udevadm",
    "/usr/bin/kmod",
    "/usr/lib/modules/6.1.0-28-amd64/kernel/drivers/char/tpm/tpm_crb.ko",
    "/usr/lib/modules/6.1.0-28-amd64/kernel/fs/ext4/ext4.ko",
    "/usr/lib/systemd/systemd-networkd",
    "/usr/lib/systemd/systemd-resolved",
    "/usr/bin/dbus-daemon",
    "/usr/lib/systemd/systemd-logind",
    "/usr/sbin/cron",
    "/usr/sbin/sshd",
    "/usr/bin/bash",
    "/usr/bin/dash",
    "/usr/bin/python3.11",
    "/usr/bin/touchmark",
];
/// A file of no package.
const STRANGE: &str = "/var/tmp/.cache/kworkerd";

/// One measurement.
struct Entry {
    data: Vec<u8>,
}

impl Entry {
    /// Of a file with these contents' digest: `d-ng` and `n-ng`, each with its length.
    fn of(path: &str, digest: &[u8]) -> Self {
        let digest = [b"sha256:\0".as_slice(), digest].concat();
        let name = [path.as_bytes(), &[0]].concat();
        let mut data = Vec::new();
        for field in [digest, name] {
            data.extend(length(&field));
            data.extend(field);
        }
        Self { data }
    }

    fn file(path: &str) -> Self {
        Self::of(path, &stand_in(path))
    }

    fn extend(&self) -> Command {
        pcr::extension(REGISTER, &Digests::of(&self.data))
    }

    /// As the kernel shows it: register, SHA-1 of the data, name of the template, data. Little-endian.
    fn encode(&self) -> Vec<u8> {
        const TEMPLATE: &[u8] = b"ima-ng";
        let mut out = REGISTER.to_le_bytes().to_vec();
        out.extend(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.data).as_ref());
        out.extend(length(TEMPLATE));
        out.extend(TEMPLATE);
        out.extend(length(&self.data));
        out.extend(&self.data);
        out
    }
}

fn length(field: &[u8]) -> [u8; 4] {
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// The digest of what stands in for a file.
fn stand_in(path: &str) -> [u8; 32] {
    Digests::of(format!("touchmark-sim stand-in: {path}").as_bytes()).sha256
}

fn later(number: usize) -> String {
    format!("/usr/bin/tool-{number:04}")
}

/// The digests of all files that hosts without a fault measure, as sha256sum prints them.
#[must_use]
pub fn known_files() -> String {
    let started = STARTED.iter().map(|path| (*path).to_owned());
    started
        .chain((1..=LATER).map(later))
        .map(|path| format!("{}  {path}\n", hex::encode(stand_in(&path))))
        .collect()
}

/// What is wrong with a host's list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wrongs {
    /// It starts a file of no package.
    pub unknown_file: bool,
    /// It starts that file, and its list does not show it.
    pub hidden: bool,
}

/// A host's list, and what it will measure next.
#[derive(Debug)]
pub struct List {
    path: PathBuf,
    next: usize,
    due: Instant,
}

impl List {
    /// Writes the list of a host that has just booted; answers it and what goes into its TPM.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(path: &Path, boot: Boot, wrongs: Wrongs) -> io::Result<(Self, Vec<Command>)> {
        let mut entries = vec![Entry::of("boot_aggregate", &aggregate(boot))];
        entries.extend(STARTED.iter().map(|path| Entry::file(path)));
        let mut extensions: Vec<Command> = entries.iter().map(Entry::extend).collect();
        if wrongs.unknown_file || wrongs.hidden {
            let strange = Entry::file(STRANGE);
            extensions.push(strange.extend());
            if !wrongs.hidden {
                entries.push(strange);
            }
        }
        let text: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        std::fs::write(path, text)?;
        let list = Self {
            path: path.to_owned(),
            next: 1,
            due: Instant::now(),
        };
        Ok((list, extensions))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Measures another file if it is time to: shows it in the list, as the kernel does, before its register is extended by
    /// the command that this answers.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn grow(&mut self) -> io::Result<Option<Command>> {
        let now = Instant::now();
        if self.next > LATER || now < self.due {
            return Ok(None);
        }
        let entry = Entry::file(&later(self.next));
        OpenOptions::new()
            .append(true)
            .open(&self.path)?
            .write_all(&entry.encode())?;
        self.next += 1;
        self.due = now + PACE;
        Ok(Some(entry.extend()))
    }
}

/// The digest of registers 0 to 9 after a boot.
fn aggregate(boot: Boot) -> [u8; 32] {
    let mut registers = [[0_u8; 32]; 10];
    for event in boot.events() {
        let register = usize::try_from(event.pcr)
            .ok()
            .and_then(|pcr| registers.get_mut(pcr));
        if let Some(register) = register {
            *register = Digests::of(&[*register, event.digests.sha256].concat()).sha256;
        }
    }
    Digests::of(&registers.concat()).sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_kernels_form() {
        let bytes = Entry::of("/a", &[7; 32]).encode();
        let data = [&[40, 0, 0, 0][..], b"sha256:\0", &[7; 32], &[3, 0, 0, 0], b"/a\0"].concat();
        assert_eq!(bytes[..4], [10, 0, 0, 0]);
        assert_eq!(bytes[24..28], [6, 0, 0, 0]);
        assert_eq!(&bytes[28..34], b"ima-ng");
        assert_eq!(bytes[34..38], [51, 0, 0, 0]);
        assert_eq!(bytes[38..], data);
    }

    #[test]
    fn a_list_grows_entry_by_entry_and_hides_only_what_it_shall() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let (mut list, honest) = List::begin(&path, Boot::GOOD, Wrongs::default()).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(list.grow().unwrap().is_some());
        assert!(list.grow().unwrap().is_none(), "not so soon");
        assert!(std::fs::metadata(&path).unwrap().len() > size);
        let hidden = Wrongs {
            hidden: true,
            ..Wrongs::default()
        };
        let (_, extended) = List::begin(&path, Boot::GOOD, hidden).unwrap();
        assert_eq!(extended.len(), honest.len() + 1);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    }
}

//! A clock that a test sets: the wall clock of every process that it starts, by libfaketime. Waiting takes as long as ever.

use std::path::{Path, PathBuf};

/// A clock that is ahead by what the test says.
pub struct Clock {
    folder: tempfile::TempDir,
    ahead: u64,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Self {
        let clock = Self {
            folder: tempfile::tempdir().expect("a folder"),
            ahead: 0,
        };
        clock.write();
        clock
    }

    /// Sets it ahead.
    pub fn advance(&mut self, seconds: u64) {
        self.ahead += seconds;
        self.write();
    }

    /// What processes under this clock have in their environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Never seen half written.
    fn write(&self) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("+{}\n", self.ahead)).expect("the clock");
        std::fs::rename(&new, self.file()).expect("the clock");
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The library for programs with threads.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib");
    let found = folders
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| Path::exists(path));
    found.expect("libfaketime is missing: run `make test`, which installs it")
}

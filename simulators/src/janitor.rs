//! `touchmark-sim janitor`: what makes a run leave nothing behind, also when `touchmark-sim` is killed.
//!
//! It holds the read end of a pipe whose write end only the run has. When that end closes, the run is over:
//! the janitor ends every process that still carries the run's folder in its environment (CMD's own children
//! among them) and removes the folder.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::child::RUN_VARIABLE;
use crate::cli::JanitorArguments;
use crate::folder::PREFIX;

/// How often leftovers are looked for, and how long to wait in between.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Waits for the end of standard input, then cleans up.
#[must_use]
pub fn main(arguments: &JanitorArguments) -> ExitCode {
    let folder = &arguments.folder;
    let is_ours = folder
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    if !is_ours || !folder.is_absolute() {
        return ExitCode::from(2);
    }
    // Whoever ends the run by a signal to everything means the run, not its clean-up.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());

    for _ in 0..ROUNDS {
        let leftovers = processes_of(folder);
        for &process in &leftovers {
            let _ = kill_process(process, Signal::KILL);
        }
        if leftovers.is_empty() && (std::fs::remove_dir_all(folder).is_ok() || !folder.exists()) {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PAUSE);
    }
    ExitCode::FAILURE
}

/// The processes whose environment names `folder` as theirs.
fn processes_of(folder: &Path) -> Vec<Pid> {
    let mut mark = OsString::from(RUN_VARIABLE).into_vec();
    mark.push(b'=');
    mark.extend_from_slice(folder.as_os_str().as_bytes());
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == mark)
                .then_some(process)
        })
        .collect()
}

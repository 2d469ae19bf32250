//! Child processes that die with this one, whatever ends it.
//!
//! A child is started as `touchmark-sim child PARENT PROGRAM...`: that process asks the kernel for SIGKILL
//! when its parent dies (`PR_SET_PDEATHSIG`), checks that the parent is still the one that started it, and
//! then executes the program. The kernel watches the *thread* that spawned, so children are spawned from the
//! main thread only.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::ChildArguments;
use crate::error::SimError;

/// The variable by which CMD finds its devices.
pub const FOLDER_VARIABLE: &str = "TOUCHMARK_SIM";
/// The variable that every process of a run carries, so that leftovers are known. It is not [`FOLDER_VARIABLE`], which people set in their own
/// terminals.
pub const RUN_VARIABLE: &str = "TOUCHMARK_SIM_RUN";

/// This program, also after its file was replaced or deleted.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Starts the children of one run.
#[derive(Debug, Clone)]
pub struct Launcher {
    folder: PathBuf,
}

impl Launcher {
    /// For the run that lives in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// A command that will run `program` and die with this process. Arguments can be added to it; it must be
    /// spawned from the main thread.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(OURSELVES);
        command
            .arg0("touchmark-sim")
            .arg("child")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program);
        command.env(FOLDER_VARIABLE, &self.folder);
        command.env(RUN_VARIABLE, &self.folder);
        command
    }

    /// Starts a daemon whose output goes to the file `log`. It gets a process group of its own: Ctrl-C is for
    /// CMD, which may still need its devices to clean up.
    ///
    /// # Errors
    /// When the log cannot be made or the process cannot be started.
    pub fn daemon(&self, name: &str, log: &Path, command: &mut Command) -> Result<Daemon, SimError> {
        let starting = || SimError::system(format!("cannot start {name}"));
        let output = File::create(log).map_err(starting())?;
        let errors = output.try_clone().map_err(starting())?;
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let child = command.spawn().map_err(starting())?;
        Ok(Daemon {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did on its own.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// That it was not ready, with the end of what it wrote.
    #[must_use]
    pub fn not_ready(&self, what: &str) -> SimError {
        let written = std::fs::read(&self.log).unwrap_or_default();
        let written = String::from_utf8_lossy(&written);
        let end = written.trim().lines().rev().take(3).collect::<Vec<_>>();
        let end = end.into_iter().rev().collect::<Vec<_>>().join("; ");
        let detail = if end.is_empty() {
            what.to_owned()
        } else {
            format!("{what} ({end})")
        };
        SimError::NotReady {
            name: self.name.clone(),
            detail,
        }
    }

    /// A line for the user when it ended before its time.
    pub fn complaint(&mut self) -> Option<String> {
        let status = self.ended()?;
        let how = match status.signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("ended with exit code {}", status.code().unwrap_or_default()),
        };
        Some(format!("{} {how} while the command ran", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its state is thrown away with the folder, so there is nothing to wait for politely.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `touchmark-sim child`: becomes the program, bound to the parent's life.
#[must_use]
pub fn main(arguments: &ChildArguments) -> ExitCode {
    let Some((program, rest)) = arguments.command.split_first() else {
        return ExitCode::from(2);
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!(
            "touchmark-sim: cannot bind {} to its parent: {error}",
            program.display()
        );
        return ExitCode::from(3);
    }
    // The parent may have died before the kernel was asked.
    if getppid().map(|parent| parent.as_raw_pid()) != Some(arguments.parent) {
        return ExitCode::from(3);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("touchmark-sim: cannot execute {}: {error}", program.display());
    // As env(1) and the shells have it.
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

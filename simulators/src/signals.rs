//! Signals that end a run: they are CMD's to answer.
//!
//! While CMD runs, a signal is passed on to it and the run ends when CMD does. Ctrl-C reaches CMD from the
//! terminal already, so only signals that a process sent are passed on. Before CMD runs, the run just ends;
//! the kernel and the [janitor](crate::janitor) clean up.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::error::SimError;

/// Where signals go.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// CMD does not run yet.
    Nobody,
    /// CMD runs.
    Command(Pid),
    /// CMD has ended; the clean-up is short and shall not be cut off.
    CleanUp,
}

/// Passes signals on to CMD.
#[derive(Debug, Clone)]
pub struct Forwarder {
    target: Arc<Mutex<Target>>,
}

impl Forwarder {
    /// Starts listening.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn start() -> Result<Self, SimError> {
        let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])
            .map_err(SimError::system("cannot listen for signals"))?;
        let forwarder = Self {
            target: Arc::new(Mutex::new(Target::Nobody)),
        };
        let theirs = forwarder.clone();
        std::thread::spawn(move || {
            for origin in signals.forever() {
                theirs.handle(origin.signal, origin.cause);
            }
        });
        Ok(forwarder)
    }

    fn handle(&self, signal: i32, cause: Cause) {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        match *target {
            Target::Nobody => std::process::exit(128 + signal),
            Target::Command(process) if !matches!(cause, Cause::Kernel) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let _ = kill_process(process, signal);
                }
            }
            Target::Command(_) | Target::CleanUp => {}
        }
    }

    /// From now on signals go to `process`.
    pub fn attend(&self, process: Pid) {
        self.set(Target::Command(process));
    }

    /// Waits until `process` has ended but is not reaped yet, then stops passing signals on: so none can reach a
    /// stranger with the same process id.
    pub fn await_end(&self, process: Pid) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(process), options) {}
        self.set(Target::CleanUp);
    }

    fn set(&self, target: Target) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

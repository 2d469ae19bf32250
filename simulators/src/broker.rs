//! The resource manager of one TPM: it lets several programs use the TPM at once.
//!
//! swtpm has one connection and three slots for objects. tpm2-abrmd gives every connection on the bus slots of
//! its own and swaps them in and out.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::child::{Daemon, Launcher};
use crate::error::SimError;

const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// The most that tpm2-abrmd allows: connections, and transient objects of each (27 by default). It allows a
/// connection four sessions at most, which is also the default.
const LIMITS: [&str; 4] = ["--max-connections", "100", "--max-transients", "100"];

/// A running tpm2-abrmd.
#[derive(Debug)]
pub struct Broker {
    name: String,
    /// The process.
    pub daemon: Daemon,
}

impl Broker {
    /// Starts `program` for TPM `n`, which is behind the data port `port`, without waiting for it. Main thread
    /// only.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(
        launcher: &Launcher,
        program: &Path,
        bus: &Bus,
        n: usize,
        port: u16,
        folder: &Path,
    ) -> Result<Self, SimError> {
        let name = format!("com.intel.tss2.Tabrmd{n}");
        let mut command = launcher.command(program);
        command.args(["--session", "--allow-root"]).args(LIMITS);
        command.arg(format!("--dbus-name={name}"));
        command.arg(format!("--tcti=swtpm:host=127.0.0.1,port={port}"));
        command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        let daemon = launcher.daemon(
            &format!("tpm2-abrmd of TPM {n}"),
            &folder.join("abrmd.log"),
            &mut command,
        )?;
        Ok(Self { name, daemon })
    }

    /// Waits until it serves: until it gives out a connection. It owns its name on the bus somewhat earlier,
    /// while it still asks its TPM for its properties. Main thread only.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub fn ready(&mut self, launcher: &Launcher, dbus_send: &Path, bus: &Bus) -> Result<(), SimError> {
        let start = Instant::now();
        loop {
            let mut command = launcher.command(dbus_send);
            command.arg("--session").arg(format!("--dest={}", self.name));
            command.args(["--print-reply=literal", "--reply-timeout=10000"]);
            command.args([
                "/com/intel/tss2/Tabrmd/Tcti",
                "com.intel.tss2.TctiTabrmd.CreateConnection",
            ]);
            command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if command
                .status()
                .map_err(SimError::system("cannot start dbus-send"))?
                .success()
            {
                return Ok(());
            }
            if self.daemon.ended().is_some() {
                return Err(self.daemon.not_ready("it ended at once"));
            }
            if start.elapsed() > DEADLINE {
                return Err(self.daemon.not_ready("it does not answer on the bus"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// How the TSS names it.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("tabrmd:bus_name={},bus_type=session", self.name)
    }
}

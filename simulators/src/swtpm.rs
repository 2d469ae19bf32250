//! The TPM emulator as a child process.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::child::{Daemon, Launcher};
use crate::command::Channel;
use crate::error::SimError;
use crate::ports::{self, PortPair};

/// swtpm's control command that (re)starts the TPM, as a platform's reset line does; see swtpm_ioctls(3).
const CMD_INIT: u32 = 2;
const CONTROL_TIMEOUT: Duration = Duration::from_secs(20);
/// Another program can take the data port between our letting go of it and swtpm's binding it.
const ATTEMPTS: u32 = 5;

/// A running swtpm.
#[derive(Debug)]
pub struct Swtpm {
    /// Its data port; the control port is one more.
    pub port: u16,
    /// The process.
    pub daemon: Daemon,
}

/// A started swtpm that may not listen yet.
#[derive(Debug)]
pub struct Starting {
    launcher: Launcher,
    program: PathBuf,
    name: String,
    folder: PathBuf,
    swtpm: Swtpm,
}

impl Starting {
    /// Starts `program` with its state below `folder`, without waiting for it. Main thread only.
    ///
    /// # Errors
    /// When there are no ports or no process.
    pub fn spawn(launcher: &Launcher, program: &Path, name: &str, folder: &Path) -> Result<Self, SimError> {
        let swtpm = spawn(launcher, program, name, folder)?;
        Ok(Self {
            launcher: launcher.clone(),
            program: program.to_owned(),
            name: name.to_owned(),
            folder: folder.to_owned(),
            swtpm,
        })
    }

    /// Waits until it answers. Main thread only, since a lost race for the port means another start.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub fn ready(mut self) -> Result<Swtpm, SimError> {
        for attempt in 1.. {
            // The control port was listening before swtpm started, so this waits rather than fails.
            let Err(error) = initialise(self.swtpm.port) else {
                break;
            };
            if attempt == ATTEMPTS {
                return Err(self.swtpm.daemon.not_ready(&error.to_string()));
            }
            self.swtpm = spawn(&self.launcher, &self.program, &self.name, &self.folder)?;
        }
        Ok(self.swtpm)
    }
}

fn spawn(launcher: &Launcher, program: &Path, name: &str, folder: &Path) -> Result<Swtpm, SimError> {
    let finding = || SimError::system("cannot find ports for a TPM");
    let PortPair { data, control, port } = ports::bind_pair().map_err(finding())?;
    // swtpm takes a listening socket for its control channel, but binds the data port itself.
    drop(data);
    fcntl_setfd(&control, FdFlags::empty())
        .map_err(io::Error::from)
        .map_err(finding())?;
    let mut command = launcher.command(program);
    // A relative path, since commas in an absolute one would end the option.
    command
        .current_dir(folder)
        .args(["socket", "--tpm2", "--tpmstate", "dir=state,mode=0600"]);
    command
        .arg("--server")
        .arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"));
    command
        .arg("--ctrl")
        .arg(format!("type=tcp,fd={}", control.as_raw_fd()));
    command.args(["--flags", "not-need-init"]);
    let daemon = launcher.daemon(name, &folder.join("swtpm.log"), &mut command)?;
    Ok(Swtpm { port, daemon })
}

impl Swtpm {
    /// Resets the TPM; TPM2_Startup comes next.
    ///
    /// # Errors
    /// When swtpm does not answer on its control channel.
    pub fn reset(&self) -> Result<(), SimError> {
        initialise(self.port).map_err(|error| self.daemon.not_ready(&error.to_string()))
    }

    /// A connection to the data port. swtpm serves one at a time.
    ///
    /// # Errors
    /// When swtpm does not listen.
    pub fn connect(&self) -> Result<Channel, SimError> {
        Channel::connect(self.port).map_err(|error| self.daemon.not_ready(&error.to_string()))
    }
}

fn initialise(port: u16) -> io::Result<()> {
    let mut control = TcpStream::connect(ports::loopback(port + 1))?;
    control.set_read_timeout(Some(CONTROL_TIMEOUT))?;
    let mut request = CMD_INIT.to_be_bytes().to_vec();
    request.extend_from_slice(&0_u32.to_be_bytes());
    control.write_all(&request)?;
    let mut result = [0; 4];
    control.read_exact(&mut result)?;
    match u32::from_be_bytes(result) {
        0 => Ok(()),
        code => Err(io::Error::other(format!("CMD_INIT returned 0x{code:x}"))),
    }
}

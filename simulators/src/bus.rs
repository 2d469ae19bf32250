//! A private message bus: the resource managers of all TPMs are reached through it.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::{Daemon, Launcher};
use crate::error::SimError;

const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
/// sun_path has 108 bytes, with a NUL.
const LONGEST_PATH: usize = 107;

/// A running dbus-daemon.
#[derive(Debug)]
pub struct Bus {
    address: String,
    /// The process.
    pub daemon: Daemon,
}

impl Bus {
    /// Starts `program` with its socket and configuration in `folder`, and waits until it accepts connections.
    /// Main thread only.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(launcher: &Launcher, program: &Path, folder: &Path) -> Result<Self, SimError> {
        let socket = folder.join("bus");
        if socket.as_os_str().len() > LONGEST_PATH {
            return Err(SimError::SocketPath { path: socket });
        }
        let address = format!("unix:path={}", escape(socket.as_os_str().as_bytes()));
        let configuration = folder.join("bus.conf");
        std::fs::write(&configuration, configuration_for(&address))
            .map_err(SimError::system("cannot write the configuration of the bus"))?;
        let mut command = launcher.command(program);
        command
            .arg("--config-file")
            .arg(&configuration)
            .args(["--nofork", "--nopidfile"]);
        let mut daemon = launcher.daemon("dbus-daemon", &folder.join("bus.log"), &mut command)?;

        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if daemon.ended().is_some() {
                return Err(daemon.not_ready("it ended at once"));
            }
            if start.elapsed() > DEADLINE {
                return Err(daemon.not_ready("it does not accept connections"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Self { address, daemon })
    }

    /// For DBUS_SESSION_BUS_ADDRESS.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A session bus that every user may use: a plain one turns other users away.
fn configuration_for(address: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
</busconfig>
"#
    )
}

/// Escapes a value of a D-Bus address (D-Bus Specification, "Server Addresses").
fn escape(value: &[u8]) -> String {
    let mut escaped = String::new();
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-_/.*\\".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_escape_what_would_end_them() {
        assert_eq!(escape(b"/tmp/a b,c;d&e"), "/tmp/a%20b%2cc%3bd%26e");
    }
}

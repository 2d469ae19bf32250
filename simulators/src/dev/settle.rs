//! Waiting until service and agents have come to rest.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use crate::child::Daemon;
use crate::describe::HostDescription;
use crate::dev::program::Touchmark;
use crate::error::SimError;

const DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
/// How long an agent is unavailable before that is its state.
const LASTING: Duration = Duration::from_secs(4);

/// Waits until the service answers operators.
pub(super) fn service(touchmark: &Touchmark, daemon: &mut Daemon) -> Result<(), SimError> {
    until(daemon, || {
        let asked = touchmark.run(&[OsStr::new("host"), OsStr::new("list")])?;
        Ok(asked.status.success())
    })
}

/// Waits until an agent says that its host is attested or refused, or that it cannot reach its TPM; returns which.
pub(super) fn agent(
    touchmark: &Touchmark,
    host: &HostDescription,
    daemon: &mut Daemon,
) -> Result<String, SimError> {
    let mut found = String::new();
    let mut unavailable: Option<Instant> = None;
    until(daemon, || {
        let asked = touchmark.run(&[
            OsStr::new("agent"),
            OsStr::new("status"),
            OsStr::new("--output"),
            OsStr::new("json"),
            OsStr::new("--socket"),
            host.agent_socket.as_os_str(),
        ])?;
        let status: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        let state = status["state"].as_str();
        if state != Some("unavailable") {
            unavailable = None;
        }
        found = state.unwrap_or_default().to_owned();
        Ok(match state {
            Some("attested" | "refused") => true,
            // A TPM that is gone stays so; whatever else it was may pass.
            Some("unavailable") => unavailable.get_or_insert_with(Instant::now).elapsed() > LASTING,
            _ => false,
        })
    })?;
    Ok(found)
}

fn until(daemon: &mut Daemon, mut settled: impl FnMut() -> Result<bool, SimError>) -> Result<(), SimError> {
    let start = Instant::now();
    while !settled()? {
        if daemon.ended().is_some() {
            return Err(daemon.not_ready("it ended at once"));
        }
        if start.elapsed() > DEADLINE {
            return Err(daemon.not_ready("it did not come to rest in two minutes"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

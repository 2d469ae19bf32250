//! A whole small system for the life of a test: `touchmark-sim dev` around a process that waits.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::sim::binary;

/// How long a test waits for something that has to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running system; dropping it ends it.
pub struct Dev {
    child: Child,
    stdin: Option<ChildStdin>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Dev {
    /// Starts `touchmark-sim dev` with these arguments and waits until every agent has settled.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with more in the environment of service and agents.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary("touchmark-sim"))
            .envs(environment.iter().copied())
            .arg("dev")
            .args(arguments)
            .args(["--", "sh", "-c", "env; echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("touchmark-sim starts");
        let stdin = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut environment = Vec::new();
        let mut ready = false;
        for line in output.lines() {
            let line = line.expect("text");
            if line == "ready" {
                ready = true;
                break;
            }
            if let Some((name, value)) = line.split_once('=')
                && (name.starts_with("TOUCHMARK_")
                    || name.starts_with("TPM2")
                    || ["DBUS_SESSION_BUS_ADDRESS", "SOFTHSM2_CONF"].contains(&name))
            {
                environment.push((name.to_owned(), value.to_owned()));
            }
        }
        assert!(ready, "the system did not start: {:?}", child.wait());
        let folder = environment
            .iter()
            .find(|(name, _)| name == "TOUCHMARK_SIM")
            .expect("TOUCHMARK_SIM");
        let folder = PathBuf::from(&folder.1);
        Self {
            child,
            stdin,
            folder,
            environment,
        }
    }

    /// `sim.json`.
    pub fn description(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.join("sim.json")).expect("sim.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Service, agents and their helpers: number and command line of each.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let parents: std::collections::HashMap<u32, u32> = std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                // The name in parentheses may hold anything.
                let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
                Some((pid, parent))
            })
            .collect();
        let ours = |pid: &u32| {
            let mut at = *pid;
            while let Some(parent) = parents.get(&at) {
                if *parent == self.child.id() {
                    return true;
                }
                at = *parent;
            }
            false
        };
        let command = |pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        let mut all: Vec<(u32, String)> = parents
            .keys()
            .filter(|pid| ours(pid))
            .map(|pid| command(*pid))
            .collect();
        all.retain(|(_, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [program, "server" | "agent", "run", ..] => program.ends_with("/touchmark"),
                [program, "serve", ..] => program.ends_with("/touchmark-device"),
                _ => false,
            }
        });
        all
    }

    /// The folder of service and agents.
    pub fn system(&self) -> PathBuf {
        self.folder.join("system")
    }

    /// The environment of programs on these hosts.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// A command with this system in its environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs `touchmark`.
    pub fn touchmark(&self, arguments: &[&str]) -> Output {
        self.command(binary("touchmark"))
            .args(arguments)
            .output()
            .expect("touchmark runs")
    }

    /// Runs `touchmark ... --output json`, which has to succeed, and returns its document.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.touchmark(&[arguments, &["--output", "json"]].concat());
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// The entry of a host in `host list`.
    pub fn host(&self, name: &str) -> Value {
        let hosts = self.json(&["host", "list"]);
        hosts
            .as_array()
            .expect("list")
            .iter()
            .find(|host| host["name"] == name)
            .expect("host")
            .clone()
    }

    /// The audit trail, latest first.
    pub fn trail(&self) -> Vec<Value> {
        match self.json(&["events", "--limit", "10000"]) {
            Value::Array(events) => events,
            other => panic!("no list: {other}"),
        }
    }

    /// The entries of one kind.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let mut events = self.trail();
        events.retain(|event| event["kind"] == kind);
        events
    }

    /// Writes a file beside the system's own.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.system().join(name);
        std::fs::write(&path, text).expect("file is written");
        path.display().to_string()
    }

    /// Ends the agent of host `n` and starts another with the same configuration, until the test's end; returns once it is
    /// attested.
    pub fn restart_agent(&self, n: usize) -> Restarted {
        self.end_agent(n);
        let restarted = self.start_agent(n);
        let socket = self.agent_socket(n);
        eventually("the agent's attestation", || {
            self.touchmark(&["agent", "status", "--socket", &socket])
                .status
                .success()
        });
        restarted
    }

    fn agent_socket(&self, n: usize) -> String {
        self.description()["hosts"][n - 1]["agent_socket"]
            .as_str()
            .expect("socket")
            .to_owned()
    }

    /// Ends the agent of host `n`.
    pub fn end_agent(&self, n: usize) {
        let config = self.system().join(format!("agent{n}.toml")).display().to_string();
        let ended = Command::new("pkill")
            .args(["-TERM", "-f", &format!("agent run --config {config}")])
            .status()
            .expect("pkill runs");
        assert!(ended.success(), "no agent to end");
        let socket = self.agent_socket(n);
        eventually("the agent's end", || !Path::new(&socket).exists());
    }

    /// Has the agent of host `n`, which was ended, forget what it held.
    pub fn forget(&self, n: usize) {
        let kept = self.system().join(format!("agent{n}/kept.cbor"));
        if let Err(error) = std::fs::remove_file(kept) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }

    /// Starts the agent of host `n` again, until the test's end.
    pub fn start_agent(&self, n: usize) -> Restarted {
        self.start_agent_with(n, &[])
    }

    /// The same, with more in its environment.
    pub fn start_agent_with(&self, n: usize, environment: &[(&str, &str)]) -> Restarted {
        let config = self.system().join(format!("agent{n}.toml")).display().to_string();
        let child = self
            .command(binary("touchmark"))
            .args(["agent", "run", "--config", &config])
            .envs(environment.iter().copied())
            .stderr(Stdio::null())
            .spawn()
            .expect("an agent");
        Restarted(child)
    }

    /// Ends the service.
    pub fn end_server(&self) {
        let config = self.system().join("server.toml").display().to_string();
        let pattern = format!("server run --config {config}");
        let ended = Command::new("pkill")
            .args(["-TERM", "-f", &pattern])
            .status()
            .expect("pkill runs");
        assert!(ended.success(), "no service to end");
        eventually("the service's end", || {
            self.touchmark(&["host", "list"]).status.code() == Some(3)
        });
    }

    /// Ends the service and starts another with its configuration as `change` makes it, until the test's end; returns once
    /// it answers.
    pub fn restart_server(&self, change: impl FnOnce(String) -> String) -> Restarted {
        self.end_server();
        self.start_server_with(&[], change)
    }

    /// Starts the service again with more in its environment and another configuration.
    pub fn start_server_with(
        &self,
        environment: &[(&str, &str)],
        change: impl FnOnce(String) -> String,
    ) -> Restarted {
        let config = self.system().join("server.toml").display().to_string();
        let text = std::fs::read_to_string(&config).expect("configuration");
        std::fs::write(&config, change(text)).expect("configuration");
        let child = self
            .command(binary("touchmark"))
            .args(["server", "run", "--config", &config])
            .envs(environment.iter().copied())
            .stderr(Stdio::null())
            .spawn()
            .expect("a service");
        let restarted = Restarted(child);
        eventually("the service's answer", || {
            self.touchmark(&["host", "list"]).status.success()
        });
        restarted
    }

    /// The address that hosts attest at, and the one for mutual TLS.
    pub fn addresses(&self) -> (String, String) {
        let service = self.description()["service"].clone();
        let text = |member: &str| service[member].as_str().expect("address").to_owned();
        (text("attest"), text("hosts"))
    }

    /// The root's pin.
    pub fn pin(&self) -> [u8; 32] {
        let config = self.system().join("server.toml").display().to_string();
        let shown = self.json(&["ca", "show", "--config", &config]);
        hex::decode(shown["root"]["pin"].as_str().expect("pin"))
            .expect("hex")
            .try_into()
            .expect("32 bytes")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes; fails the test when it does not become that.
pub fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ask() {
        assert!(start.elapsed() < DEADLINE, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A daemon that was started again; dropping it ends it.
pub struct Restarted(Child);

impl Drop for Restarted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Simulated hosts for the life of a test: `touchmark-sim run` around a process that waits.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::Value;
use touchmark_api::device::Settings;
use touchmark_helper::Device;

/// A binary of this workspace; `make test` builds them all first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("path of the test binary");
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("target folder")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build` first, or `make test`",
        path.display()
    );
    path
}

/// Simulated devices; dropping it ends them.
pub struct Sim {
    child: Child,
    stdin: Option<ChildStdin>,
    /// `sim.json`.
    pub description: Value,
    /// The environment that programs on these hosts need.
    pub environment: Vec<(String, String)>,
}

impl Sim {
    /// Starts `touchmark-sim run` with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(binary("touchmark-sim"))
            .arg("run")
            .args(arguments)
            .args(["--", "sh", "-c", "env; echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("touchmark-sim starts");
        let stdin = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut environment = Vec::new();
        for line in output.lines() {
            let line = line.expect("text");
            if line == "ready" {
                break;
            }
            if let Some((name, value)) = line.split_once('=')
                && [
                    "TOUCHMARK_SIM",
                    "DBUS_SESSION_BUS_ADDRESS",
                    "TPM2TOOLS_TCTI",
                    "TPM2OPENSSL_TCTI",
                    "TSS2_TCTI",
                ]
                .contains(&name)
            {
                environment.push((name.to_owned(), value.to_owned()));
            }
        }
        let folder = environment
            .iter()
            .find(|(name, _)| name == "TOUCHMARK_SIM")
            .expect("TOUCHMARK_SIM is set");
        let text = std::fs::read_to_string(Path::new(&folder.1).join("sim.json")).expect("sim.json");
        let description = serde_json::from_str(&text).expect("sim.json is JSON");
        Self {
            child,
            stdin,
            description,
            environment,
        }
    }

    /// The description of TPM `n`, counted from 1.
    pub fn tpm(&self, n: usize) -> &Value {
        &self.description["tpms"][n - 1]
    }

    /// Text of a member of TPM `n`.
    pub fn text(&self, n: usize, member: &str) -> String {
        self.tpm(n)[member].as_str().expect("text").to_owned()
    }

    /// The simulator's own port of TPM `n`: without resource manager, counting or faults.
    pub fn port(&self, n: usize) -> u16 {
        u16::try_from(self.tpm(n)["port"].as_u64().expect("port")).expect("port")
    }

    /// The DER certificates of a PEM file that TPM `n` names.
    pub fn certificates(&self, path: &Value) -> Vec<Vec<u8>> {
        let text = std::fs::read_to_string(path.as_str().expect("path")).expect("PEM");
        touchmark_crypto::pem::decode_all("CERTIFICATE", &text).expect("PEM")
    }

    /// The TCTI of TPM `n`'s own port.
    pub fn tcti(&self, n: usize) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port(n))
    }

    /// Runs one of tpm2-tools on TPM 1, straight to the simulator's port; it has to succeed. Returns what it printed.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(["-T", &self.tcti(1)])
            .args(arguments)
            .output()
            .expect("tpm2-tools");
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// A device over TPM `n`, straight to the simulator's port.
    pub fn device(&self, n: usize) -> Device {
        device(self.tpm(n))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// A device over the TPM that an entry of `sim.json` describes, straight to the simulator's port.
pub fn device(tpm: &Value) -> Device {
    let settings = Settings {
        boot_log: tpm["eventlog"].as_str().map(str::to_owned),
        runtime_list: tpm["ima"].as_str().map(str::to_owned),
        ..Settings::at(format!("swtpm:host=127.0.0.1,port={}", tpm["port"]))
    };
    Device::new(&binary("touchmark-device"), settings)
}

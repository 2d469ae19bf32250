//! Power cycles of a host's TPM, and copies of its state.

use std::path::{Path, PathBuf};

use crate::dev::Dev;

fn run(dev: &Dev, program: &str, arguments: &[&str]) -> String {
    let output = dev
        .command(program)
        .args(arguments)
        .output()
        .expect("as it should be");
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("as it should be")
}

/// A power cycle of host 1's TPM.
pub fn reset(dev: &Dev) {
    let port = dev.description()["tpms"][0]["port"]
        .as_u64()
        .expect("as it should be");
    let control = format!("127.0.0.1:{}", port + 1);
    run(dev, "swtpm_ioctl", &["--tcp", &control, "-i"]);
    run(dev, "tpm2_startup", &["-c"]);
    // The kernel that boots begins a list of its own.
    let list = dev.description()["tpms"][0]["ima"]
        .as_str()
        .expect("a list")
        .to_owned();
    std::fs::write(list, b"").expect("a list");
}

/// Measures the same boot again, as the log has it.
pub fn boot_again(dev: &Dev) {
    let log = dev.description()["tpms"][0]["eventlog"]
        .as_str()
        .expect("as it should be")
        .to_owned();
    let text = run(dev, "tpm2_eventlog", &[&log]);
    let (mut pcr, mut kind, mut bank) = (String::new(), String::new(), String::new());
    let mut extends = Vec::new();
    for line in text.lines().take_while(|line| *line != "pcrs:") {
        let field = |name: &str| {
            line.trim_start_matches([' ', '-'])
                .strip_prefix(name)
                .map(|value| value.trim().trim_matches('"').to_owned())
        };
        if let Some(value) = field("PCRIndex:") {
            pcr = value;
        } else if let Some(value) = field("EventType:") {
            kind = value;
        } else if let Some(value) = field("AlgorithmId:") {
            bank = value;
        } else if let Some(value) = field("Digest:")
            && bank == "sha256"
            && kind != "EV_NO_ACTION"
        {
            extends.push(format!("{pcr}:sha256={value}"));
            bank.clear();
        }
    }
    assert!(extends.len() > 10, "{text}");
    for extend in &extends {
        run(dev, "tpm2_pcrextend", &[extend]);
    }
}

/// Measures something into a register of host 1.
pub fn extend(dev: &Dev, what: &str) {
    run(dev, "tpm2_pcrextend", &[what]);
}

fn control(dev: &Dev) -> String {
    let port = dev.description()["tpms"][0]["port"].as_u64().expect("a port");
    format!("127.0.0.1:{}", port + 1)
}

/// The state of host 1's TPM as it was at one moment: what an attacker who read it out has.
pub struct State(tempfile::TempDir);

const PARTS: [&str; 2] = ["permanent", "savestate"];

impl State {
    /// A copy of the state as it is now.
    pub fn of(dev: &Dev) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let control = control(dev);
        run(dev, "tpm2_shutdown", &["-c"]);
        let file = path(folder.path(), PARTS[0]);
        run(
            dev,
            "swtpm_ioctl",
            &["--tcp", &control, "--save", PARTS[0], &file],
        );
        run(dev, "swtpm_ioctl", &["--tcp", &control, "-i"]);
        run(dev, "tpm2_startup", &["-c"]);
        Self(folder)
    }

    /// Host 1's TPM goes on from this state.
    pub fn restore(&self, dev: &Dev) {
        let control = control(dev);
        run(dev, "swtpm_ioctl", &["--tcp", &control, "--stop"]);
        let file = path(self.0.path(), PARTS[0]);
        run(
            dev,
            "swtpm_ioctl",
            &["--tcp", &control, "--load", PARTS[0], &file],
        );
        run(dev, "swtpm_ioctl", &["--tcp", &control, "-i"]);
        run(dev, "tpm2_startup", &["-c"]);
    }
}

fn path(folder: &Path, part: &str) -> String {
    let path: PathBuf = folder.join(part);
    path.display().to_string()
}

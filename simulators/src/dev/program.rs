//! The program `touchmark`, used as an operator uses it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::child::{Daemon, Launcher};
use crate::error::SimError;
use crate::hsm::Hsm;
use crate::simulation::Simulation;
use crate::tpm::Files;

/// `touchmark`, with the environment of the system.
#[derive(Debug)]
pub(super) struct Touchmark {
    path: PathBuf,
    launcher: Launcher,
    environment: Vec<(&'static str, OsString)>,
    folder: PathBuf,
}

impl Touchmark {
    /// Looks beside this program, else on PATH; `binaries` names a folder instead.
    pub(super) fn find(
        binaries: Option<&Path>,
        simulation: &Simulation,
        folder: &Path,
    ) -> Result<Self, SimError> {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = match binaries {
            Some(folder) => vec![folder.to_owned()],
            None => beside.into_iter().chain(std::env::split_paths(&path)).collect(),
        };
        let found = folders
            .into_iter()
            .find(|folder| folder.join("touchmark").is_file() && folder.join("touchmark-device").is_file())
            .ok_or(SimError::NoTouchmark)?;
        let mut environment = simulation.environment();
        environment.push((
            "TOUCHMARK_ADMIN_SOCKET",
            folder.join("admin.sock").into_os_string(),
        ));
        Ok(Self {
            path: found.join("touchmark"),
            launcher: simulation.launcher().clone(),
            environment,
            folder: folder.to_owned(),
        })
    }

    /// The program.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Root, intermediate, installation: the four acts. Returns the root's pin.
    pub(super) fn make_authority(
        &self,
        origin: &str,
        config: &Path,
        simulation: &Simulation,
    ) -> Result<String, SimError> {
        let root = self.folder.join("root");
        let (request, certificate) = (
            self.folder.join("request.pem"),
            self.folder.join("intermediate.pem"),
        );
        let tcti = simulation
            .service_tpms()
            .first()
            .map(|tpm| tpm.tcti.clone())
            .unwrap_or_default();
        let device = [OsStr::new("--device"), OsStr::new(&tcti)];
        let s = |text: &'static str| OsStr::new(text);
        let (scheme, name) = origin.split_once("://").unwrap_or_default();
        let named = [
            "--scheme",
            scheme,
            "--ip-literal",
            name,
            "--any-name",
            "--trust-domain",
            origin,
        ];
        let named = named.map(OsStr::new);
        self.must(
            &[
                &[s("ca"), s("init"), s("--dir"), root.as_os_str()],
                &named[..],
                &device[..],
            ]
            .concat(),
        )?;
        self.must(&[
            s("ca"),
            s("request"),
            s("--config"),
            config.as_os_str(),
            s("--out"),
            request.as_os_str(),
        ])?;
        let sign = [
            s("ca"),
            s("sign-intermediate"),
            s("--yes"),
            s("--dir"),
            root.as_os_str(),
            request.as_os_str(),
            s("--out"),
            certificate.as_os_str(),
        ];
        self.must(&[&sign[..], &device[..]].concat())?;
        let root_certificate = root.join("root.pem");
        self.must(&[
            s("ca"),
            s("install"),
            s("--config"),
            config.as_os_str(),
            s("--root"),
            root_certificate.as_os_str(),
            s("--certificate"),
            certificate.as_os_str(),
        ])?;
        let shown = self.must(&[
            s("ca"),
            s("show"),
            s("--output"),
            s("json"),
            s("--config"),
            config.as_os_str(),
        ])?;
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        Ok(shown["root"]["pin"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts `touchmark server run` or `touchmark agent run`, its output in a log beside its configuration. An agent with an HSM finds
    /// its own.
    pub(super) fn daemon(&self, name: &str, config: &Path, hsm: Option<&Hsm>) -> Result<Daemon, SimError> {
        let role = if name == "server" { "server" } else { "agent" };
        let mut command = self.launcher.command(&self.path);
        command
            .args([role, "run", "--config"])
            .arg(config)
            .envs(self.environment.iter().cloned())
            .envs(hsm.map(|hsm| ("SOFTHSM2_CONF", &hsm.conf)));
        self.launcher
            .daemon(name, &self.folder.join(format!("{name}.log")), &mut command)
    }

    /// Enrols a host by its endorsement certificates or, where there are none, by the digest of its endorsement key, labelled `simulated`.
    pub(super) fn enrol(&self, name: &str, files: &Files) -> Result<(), SimError> {
        let digests: Vec<String> = files.ek_digests.iter().map(hex::encode).collect();
        let mut arguments = vec![
            OsStr::new("host"),
            OsStr::new("enrol"),
            OsStr::new("--name"),
            OsStr::new(name),
            OsStr::new("--label"),
            OsStr::new("simulated"),
        ];
        for certificate in &files.ek_certificates {
            arguments.extend([OsStr::new("--ek-cert"), certificate.as_os_str()]);
        }
        if files.ek_certificates.is_empty() {
            for digest in &digests {
                arguments.extend([OsStr::new("--ek-digest"), OsStr::new(digest)]);
            }
        }
        self.must(&arguments).map(|_| ())
    }

    /// `touchmark reference apply` or `touchmark registration apply`.
    pub(super) fn apply(&self, what: &str, file: &Path) -> Result<(), SimError> {
        self.must(&[
            OsStr::new(what),
            OsStr::new("apply"),
            OsStr::new("--file"),
            file.as_os_str(),
        ])
        .map(|_| ())
    }

    /// Applies a list of known files.
    pub(super) fn allow(&self, label: &str, file: &Path) -> Result<(), SimError> {
        self.must(&[
            OsStr::new("allowlist"),
            OsStr::new("apply"),
            OsStr::new("--label"),
            OsStr::new(label),
            OsStr::new("--file"),
            file.as_os_str(),
        ])
        .map(|_| ())
    }

    /// Runs the program; a failure is an error that carries what it said.
    pub(super) fn must(&self, arguments: &[&OsStr]) -> Result<Output, SimError> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(output);
        }
        let shown: Vec<String> = arguments
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        Err(SimError::NotReady {
            name: format!("touchmark {}", shown.join(" ")),
            detail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Runs the program.
    pub(super) fn run(&self, arguments: &[&OsStr]) -> Result<Output, SimError> {
        let mut command = self.launcher.command(&self.path);
        command
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
            .output()
            .map_err(SimError::system("cannot start touchmark"))
    }
}

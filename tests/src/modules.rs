//! PKCS#11 modules for the life of a test, each with one token: SoftHSM 2, libtpm2-pkcs11 on a simulated TPM, and whichever an owner of another names.
//!
//! `TOUCHMARK_TEST_PKCS11_MODULE` names a further module, `TOUCHMARK_TEST_PKCS11_TOKEN` its token (a PKCS#11 URI) and
//! `TOUCHMARK_TEST_PKCS11_PIN_FILE` the file with its PIN. Keys that tests make in it are destroyed by them.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use touchmark_api::device::TokenSettings;
use touchmark_helper::Token;

use crate::sim::{Sim, binary};

/// The user's PIN of tokens that tests make, and the security officer's.
pub const PIN: &str = "24681357";
/// The security officer's.
pub const SO_PIN: &str = "97531864";

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const TPM2_PKCS11: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

/// A module with a token.
pub struct Module {
    /// What it is, for messages.
    pub name: &'static str,
    /// The shared library.
    pub library: PathBuf,
    /// The token, as a URI.
    pub token: String,
    /// The file with the PIN.
    pub pin_file: PathBuf,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    _devices: Option<Sim>,
}

impl Module {
    /// Every module that there is on this machine.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::softhsm(), Self::tpm2_pkcs11()];
        all.extend(Self::named());
        all
    }

    fn new(
        name: &'static str,
        library: &str,
        environment: Vec<(String, String)>,
        devices: Option<Sim>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pin_file = folder.path().join("pin");
        let module = Self {
            name,
            library: library.into(),
            token: "pkcs11:token=fleet".into(),
            pin_file,
            folder,
            environment,
            _devices: devices,
        };
        module.write_pin(PIN);
        module
    }

    /// SoftHSM 2 with an empty token.
    pub fn softhsm() -> Self {
        let mut module = Self::new("SoftHSM 2", SOFTHSM, Vec::new(), None);
        let tokens = module.folder.path().join("tokens");
        std::fs::create_dir(&tokens).expect("folder");
        let conf = module.folder.path().join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        std::fs::write(&conf, text).expect("configuration");
        let conf = conf.display().to_string();
        module.environment.push(("SOFTHSM2_CONF".into(), conf));
        module.init_token("fleet");
        module
    }

    /// libtpm2-pkcs11 with an empty token in a simulated TPM.
    pub fn tpm2_pkcs11() -> Self {
        let sim = Sim::start(&["--tpm", "1"]);
        let variable = |wanted: &str| {
            let mut all = sim.environment.iter();
            all.find(|(name, _)| name == wanted)
                .expect("the simulator sets it")
                .1
                .clone()
        };
        let environment = vec![
            // Through the resource manager: the module leaves objects behind.
            ("TPM2_PKCS11_TCTI".into(), variable("TPM2TOOLS_TCTI")),
            (
                "DBUS_SESSION_BUS_ADDRESS".into(),
                variable("DBUS_SESSION_BUS_ADDRESS"),
            ),
            ("TPM2_PKCS11_LOG_LEVEL".into(), "0".into()),
            ("TSS2_LOG".into(), "all+NONE".into()),
        ];
        let mut module = Self::new("libtpm2-pkcs11", TPM2_PKCS11, environment, Some(sim));
        let store = module.folder.path().join("store");
        std::fs::create_dir(&store).expect("folder");
        let store = store.display().to_string();
        module.environment.push(("TPM2_PKCS11_STORE".into(), store));
        module.tool(&[
            "--slot-index",
            "0",
            "--init-token",
            "--label",
            "fleet",
            "--so-pin",
            SO_PIN,
        ]);
        module.tool(&[
            "--token-label",
            "fleet",
            "--init-pin",
            "--so-pin",
            SO_PIN,
            "--login",
            "--pin",
            PIN,
        ]);
        module
    }

    /// A simulated HSM, with these faults.
    pub fn simulated(faults: &[&str]) -> Self {
        let arguments = faults.iter().flat_map(|fault| ["--fault", fault]);
        let arguments: Vec<&str> = std::iter::once("--hsm").chain(arguments).collect();
        let sim = Sim::start(&arguments);
        let hsm = sim.description["hsms"][0].clone();
        let text = |member: &str| hsm[member].as_str().expect("text").to_owned();
        let environment = vec![("SOFTHSM2_CONF".into(), text("conf"))];
        let mut module = Self::new("simulated", &text("module"), environment, Some(sim));
        module.token = format!("pkcs11:token={}", text("token"));
        module.pin_file = text("pin_file").into();
        module
    }

    /// The module that the environment names.
    #[allow(
        clippy::disallowed_methods,
        reason = "chosen by environment: nobody else has this hardware"
    )]
    fn named() -> Option<Self> {
        let of = |name: &str| std::env::var(format!("TOUCHMARK_TEST_PKCS11_{name}")).ok();
        let library = of("MODULE")?;
        let mut module = Self::new("the module that is named", &library, Vec::new(), None);
        module.token = of("TOKEN").expect("TOUCHMARK_TEST_PKCS11_TOKEN names the token");
        module.pin_file = of("PIN_FILE")
            .expect("TOUCHMARK_TEST_PKCS11_PIN_FILE names the PIN's file")
            .into();
        Some(module)
    }

    /// Makes another token in SoftHSM.
    pub fn init_token(&self, label: &str) {
        let output = self
            .command("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                PIN,
                "--so-pin",
                SO_PIN,
            ])
            .output()
            .expect("softhsm2-util");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The variables that the module needs.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        let pairs = self.environment.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// The module's part of a service's configuration.
    pub fn section(&self) -> String {
        format!(
            "[hsm]\nmodule = \"{}\"\ntoken = \"{}\"\npin_file = \"{}\"\n",
            self.library.display(),
            self.token,
            self.pin_file.display()
        )
    }

    /// A program in the module's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs pkcs11-tool on the module; it has to succeed. Returns what it printed.
    pub fn tool(&self, arguments: &[&str]) -> String {
        let output = self.try_tool(arguments);
        assert!(
            output.status.success(),
            "{}: pkcs11-tool {arguments:?}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs pkcs11-tool on the module.
    pub fn try_tool(&self, arguments: &[&str]) -> Output {
        self.command("pkcs11-tool")
            .arg("--module")
            .arg(&self.library)
            .args(arguments)
            .output()
            .expect("pkcs11-tool")
    }

    /// The PIN.
    pub fn pin(&self) -> String {
        let text = std::fs::read_to_string(&self.pin_file).expect("PIN");
        text.trim_end().to_owned()
    }

    /// Puts a PIN into the file that is read for it.
    pub fn write_pin(&self, pin: &str) {
        std::fs::write(&self.pin_file, format!("{pin}\n")).expect("PIN");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.pin_file, private).expect("mode");
    }

    /// The settings for the token.
    pub fn settings(&self) -> TokenSettings {
        TokenSettings {
            module: self.library.display().to_string(),
            token: self.token.clone(),
            pin_file: Some(self.pin_file.display().to_string()),
            sessions: 4,
        }
    }

    /// The token behind a helper of its own.
    pub fn open(&self) -> Token {
        self.open_with(self.settings())
    }

    /// The same with other settings.
    pub fn open_with(&self, settings: TokenSettings) -> Token {
        Token::new(&self.helper(), settings)
    }

    /// `touchmark-device` in the module's environment, as a daemon's unit would have it.
    fn helper(&self) -> PathBuf {
        let path = self.folder.path().join("touchmark-device");
        let variables: Vec<String> = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        let device = quoted(&binary("touchmark-device").display().to_string());
        let text = format!("#!/bin/sh\nexec env {} {device} \"$@\"\n", variables.join(" "));
        if !path.exists() {
            write_program(&path, &text);
        }
        path
    }
}

/// Written under another name and moved, so that nobody starts what is still open for writing.
fn write_program(path: &Path, text: &str) {
    let other = path.with_extension("new");
    std::fs::write(&other, text).expect("script");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::fs::rename(&other, path).expect("rename");
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

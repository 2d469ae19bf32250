//! `agent.toml`: parsed whole before anything is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use touchmark_api::{Guarded, device::Settings};
use touchmark_external::{Endpoint, MAX_TIMEOUT, MAX_VERIFIERS};
use touchmark_helper::{Device, Token};
use touchmark_identity::{Naming, TrustDomain};
use touchmark_tls::{
    Pins,
    files::{self, FileError},
};

use crate::workload_key::HostToken;

/// Where the kernel shows the boot log.
const KERNEL_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// Where it shows what it measures (IMA).
const KERNEL_LIST: &str = "/sys/kernel/security/ima/binary_runtime_measurements";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: String,
    #[serde(default)]
    naming: Naming,
    /// SHA-256 of the SubjectPublicKeyInfo of each accepted root; pin a spare.
    root_pins: Vec<String>,
    #[serde(default = "state")]
    state: PathBuf,
    #[serde(default = "socket")]
    socket: PathBuf,
    server: Server,
    device: DeviceFile,
    #[serde(default)]
    tpm: Tpm,
    hsm: Option<HsmFile>,
    #[serde(default, rename = "verifier")]
    verifiers: Vec<VerifierFile>,
}

/// A verifier whose results about this host its agent presents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifierFile {
    name: String,
    url: String,
    /// PEM file with the roots of its web server's certificate.
    roots: Option<PathBuf>,
}

fn state() -> PathBuf {
    PathBuf::from("/var/lib/touchmark/agent")
}

fn socket() -> PathBuf {
    PathBuf::from("/run/touchmark/agent.sock")
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    attest: String,
    hosts: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    tcti: String,
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tpm {
    eventlog: Option<PathBuf>,
    ima: Option<PathBuf>,
    owner_auth_file: Option<PathBuf>,
    endorsement_auth_file: Option<PathBuf>,
}

/// A PKCS#11 token that holds workloads' keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HsmFile {
    /// The vendor's module.
    module: PathBuf,
    /// The token, as a PKCS#11 URI.
    token: String,
    /// File with the user's PIN.
    pin_file: Option<PathBuf>,
    /// Sessions that sign at the same time.
    #[serde(default = "four")]
    sessions: u32,
    /// Whether credentials say of its keys that they are simulated.
    #[serde(default)]
    simulated: bool,
}

fn four() -> u32 {
    4
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A field that does not hold.
    #[error("{path}: {what}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// A file that cannot be read or trusted.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Trust domain and accepted roots.
    pub pins: Pins,
    /// State folder.
    pub state: PathBuf,
    /// Workloads' socket.
    pub socket: PathBuf,
    /// `host:port` for attestation.
    pub attest: String,
    /// `host:port` for mutual TLS.
    pub hosts: String,
    /// The host's TPM.
    pub device: Device,
    /// The host's PKCS#11 token.
    pub token: Option<HostToken>,
    /// Verifiers whose results about this host are presented, by name.
    pub verifiers: Vec<(String, Arc<Endpoint>)>,
}

impl Config {
    /// Reads and checks a file, which others must not be able to write. Relative paths are relative to it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let wrong = |what: String| ConfigError::Field {
            path: path.to_owned(),
            what,
        };
        let text = files::read_config(path)?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let here = path.parent().unwrap_or(Path::new("."));
        let trust_domain = TrustDomain::configured(&file.trust_domain, &file.naming)
            .map_err(|error| wrong(format!("trust_domain: {error}; {}", error.remedy())))?;
        let mut roots = Vec::new();
        for pin in &file.root_pins {
            let digest: Option<[u8; 32]> = hex::decode(pin).ok().and_then(|bytes| bytes.try_into().ok());
            roots.push(digest.ok_or_else(|| {
                wrong(format!(
                    "root_pins: {pin:?} is not 64 hexadecimal digits; touchmark ca show prints them"
                ))
            })?);
        }
        if roots.is_empty() {
            return Err(wrong(
                "root_pins: name at least one root; touchmark ca show prints its digest".into(),
            ));
        }
        for address in [&file.server.attest, &file.server.hosts] {
            if !address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            {
                return Err(wrong(format!("server: {address:?} is not host:port")));
            }
        }
        let auth = |file: &Option<PathBuf>| -> Result<Guarded, FileError> {
            let secret = file.as_ref().map(|file| files::read_secret(&here.join(file)));
            Ok(secret.transpose()?.map(Guarded::from).unwrap_or_default())
        };
        let named = |file: &Option<PathBuf>, kernel: &str| {
            let path = file
                .as_ref()
                .map_or_else(|| PathBuf::from(kernel), |file| here.join(file));
            path.display().to_string()
        };
        let settings = Settings {
            tcti: file.device.tcti,
            boot_log: Some(named(&file.tpm.eventlog, KERNEL_LOG)),
            runtime_list: Some(named(&file.tpm.ima, KERNEL_LIST)),
            owner_auth: auth(&file.tpm.owner_auth_file)?,
            endorsement_auth: auth(&file.tpm.endorsement_auth_file)?,
        };
        let mut verifiers: Vec<(String, Arc<Endpoint>)> = Vec::new();
        for VerifierFile { name, url, roots } in file.verifiers {
            if verifiers.len() == MAX_VERIFIERS || verifiers.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!(
                    "verifier: {name:?} appears twice, or more than {MAX_VERIFIERS} do"
                )));
            }
            let roots = roots.map(|path| here.join(path));
            let endpoint = Endpoint::configured(&url, roots.as_deref(), MAX_TIMEOUT)
                .map_err(|error| wrong(format!("verifier {name:?}: url, roots: {error}")))?;
            verifiers.push((name, Arc::new(endpoint)));
        }
        let helper = match file.device.path {
            Some(path) => here.join(path),
            None => Device::beside_this_binary().map_err(|error| wrong(format!("device.path: {error}")))?,
        };
        let token = match &file.hsm {
            None => None,
            Some(hsm) => {
                let pin_file = hsm.pin_file.as_deref();
                let token = Token::configured(&helper, here, &hsm.module, &hsm.token, pin_file, hsm.sessions);
                let token = token.and_then(|token| token.check().map(|()| token));
                Some(HostToken {
                    token: token.map_err(wrong)?,
                    simulated: hsm.simulated,
                })
            }
        };
        Ok(Self {
            token,
            pins: Pins { trust_domain, roots },
            state: here.join(file.state),
            socket: here.join(file.socket),
            attest: file.server.attest,
            hosts: file.server.hosts,
            device: Device::new(&helper, settings),
            verifiers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "trust_domain = \"spiffe://example.org\"\nroot_pins = [\"PIN\"]\n\
        [server]\nattest = \"h:1\"\nhosts = \"h:2\"\n[device]\ntcti = \"device:/dev/tpmrm0\"\n";

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        files::write_private(&path, text.replace("PIN", &"ab".repeat(32)).as_bytes()).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_is_read_whole_or_refused_with_what_to_do() {
        assert_eq!(load(GOOD).unwrap().socket, Path::new("/run/touchmark/agent.sock"));
        for (from, to, want) in [
            ("spiffe://example.org", "spiffe://Example.org", "trust_domain"),
            ("[\"PIN\"]", "[]", "ca show"),
            ("PIN", "abc", "hexadecimal"),
            ("h:1", "h", "host:port"),
            ("[device]", "[device]\nbogus = 1", "bogus"),
            (
                "[device]",
                "[[verifier]]\nname = \"v\"\nurl = \"http://v\"\n[device]",
                "https",
            ),
            (
                "[device]",
                "[[verifier]]\nname = \"v\"\nurl = \"https://v\"\n[device]",
                "roots",
            ),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}

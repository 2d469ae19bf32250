//! `sim.json`: what a run has, for programs that want more than the environment says.
//!
//! Kinds of devices that were not asked for are absent. Paths are absolute, certificates PEM.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The whole document.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// DBUS_SESSION_BUS_ADDRESS of the bus that the resource managers are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Digests of the files that hosts without a fault measure while they run, as sha256sum prints them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_files: Option<PathBuf>,
    /// The TPMs, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tpms: Vec<TpmDescription>,
    /// The HSMs, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hsms: Vec<HsmDescription>,
    /// The credential service of a `dev` system, with its own devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceDescription>,
    /// The hosts of a `dev` system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostDescription>,
}

/// The credential service of a `dev` system.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceDescription {
    /// Its own TPMs.
    pub tpms: Vec<TpmDescription>,
    /// Its configuration.
    pub config: PathBuf,
    /// Its operators' socket.
    pub admin_socket: PathBuf,
    /// Where hosts attest.
    pub attest: String,
    /// Where hosts ask over mutual TLS.
    pub hosts: String,
    /// Where the trust bundle is served.
    pub bundle: String,
}

/// A host of a `dev` system.
#[derive(Debug, Clone, Serialize)]
pub struct HostDescription {
    /// Number of its TPM.
    pub n: usize,
    /// Its name at the service.
    pub name: String,
    /// Its agent's socket.
    pub agent_socket: PathBuf,
}

/// A TPM.
#[derive(Debug, Clone, Serialize)]
pub struct TpmDescription {
    /// Its number, from 1.
    pub n: usize,
    /// How the TSS reaches its resource manager; needs the bus in the environment.
    pub tcti: String,
    /// swtpm's own data port on 127.0.0.1; its control channel is on the next port.
    pub port: u16,
    /// The TCG2 event log of its host's boot.
    pub eventlog: PathBuf,
    /// What its host's kernel measures while it runs (IMA), binary.
    pub ima: PathBuf,
    /// Its EK certificates.
    pub ek_certs: Vec<PathBuf>,
    /// SHA-256 of each endorsement key's SubjectPublicKeyInfo, hexadecimal.
    pub ek_digests: Vec<String>,
    /// The certificate of the attestation key, where a cloud made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ak_cert: Option<PathBuf>,
    /// Certificates between those of the keys and a root.
    pub maker_intermediates: Vec<PathBuf>,
    /// The root that relying parties pin.
    pub maker_root: PathBuf,
    /// swtpm's process.
    pub pid: u32,
}

/// An HSM: a token in SoftHSM.
#[derive(Debug, Clone, Serialize)]
pub struct HsmDescription {
    /// Its number, from 1.
    pub n: usize,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// File with the user's PIN.
    pub pin_file: PathBuf,
    /// SOFTHSM2_CONF of whoever uses it.
    pub conf: PathBuf,
}

impl Description {
    /// Writes `sim.json` into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(folder.join("sim.json"), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_is_absent() {
        let nothing = Description {
            bus: None,
            known_files: None,
            tpms: Vec::new(),
            hsms: Vec::new(),
            service: None,
            hosts: Vec::new(),
        };
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
    }
}

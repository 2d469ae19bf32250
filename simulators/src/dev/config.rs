//! The files of the system: configuration of service and agents, the registration of the calling user.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::SimError;
use crate::hsm::Hsm;
use crate::ports::loopback;
use crate::simulation::{Simulation, Tpm};
use crate::tpm::TpmKind;

/// Where the service listens.
#[derive(Debug)]
pub(super) struct Addresses {
    ports: [u16; 3],
}

impl Addresses {
    /// Free ports on the loopback interface.
    pub(super) fn free() -> Result<Self, SimError> {
        let bind = || TcpListener::bind(loopback(0)).map_err(SimError::system("cannot find a free port"));
        // All three are held until all three are known, so that they differ.
        let held = [bind()?, bind()?, bind()?];
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&held) {
            *port = listener
                .local_addr()
                .map_err(SimError::system("cannot find a free port"))?
                .port();
        }
        Ok(Self { ports })
    }

    fn address(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.ports.get(n).copied().unwrap_or_default())
    }

    pub(super) fn attest(&self) -> String {
        self.address(0)
    }

    pub(super) fn hosts(&self) -> String {
        self.address(1)
    }

    pub(super) fn bundle(&self) -> String {
        self.address(2)
    }

    pub(super) fn admin_socket(&self, folder: &Path) -> PathBuf {
        folder.join("admin.sock")
    }
}

/// The first lines of service's and agents' configuration: the trust domain, and what has to be said where its name is
/// an unusual one.
fn trust_domain(origin: &str) -> String {
    let (scheme, name) = origin.split_once("://").unwrap_or_default();
    let mut text = format!("trust_domain = {origin:?}\n");
    if !["spiffe", "wimse"].contains(&scheme) {
        text += &format!("naming.scheme = {scheme:?}\n");
    }
    if name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok() {
        text += &format!("naming.ip_literal = {name:?}\n");
    }
    text
}

/// `server.toml`.
pub(super) fn server(
    origin: &str,
    simulation: &Simulation,
    addresses: &Addresses,
    folder: &Path,
) -> Result<PathBuf, SimError> {
    let tcti = simulation
        .service_tpms()
        .first()
        .map(|tpm| tpm.tcti.clone())
        .unwrap_or_default();
    let cloud = if simulation
        .host_tpms()
        .iter()
        .any(|tpm| tpm.kind == TpmKind::Virtual)
    {
        format!(
            "[[tpm.maker]]\nname = \"simulated-cloud\"\nroots = {:?}\nintermediates = {:?}\nkind = \"hypervisor\"\n\
             attestation_certificates = true\nsimulated = true\n",
            simulation.cloud_root(),
            simulation.cloud_intermediate(),
        )
    } else {
        String::new()
    };
    let text = format!(
        "{domain}\
         state = {state:?}\n\
         [listen]\nattest = \"{attest}\"\nhosts = \"{hosts}\"\nbundle = \"{bundle}\"\n\
         [admin]\nsocket = {socket:?}\n\
         [device]\ntcti = \"{tcti}\"\n\
         [ima]\nenabled = true\n\
         [[tpm.maker]]\nname = \"simulated\"\nroots = {root:?}\nkind = \"physical\"\nsimulated = true\n{cloud}",
        domain = trust_domain(origin),
        state = folder.join("server"),
        attest = addresses.attest(),
        hosts = addresses.hosts(),
        bundle = addresses.bundle(),
        socket = addresses.admin_socket(folder),
        root = simulation.maker_root(),
    );
    write(&folder.join("server.toml"), &text)
}

/// `agentN.toml`.
pub(super) fn agent(
    origin: &str,
    folder: &Path,
    tpm: &Tpm,
    hsm: Option<&Hsm>,
    addresses: &Addresses,
    pin: &str,
    socket: &Path,
) -> Result<PathBuf, SimError> {
    let text = format!(
        "{domain}\
         root_pins = [\"{pin}\"]\n\
         state = {state:?}\n\
         socket = {socket:?}\n\
         [server]\nattest = \"{attest}\"\nhosts = \"{hosts}\"\n\
         [device]\ntcti = \"{tcti}\"\n\
         [tpm]\neventlog = {log:?}\nima = {ima:?}\n{hsm}",
        domain = trust_domain(origin),
        state = folder.join(format!("agent{}", tpm.n)),
        attest = addresses.attest(),
        hosts = addresses.hosts(),
        tcti = tpm.broker.tcti(),
        log = tpm.files.event_log,
        ima = tpm.files.runtime_path(),
        hsm = hsm.map_or_else(String::new, Hsm::section),
    );
    write(&folder.join(format!("agent{}.toml", tpm.n)), &text)
}

/// The registration of the calling user, and its identifier.
pub(super) fn registration(
    origin: &str,
    simulation: &Simulation,
    folder: &Path,
) -> Result<(PathBuf, String), SimError> {
    let has = |kind| simulation.host_tpms().iter().any(|tpm| tpm.kind == kind);
    let custody: Vec<&str> = [(TpmKind::Chip, "hardware"), (TpmKind::Virtual, "hypervisor")]
        .into_iter()
        .filter_map(|(kind, class)| has(kind).then_some(class))
        .collect();
    let uid = rustix::process::getuid().as_raw();
    let identifier = format!("{origin}/user/{uid}");
    let text = format!(
        "label = \"dev\"\n\
         [[registration]]\n\
         name = \"user-{uid}\"\n\
         identifier = \"{identifier}\"\n\
         workload = {{ uid = {uid} }}\n\
         kinds = [\"x509\", \"wit\"]\n\
         custody = {custody:?}\n\
         dns_names = [\"localhost\"]\n",
    );
    Ok((write(&folder.join("registration.toml"), &text)?, identifier))
}

/// Writes a file that others cannot write: the programs insist on it.
pub(super) fn write(path: &Path, text: &str) -> Result<PathBuf, SimError> {
    let writing = || SimError::system(format!("cannot write {}", path.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .map_err(writing())?;
    file.write_all(text.as_bytes()).map_err(writing())?;
    Ok(path.to_owned())
}

//! `touchmark-sim dev`: a whole small system in the foreground, for a person or a test to play with.
//!
//! Devices, the credential service with keys in a TPM of its own, one enrolled agent per host TPM, reference values of
//! the boot that hosts without a fault share, and a registration for the calling user. The programs are the real ones,
//! started as an operator would start them.

mod config;
mod program;
mod reference;
mod settle;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::child::Daemon;
use crate::cli::DevArguments;
use crate::count::Counter;
use crate::describe::{HostDescription, ServiceDescription};
use crate::error::SimError;
use crate::run;
use crate::signals::Forwarder;
use crate::simulation::{Plan, Simulation};

use config::Addresses;
use program::Touchmark;

/// Runs the system for the life of the command, or until Ctrl-C.
#[must_use]
pub fn main(arguments: DevArguments) -> ExitCode {
    start(arguments).map_or_else(|error| run::report(&error), ExitCode::from)
}

fn start(arguments: DevArguments) -> Result<u8, SimError> {
    let counter = arguments.count.as_deref().map(Counter::append_to).transpose()?;
    let mut devices = arguments.devices;
    if devices.hsm && devices.tpms.is_none() && devices.vtpms.is_none() {
        return Err(SimError::HostWithoutTpm);
    }
    if devices.vtpms.is_none() {
        devices.tpms.get_or_insert(1);
    }
    let plan = Plan {
        service: true,
        ..run::plan(devices, counter, arguments.verbose)?
    };
    let forwarder = Forwarder::start()?;
    let mut simulation = Simulation::start(&plan)?;
    let system = System::start(
        &arguments.trust_domain,
        &simulation,
        arguments.binaries.as_deref(),
    )?;
    simulation.describe_system(&system.service, &system.hosts)?;
    let more = system.environment();
    let command = match arguments.command.is_empty() {
        false => arguments.command,
        true => {
            eprint!("{}", system.welcome());
            vec![OsString::from("sleep"), OsString::from("infinity")]
        }
    };
    let quiet = command.first().is_some_and(|program| program == "sleep");
    let code = run::execute(&mut simulation, &forwarder, &command, more)?;
    drop(system);
    // Ctrl-C is how a person ends it.
    Ok(if quiet && code == 130 { 0 } else { code })
}

/// How often the service is started on other ports because somebody else took one in the meantime.
const ATTEMPTS: usize = 5;

/// Makes the authority, starts the service and waits until it answers.
fn start_service(
    origin: &str,
    touchmark: &Touchmark,
    simulation: &Simulation,
    folder: &Path,
) -> Result<(Vec<Daemon>, Addresses, PathBuf, String), SimError> {
    let mut pin = None;
    let mut attempt = 1;
    loop {
        let addresses = Addresses::free()?;
        let config = config::server(origin, simulation, &addresses, folder)?;
        let pin = match &pin {
            Some(pin) => pin,
            None => pin.insert(touchmark.make_authority(origin, &config, simulation)?),
        };
        let mut daemon = touchmark.daemon("server", &config, None)?;
        match settle::service(touchmark, &mut daemon) {
            Ok(()) => return Ok((vec![daemon], addresses, config, pin.clone())),
            Err(SimError::NotReady { detail, .. })
                if detail.contains("cannot listen") && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The service and the agents of a simulation. Dropped before the devices that they use.
struct System {
    service: ServiceDescription,
    hosts: Vec<HostDescription>,
    identifier: String,
    folder: PathBuf,
    /// How each host stands, a line for each.
    standing: String,
    touchmark: PathBuf,
    _daemons: Vec<Daemon>,
}

impl System {
    /// Starts everything and waits until each agent is attested, refused, or cannot reach its TPM.
    fn start(origin: &str, simulation: &Simulation, binaries: Option<&Path>) -> Result<Self, SimError> {
        let folder = simulation.folder().join("system");
        std::fs::create_dir(&folder).map_err(SimError::system("cannot make the system's folder"))?;
        let touchmark = Touchmark::find(binaries, simulation, &folder)?;
        let (mut daemons, addresses, server_config, pin) =
            start_service(origin, &touchmark, simulation, &folder)?;
        let service = ServiceDescription {
            tpms: simulation.service_tpms(),
            config: server_config,
            admin_socket: addresses.admin_socket(&folder),
            attest: addresses.attest(),
            hosts: addresses.hosts(),
            bundle: addresses.bundle(),
        };
        touchmark.apply("reference", &reference::good_boot(&folder)?)?;
        touchmark.allow("simulated-files", &simulation.known_files())?;
        let (registration, identifier) = config::registration(origin, simulation, &folder)?;
        touchmark.apply("registration", &registration)?;
        // From here the hosts' own faults are in effect, and their commands are counted.
        simulation.begin();
        let mut hosts = Vec::new();
        for tpm in simulation.host_tpms() {
            let name = format!("host-{}", tpm.n);
            touchmark.enrol(&name, &tpm.files)?;
            let socket = folder.join(format!("agent{}.sock", tpm.n));
            let hsm = simulation.hsms().iter().find(|hsm| hsm.n == tpm.n);
            let config = config::agent(origin, &folder, tpm, hsm, &addresses, &pin, &socket)?;
            daemons.push(touchmark.daemon(&format!("agent{}", tpm.n), &config, hsm)?);
            hosts.push(HostDescription {
                n: tpm.n,
                name,
                agent_socket: socket,
            });
        }
        let mut standing = String::new();
        for (host, daemon) in hosts.iter().zip(daemons.iter_mut().skip(1)) {
            let state = settle::agent(&touchmark, host, daemon)?;
            let hint = match state.as_str() {
                "attested" => String::new(),
                "refused" => format!(" (touchmark why {})", host.name),
                _ => " (its TPM does not answer)".to_owned(),
            };
            standing += &format!("{} is {state}{hint}\n", host.name);
        }
        Ok(Self {
            service,
            hosts,
            identifier,
            standing,
            touchmark: touchmark.path().to_owned(),
            folder,
            _daemons: daemons,
        })
    }

    /// The variables by which the programs find service and agent.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![(
            "TOUCHMARK_ADMIN_SOCKET",
            self.service.admin_socket.clone().into_os_string(),
        )];
        if let Some(first) = self.hosts.first() {
            variables.push((
                "TOUCHMARK_AGENT_SOCKET",
                first.agent_socket.clone().into_os_string(),
            ));
        }
        if let Some(folder) = self.touchmark.parent() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(folders) {
                variables.push(("PATH", path));
            }
        }
        variables
    }

    fn welcome(&self) -> String {
        let agent = self
            .hosts
            .first()
            .map(|host| host.agent_socket.display().to_string())
            .unwrap_or_default();
        format!(
            "A small system is running; its files are in {folder}.\n{standing}\nIn another terminal:\n\n\
             export TOUCHMARK_SIM={simulation}\n\
             export TOUCHMARK_AGENT_SOCKET={agent}\n\
             export TOUCHMARK_ADMIN_SOCKET={admin}\n\
             export PATH={path}:$PATH\n\n\
             touchmark workload fetch x509        # you are {identifier}\n\
             touchmark workload prove --audience https://api.example.org/\n\
             touchmark host list                  # and: touchmark why HOST\n\n\
             Ctrl-C ends it and leaves nothing behind.\n",
            folder = self.folder.display(),
            simulation = self.folder.parent().unwrap_or(&self.folder).display(),
            standing = self.standing,
            admin = self.service.admin_socket.display(),
            path = self
                .touchmark
                .parent()
                .map(|folder| folder.display().to_string())
                .unwrap_or_default(),
            identifier = self.identifier,
        )
    }
}

//! All devices of a run.
//!
//! A simulation is started on the main thread, which has to live as long as it does: the children die with the
//! thread that started them. Dropping it ends them, newest first, and removes the folder.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::broker::Broker;
use crate::bus::Bus;
use crate::child::{Daemon, FOLDER_VARIABLE, Launcher, RUN_VARIABLE};
use crate::count::Counter;
use crate::describe::{Description, HostDescription, ServiceDescription, TpmDescription};
use crate::error::SimError;
use crate::fault::{Fault, Faults};
use crate::folder::RunFolder;
use crate::hsm::Hsm;
use crate::ima;
use crate::maker::{Encoded, Maker};
use crate::programs::{HsmPrograms, Programs};
use crate::proxy::Proxy;
use crate::swtpm::{Starting, Swtpm};
use crate::tpm::{self, Files, TpmKind};

/// What a simulation shall have.
#[derive(Debug, Default)]
pub struct Plan {
    /// The kind and the faults of each TPM; as many TPMs as elements.
    pub tpms: Vec<(TpmKind, Faults)>,
    /// The faults of each HSM; as many HSMs as elements.
    pub hsms: Vec<Faults>,
    /// Whether there is one TPM more, for the credential service.
    pub service: bool,
    /// Where the test maker is kept; a fresh one if absent.
    pub maker: Option<PathBuf>,
    /// Where commands are counted.
    pub counter: Option<Counter>,
    /// Whether to tell on standard error what was set up.
    pub verbose: bool,
}

/// A TPM and what belongs to it.
#[derive(Debug)]
pub struct Tpm {
    /// Its number, from 1.
    pub n: usize,
    /// What kind it is.
    pub kind: TpmKind,
    /// Its resource manager. Fields are dropped in order, and this one speaks to the next.
    pub broker: Broker,
    /// The emulator.
    pub swtpm: Swtpm,
    /// Its files.
    pub files: Files,
}

/// The running devices of a run.
#[derive(Debug)]
pub struct Simulation {
    tpms: Vec<Tpm>,
    /// How many of them are hosts'; the rest are the service's.
    hosts: usize,
    bus: Option<Bus>,
    hsms: Vec<Hsm>,
    maker_root: PathBuf,
    cloud_root: PathBuf,
    started: Arc<AtomicBool>,
    launcher: Launcher,
    /// Last, since the daemons write into it.
    folder: RunFolder,
}

impl Simulation {
    /// Makes everything that `plan` asks for. Main thread only.
    ///
    /// # Errors
    /// When a device cannot be had. What was made by then is gone again.
    pub fn start(plan: &Plan) -> Result<Self, SimError> {
        let folder = RunFolder::create()?;
        let launcher = Launcher::new(folder.path());
        let maker_root = folder.path().join("maker-root.pem");
        let cloud_root = folder.path().join("cloud-root.pem");
        let started = Arc::new(AtomicBool::new(false));
        let mut simulation = Self {
            tpms: Vec::new(),
            hosts: plan.tpms.len(),
            bus: None,
            hsms: Vec::new(),
            maker_root,
            cloud_root,
            started,
            launcher,
            folder,
        };
        let mut tpms = plan.tpms.clone();
        tpms.extend(plan.service.then(|| (TpmKind::Chip, Faults::default())));
        if !tpms.is_empty() {
            simulation.make_tpms(plan, &tpms)?;
        }
        if !plan.hsms.is_empty() {
            simulation.make_hsms(plan)?;
        }
        let path = simulation.folder.path();
        simulation
            .describe()
            .write(path)
            .map_err(SimError::system("cannot write sim.json"))?;
        Ok(simulation)
    }

    fn make_tpms(&mut self, plan: &Plan, tpms: &[(TpmKind, Faults)]) -> Result<(), SimError> {
        let begin = Instant::now();
        let programs = Programs::find()?;
        let mut starting = Vec::new();
        for index in 0..tpms.len() {
            let n = index + 1;
            let folder = tpm_folder(self.folder.path(), n)?;
            let name = format!("swtpm of TPM {n}");
            starting.push((
                Starting::spawn(&self.launcher, &programs.swtpm, &name, &folder)?,
                folder,
            ));
        }
        let maker = match &plan.maker {
            Some(folder) => Maker::kept_in(folder)?,
            None => Maker::fresh()?,
        };
        publish(&self.maker_root, maker.root())?;
        let virtuals = tpms.iter().any(|(kind, _)| *kind == TpmKind::Virtual);
        let cloud = match (&plan.maker, virtuals) {
            (_, false) => None,
            (Some(folder), true) => Some(Maker::kept_in(&folder.join("cloud"))?),
            (None, true) => Some(Maker::fresh()?),
        };
        if let Some(cloud) = &cloud {
            publish(&self.cloud_root, cloud.root())?;
            publish(&self.cloud_intermediate(), cloud.intermediate())?;
        }
        std::fs::write(self.known_files(), ima::known_files())
            .map_err(SimError::system("cannot write the digests of known files"))?;
        let unknown_maker = match tpms.iter().any(|(_, faults)| faults.has(Fault::EkUnknownMaker)) {
            true => Some(Maker::fresh()?),
            false => None,
        };
        let mut running = Vec::new();
        for (starting, folder) in starting {
            running.push((starting.ready()?, folder));
        }

        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = running
                .iter()
                .zip(tpms)
                .map(|((swtpm, folder), (kind, faults))| {
                    let other = unknown_maker
                        .as_ref()
                        .filter(|_| faults.has(Fault::EkUnknownMaker));
                    let usual = cloud.as_ref().filter(|_| *kind == TpmKind::Virtual);
                    let maker = other.or(usual).unwrap_or(&maker);
                    scope.spawn(move || tpm::make(swtpm, maker, *kind, faults, folder))
                })
                .collect();
            // Meanwhile, on this thread, since it starts a process.
            self.bus = Some(Bus::start(
                &self.launcher,
                &programs.dbus_daemon,
                self.folder.path(),
            )?);
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
            joined.collect::<Result<Vec<Files>, SimError>>()
        })?;
        let Some(bus) = &self.bus else { return Ok(()) };

        for (((swtpm, folder), files), (index, (kind, faults))) in
            running.into_iter().zip(made).zip(tpms.iter().enumerate())
        {
            let n = index + 1;
            let proxy = Proxy {
                n,
                upstream: swtpm.port,
                faults: faults.clone(),
                counter: plan.counter.clone(),
                runtime: Arc::clone(&files.runtime),
                started: Arc::clone(&self.started),
            };
            let port = proxy.serve()?;
            let broker = Broker::start(&self.launcher, &programs.abrmd, bus, n, port, &folder)?;
            self.tpms.push(Tpm {
                n,
                kind: *kind,
                broker,
                swtpm,
                files,
            });
        }
        for tpm in &mut self.tpms {
            tpm.broker.ready(&self.launcher, &programs.dbus_send, bus)?;
            if plan.verbose {
                let (n, tcti, port) = (tpm.n, tpm.broker.tcti(), tpm.swtpm.port);
                let seconds = begin.elapsed().as_secs_f32();
                eprintln!("touchmark-sim: TPM {n}: {tcti}, swtpm on port {port}, ready after {seconds:.2} s");
            }
        }
        Ok(())
    }

    fn make_hsms(&mut self, plan: &Plan) -> Result<(), SimError> {
        let programs = HsmPrograms::find()?;
        for (index, faults) in plan.hsms.iter().enumerate() {
            let n = index + 1;
            let folder = self.folder.path().join(format!("hsm{n}"));
            let making = || SimError::system("cannot make an HSM's folder");
            std::fs::create_dir(&folder).map_err(making())?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).map_err(making())?;
            let hsm = Hsm::make(&programs, n, faults, &folder)?;
            if plan.verbose {
                let (token, module) = (&hsm.token, hsm.module.display());
                eprintln!("touchmark-sim: HSM {n}: token {token}, module {module}");
            }
            self.hsms.push(hsm);
        }
        Ok(())
    }

    /// The hosts' HSMs, by number.
    #[must_use]
    pub fn hsms(&self) -> &[Hsm] {
        &self.hsms
    }

    /// The hosts' TPMs, by number.
    #[must_use]
    pub fn host_tpms(&self) -> &[Tpm] {
        self.tpms.get(..self.hosts).unwrap_or_default()
    }

    /// The service's own TPMs.
    #[must_use]
    pub fn service_tpms(&self) -> Vec<TpmDescription> {
        self.tpms
            .iter()
            .skip(self.hosts)
            .map(|tpm| self.describe_tpm(tpm))
            .collect()
    }

    /// The root that relying parties pin for chips.
    #[must_use]
    pub fn maker_root(&self) -> &Path {
        &self.maker_root
    }

    /// The root that relying parties pin for virtual TPMs.
    #[must_use]
    pub fn cloud_root(&self) -> &Path {
        &self.cloud_root
    }

    /// The certificate between it and those of attestation keys, which no TPM brings along.
    #[must_use]
    pub fn cloud_intermediate(&self) -> PathBuf {
        self.folder.path().join("cloud-intermediate.pem")
    }

    /// The digests of the files that hosts without a fault measure, as sha256sum prints them.
    #[must_use]
    pub fn known_files(&self) -> PathBuf {
        self.folder.path().join("known-files.sha256")
    }

    /// Writes `sim.json` again, with the system that runs on the devices.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe_system(
        &self,
        service: &ServiceDescription,
        hosts: &[HostDescription],
    ) -> Result<(), SimError> {
        let description = Description {
            service: Some(service.clone()),
            hosts: hosts.to_vec(),
            ..self.describe()
        };
        description
            .write(self.folder.path())
            .map_err(SimError::system("cannot write sim.json"))
    }

    /// What there is, for `sim.json`.
    #[must_use]
    pub fn describe(&self) -> Description {
        Description {
            bus: self.bus.as_ref().map(|bus| bus.address().to_owned()),
            known_files: (!self.tpms.is_empty()).then(|| self.known_files()),
            tpms: self
                .host_tpms()
                .iter()
                .map(|tpm| self.describe_tpm(tpm))
                .collect(),
            hsms: self.hsms.iter().map(Hsm::describe).collect(),
            service: None,
            hosts: Vec::new(),
        }
    }

    fn describe_tpm(&self, tpm: &Tpm) -> TpmDescription {
        TpmDescription {
            n: tpm.n,
            tcti: tpm.broker.tcti(),
            port: tpm.swtpm.port,
            eventlog: tpm.files.event_log.clone(),
            ima: tpm.files.runtime_path(),
            ek_certs: tpm.files.ek_certificates.clone(),
            ek_digests: tpm.files.ek_digests.iter().map(hex::encode).collect(),
            ak_cert: tpm.files.ak_certificate.clone(),
            maker_intermediates: tpm.files.intermediates.clone(),
            maker_root: match tpm.kind {
                TpmKind::Chip => self.maker_root.clone(),
                TpmKind::Virtual => self.cloud_root.clone(),
            },
            pid: tpm.swtpm.daemon.pid(),
        }
    }

    /// The variables by which a program finds device 1, and `sim.json`.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![
            (FOLDER_VARIABLE, self.folder.path().into()),
            (RUN_VARIABLE, self.folder.path().into()),
        ];
        if let (Some(bus), Some(first)) = (&self.bus, self.tpms.first()) {
            variables.push(("DBUS_SESSION_BUS_ADDRESS", bus.address().into()));
            for name in [
                "TPM2TOOLS_TCTI",
                "TPM2OPENSSL_TCTI",
                "TPM2_PKCS11_TCTI",
                "TSS2_TCTI",
            ] {
                variables.push((name, first.broker.tcti().into()));
            }
        }
        if let Some(first) = self.hsms.first() {
            variables.push(("SOFTHSM2_CONF", first.conf.clone().into()));
        }
        variables
    }

    /// Starts children that die with this process.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// The run's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// From now on commands are counted, and faults in the TPMs' behaviour are in effect.
    pub fn begin(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// A line for each daemon that ended before its time.
    pub fn complaints(&mut self) -> Vec<String> {
        let bus = self.bus.iter_mut().map(|bus| &mut bus.daemon);
        let tpms = self
            .tpms
            .iter_mut()
            .flat_map(|tpm| [&mut tpm.broker.daemon, &mut tpm.swtpm.daemon]);
        bus.chain(tpms).filter_map(Daemon::complaint).collect()
    }
}

/// Writes a certificate for relying parties.
fn publish(path: &Path, certificate: &Encoded) -> Result<(), SimError> {
    std::fs::write(path, &certificate.pem).map_err(SimError::system("cannot write a maker's certificate"))
}

fn panicked() -> SimError {
    SimError::NotReady {
        name: "a TPM".to_owned(),
        detail: "the thread that made it panicked".to_owned(),
    }
}

/// A TPM's folder: its files are for everybody, its state is not.
fn tpm_folder(run: &Path, n: usize) -> Result<PathBuf, SimError> {
    let folder = run.join(format!("tpm{n}"));
    let making = || SimError::system("cannot make a TPM's folder");
    std::fs::create_dir(&folder).map_err(making())?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).map_err(making())?;
    DirBuilder::new()
        .mode(0o700)
        .create(folder.join("state"))
        .map_err(making())?;
    Ok(folder)
}

//! Simulated HSMs: a SoftHSM token each, through SoftHSM itself or, where something is to be wrong with it, through a module that stands before it.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::describe::HsmDescription;
use crate::error::SimError;
use crate::fault::{Fault, Faults};
use crate::programs::HsmPrograms;

/// The module that stands before SoftHSM, in C.
const FAULTY: &str = include_str!("faulty.c");
/// What a real module at the end of a network takes for a signature longer, in microseconds.
const SLOW_US: u32 = 5_000;

/// A token, and what leads to it.
#[derive(Debug)]
pub struct Hsm {
    /// Its number, from 1.
    pub n: usize,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// File with the user's PIN.
    pub pin_file: PathBuf,
    /// SoftHSM's configuration, which names the folder with this token.
    pub conf: PathBuf,
}

impl Hsm {
    /// Makes a token in `folder`, which has to be there.
    ///
    /// # Errors
    /// When SoftHSM, or for a fault a compiler, is not there or does not do it.
    pub fn make(programs: &HsmPrograms, n: usize, faults: &Faults, folder: &Path) -> Result<Self, SimError> {
        let making = || SimError::system("cannot make an HSM's folder");
        let tokens = folder.join("tokens");
        DirBuilder::new().mode(0o700).create(&tokens).map_err(making())?;
        let conf = folder.join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        fs::write(&conf, text).map_err(making())?;
        let (pin, officer) = (random_pin()?, random_pin()?);
        let pin_file = folder.join("pin");
        fs::write(&pin_file, format!("{pin}\n")).map_err(making())?;
        fs::set_permissions(&pin_file, Permissions::from_mode(0o600)).map_err(making())?;
        let token = format!("simulated-{n}");
        // The tool takes PINs on its command line alone: they are of a simulation, and live as long as it.
        let output = Command::new(&programs.softhsm2_util)
            .args([
                "--init-token",
                "--free",
                "--label",
                &token,
                "--pin",
                &pin,
                "--so-pin",
                &officer,
            ])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .map_err(SimError::system("cannot start softhsm2-util"))?;
        if !output.status.success() {
            return Err(not_ready(n, &String::from_utf8_lossy(&output.stderr)));
        }
        let module = if faults.of_hsm() {
            faulty(programs, n, faults, folder)?
        } else {
            programs.module.clone()
        };
        Ok(Self {
            n,
            module,
            token,
            pin_file,
            conf,
        })
    }

    /// The part of an agent's configuration that names it.
    pub(crate) fn section(&self) -> String {
        format!(
            "[hsm]\nmodule = {:?}\ntoken = \"pkcs11:token={}\"\npin_file = {:?}\nsimulated = true\n",
            self.module, self.token, self.pin_file
        )
    }

    /// For `sim.json`.
    #[must_use]
    pub fn describe(&self) -> HsmDescription {
        HsmDescription {
            n: self.n,
            module: self.module.clone(),
            token: self.token.clone(),
            pin_file: self.pin_file.clone(),
            conf: self.conf.clone(),
        }
    }
}

fn not_ready(n: usize, detail: &str) -> SimError {
    SimError::NotReady {
        name: format!("HSM {n}"),
        detail: detail.trim().to_owned(),
    }
}

/// A PIN of eight digits.
fn random_pin() -> Result<String, SimError> {
    let mut bits = [0; 8];
    aws_lc_rs::rand::fill(&mut bits)
        .map_err(|_| SimError::system("no random numbers")(std::io::Error::other("random generator")))?;
    Ok(format!("{:08}", u64::from_be_bytes(bits) % 100_000_000))
}

/// Compiles the module that stands before SoftHSM.
fn faulty(programs: &HsmPrograms, n: usize, faults: &Faults, folder: &Path) -> Result<PathBuf, SimError> {
    let making = || SimError::system("cannot write the faulty module");
    let (source, module) = (folder.join("faulty.c"), folder.join("libfaulty.so"));
    fs::write(&source, FAULTY).map_err(making())?;
    let switch = |name: &str, fault| format!("-D{name}={}", u8::from(faults.has(fault)));
    let slow = if faults.has(Fault::HsmSlow) { SLOW_US } else { 0 };
    let output = Command::new(programs.compiler()?)
        .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
        .arg(&module)
        .arg(&source)
        .arg(format!("-DMODULE=\"{}\"", programs.module.display()))
        .arg(format!("-DSLOW_US={slow}"))
        .args([
            switch("LOCKED", Fault::PinLocked),
            switch("FULL", Fault::TokenFull),
            switch("CRASH", Fault::HsmCrash),
        ])
        .arg("-ldl")
        .output()
        .map_err(SimError::system("cannot start the compiler"))?;
    if output.status.success() {
        Ok(module)
    } else {
        Err(not_ready(n, &String::from_utf8_lossy(&output.stderr)))
    }
}

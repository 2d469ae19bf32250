//! One simulated TPM: manufactured, put into a host, and booted.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ak;
use crate::boot::{Boot, Kernel};
use crate::command::{self, Channel, Command};
use crate::ek::{self, EkKind};
use crate::error::SimError;
use crate::fault::{Fault, Faults};
use crate::ima::{List, Wrongs};
use crate::maker::Maker;
use crate::swtpm::Swtpm;
use crate::{nv, pcr};

/// The files that come with a TPM.
#[derive(Debug, Clone)]
pub struct Files {
    /// The event log of its host's boot.
    pub event_log: PathBuf,
    /// What its host's kernel measures.
    pub runtime: Arc<Mutex<List>>,
    /// Its EK certificates, PEM.
    pub ek_certificates: Vec<PathBuf>,
    /// SHA-256 of each endorsement key's SubjectPublicKeyInfo.
    pub ek_digests: Vec<[u8; 32]>,
    /// The certificate of its attestation key, PEM, where a cloud made one.
    pub ak_certificate: Option<PathBuf>,
    /// The maker's intermediate certificates, PEM.
    pub intermediates: Vec<PathBuf>,
}

impl Files {
    /// Where the list of what its host's kernel measures is.
    #[must_use]
    pub fn runtime_path(&self) -> PathBuf {
        self.runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .path()
            .to_owned()
    }
}

/// What kind of TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmKind {
    /// A chip: its maker certified the endorsement keys.
    Chip,
    /// A virtual machine's, as on Azure: an endorsement key without a certificate, and an attestation key that the cloud made and certified.
    Virtual,
}

/// Makes a TPM from a fresh swtpm: endorsement keys, certificates by `maker`, a boot with `faults`. Files go to
/// `folder`. May run on any thread.
///
/// # Errors
/// When the TPM refuses something, or a file cannot be written.
pub fn make(
    swtpm: &Swtpm,
    maker: &Maker,
    kind: TpmKind,
    faults: &Faults,
    folder: &Path,
) -> Result<Files, SimError> {
    let made = manufacture(swtpm, maker, kind, folder)?;
    let intermediate = folder.join("maker-intermediate.pem");
    write(&intermediate, maker.intermediate().pem.as_bytes())?;

    let (booted, logged) = boots(faults);
    let wrongs = Wrongs {
        unknown_file: faults.has(Fault::ImaUnknownFile),
        hidden: faults.has(Fault::ImaEdited),
    };
    let (runtime, started) = List::begin(&folder.join("binary_runtime_measurements"), booted, wrongs)
        .map_err(SimError::system("cannot write the list of measurements"))?;
    boot(swtpm, booted, &started, faults)?;
    let event_log = folder.join("binary_bios_measurements");
    logged
        .write_log(&event_log)
        .map_err(SimError::system("cannot write the event log"))?;
    Ok(Files {
        event_log,
        runtime: Arc::new(Mutex::new(runtime)),
        ek_certificates: made.ek_certificates,
        ek_digests: made.ek_digests,
        ak_certificate: made.ak_certificate,
        intermediates: vec![intermediate],
    })
}

/// What leaves the factory with a TPM.
#[derive(Default)]
struct Made {
    ek_certificates: Vec<PathBuf>,
    ek_digests: Vec<[u8; 32]>,
    ak_certificate: Option<PathBuf>,
}

/// Makes keys and certificates. The banks take effect with the host's first reset.
fn manufacture(swtpm: &Swtpm, maker: &Maker, kind: TpmKind, folder: &Path) -> Result<Made, SimError> {
    let mut tpm = swtpm.connect()?;
    tpm.execute(&command::startup())?;
    let made = match kind {
        TpmKind::Chip => certified_endorsements(&mut tpm, maker, folder)?,
        TpmKind::Virtual => certified_attestation(&mut tpm, maker, folder)?,
    };
    pcr::allocate(&mut tpm)?;
    tpm.execute(&command::shutdown())?;
    Ok(made)
}

fn certified_endorsements(tpm: &mut Channel, maker: &Maker, folder: &Path) -> Result<Made, SimError> {
    let mut made = Made::default();
    for kind in EkKind::ALL {
        let key = ek::create(tpm, kind)?;
        let certificate = maker.certify(kind, &key)?;
        nv::store(tpm, kind.certificate_index(), &certificate.der)?;
        let file = folder.join(format!("{}.pem", kind.file_stem()));
        write(&file, certificate.pem.as_bytes())?;
        made.ek_certificates.push(file);
        made.ek_digests.push(key.digest());
    }
    nv::store(tpm, nv::EK_CERTIFICATE_CHAIN, &maker.intermediate().der)?;
    Ok(made)
}

fn certified_attestation(tpm: &mut Channel, maker: &Maker, folder: &Path) -> Result<Made, SimError> {
    let endorsement = ek::create(tpm, EkKind::Rsa2048)?;
    let certificate = maker.certify_attestation(&ak::create(tpm)?)?;
    nv::store(tpm, nv::AK_CERTIFICATE, &certificate.der)?;
    let file = folder.join("ak.pem");
    write(&file, certificate.pem.as_bytes())?;
    Ok(Made {
        ek_certificates: Vec::new(),
        ek_digests: vec![endorsement.digest()],
        ak_certificate: Some(file),
    })
}

/// How the host booted, and how its log says it did.
fn boots(faults: &Faults) -> (Boot, Boot) {
    let secure_boot = !faults.has(Fault::SecureBootOff);
    let with = |kernel| Boot { secure_boot, kernel };
    if faults.has(Fault::LogEdited) {
        (with(Kernel::Other), with(Kernel::Usual))
    } else if faults.has(Fault::Kernel) {
        (with(Kernel::Other), with(Kernel::Other))
    } else {
        (with(Kernel::Usual), with(Kernel::Usual))
    }
}

fn boot(swtpm: &Swtpm, boot: Boot, started: &[Command], faults: &Faults) -> Result<(), SimError> {
    let mut tpm = power_on(swtpm)?;
    boot.measure(&mut tpm)?;
    for extension in started {
        tpm.execute(extension)?;
    }
    if faults.has(Fault::PcrUnexplained) {
        let unexplained = pcr::Digests::of(b"touchmark-sim stand-in: an image that no log shows");
        pcr::extend(&mut tpm, 4, &unexplained)?;
    }
    if faults.has(Fault::TpmReset) {
        tpm.execute(&command::shutdown())?;
        drop(tpm);
        power_on(swtpm)?;
    }
    Ok(())
}

/// A TPM Reset: every PCR starts anew, and resetCount is one more.
fn power_on(swtpm: &Swtpm) -> Result<Channel, SimError> {
    swtpm.reset()?;
    let mut tpm = swtpm.connect()?;
    tpm.execute(&command::startup())?;
    Ok(tpm)
}

fn write(path: &Path, content: &[u8]) -> Result<(), SimError> {
    std::fs::write(path, content).map_err(SimError::system(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_log_shows_the_good_boot_of_a_host_that_booted_something_else() {
        let (booted, logged) = boots(&[Fault::LogEdited].into_iter().collect());
        assert_eq!(logged, Boot::GOOD);
        assert_eq!(
            booted,
            Boot {
                kernel: Kernel::Other,
                ..Boot::GOOD
            }
        );
    }

    #[test]
    fn an_honest_log_shows_what_was_booted() {
        for faults in [
            vec![],
            vec![Fault::Kernel],
            vec![Fault::SecureBootOff, Fault::Kernel],
        ] {
            let (booted, logged) = boots(&faults.into_iter().collect());
            assert_eq!(booted, logged);
        }
    }
}

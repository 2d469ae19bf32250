//! A device, whichever process serves it at the moment.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::RecvTimeoutError,
    },
    time::Duration,
};

use serde_bytes::ByteBuf;
use touchmark_api::device::{Activation, KeyDescription, Op, Reply, Request, Settings, Turn, Urgency};
use touchmark_crypto::Secret;
use touchmark_custody::tss2::Tss2Key;
use touchmark_rats::{
    PcrSelection,
    tpm::{TpmAttestation, TpmDeviceKey, TpmPcrValue},
};

use crate::{
    DeviceError,
    process::{Process, lock},
};

/// How long a call waits by default.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for endorsement keys: making an RSA key takes a real chip up to minutes, once in its life.
const ENDORSEMENT_PATIENCE: Duration = Duration::from_secs(300);
/// How much longer than its caller's patience a helper may stay silent before it is ended.
const GRACE: Duration = Duration::from_secs(2);

/// A device behind its helper process. Cloning shares it.
#[derive(Clone)]
pub struct Device {
    shared: Arc<Shared>,
    patience: Duration,
    turn: Turn,
}

struct Shared {
    path: PathBuf,
    settings: Settings,
    process: Mutex<Option<Arc<Process>>>,
    next: AtomicU64,
}

impl Device {
    /// A device served by the binary at `path`. Nothing is started before the first call.
    pub fn new(path: &Path, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                settings,
                process: Mutex::new(None),
                next: AtomicU64::new(1),
            }),
            patience: PATIENCE,
            turn: Turn {
                urgency: Urgency::Renewal,
                caller: 0,
            },
        }
    }

    /// What can be said of the settings without starting anything: the helper is there, and the TCTI is one of the kinds
    /// that it speaks.
    ///
    /// # Errors
    ///
    /// Says which of the two does not hold and what to do.
    pub fn check(&self) -> Result<(), String> {
        let executable = std::fs::metadata(&self.shared.path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(format!(
                "device.path: {} is not an executable file; install touchmark-device beside touchmark, or name it",
                self.shared.path.display()
            ));
        }
        if let Some(log) = &self.shared.settings.boot_log
            && !std::fs::metadata(log).is_ok_and(|found| found.is_file())
        {
            return Err(format!(
                "tpm.eventlog: {log} is not there, or not a file; on a real host the kernel shows it at \
                 /sys/kernel/security/tpm0/binary_bios_measurements (securityfs mounted, for root)"
            ));
        }
        let tcti = &self.shared.settings.tcti;
        let kind = tcti.split(':').next().unwrap_or_default();
        if !["device", "tabrmd", "swtpm", "mssim"].contains(&kind) {
            return Err(format!(
                "device.tcti: {tcti:?} is none of device:/dev/tpmrm0, tabrmd:..., swtpm:host=...,port=..."
            ));
        }
        Ok(())
    }

    /// The same device for callers who wait no longer than this.
    pub fn patient(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// The same device for requests of another urgency, for the daemon itself. It begins as [`Urgency::Renewal`].
    pub fn urgent(&self, urgency: Urgency) -> Self {
        Self {
            turn: Turn { urgency, caller: 0 },
            ..self.clone()
        }
    }

    /// The same device for what one of the daemon's callers asks for: it takes turns with the others.
    pub fn on_behalf_of(&self, caller: u64) -> Self {
        Self {
            turn: Turn {
                urgency: Urgency::Workload,
                caller,
            },
            ..self.clone()
        }
    }

    /// Where `touchmark-device` is looked for: beside the running binary.
    pub fn beside_this_binary() -> std::io::Result<PathBuf> {
        Ok(std::env::current_exe()?.with_file_name("touchmark-device"))
    }

    /// Process id of the helper that serves the device now; `None` before the first call.
    pub fn helper_pid(&self) -> Option<u32> {
        lock(&self.shared.process).as_ref().map(|process| process.id())
    }

    /// The endorsement keys with their certificates, in the device's order of preference.
    pub fn endorsements(&self) -> Result<Vec<TpmDeviceKey>, DeviceError> {
        let patience = self.patience.max(ENDORSEMENT_PATIENCE);
        match self.patient(patience).call(Op::Endorsements)? {
            Reply::Endorsements(endorsements) => Ok(endorsements),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// The attestation key for a trust domain, with the certificate that a cloud gave it.
    pub fn attestation_key(&self, trust_domain: &str) -> Result<TpmDeviceKey, DeviceError> {
        match self.call(Op::AttestationKey(trust_domain.to_owned()))? {
            Reply::AttestationKey(key) => Ok(key),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Opens a sealed secret.
    pub fn activate(&self, activation: Activation) -> Result<Secret, DeviceError> {
        match self.call(Op::Activate(activation))? {
            Reply::Secret(secret) => Ok(secret.into_secret()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Makes a signing key, its use sealed to the present values of `seal` where there is one.
    pub fn create_key(&self, seal: Option<&PcrSelection>) -> Result<KeyDescription, DeviceError> {
        self.key(Op::CreateKey {
            seal: seal.map(PcrSelection::to_wire).unwrap_or_default(),
        })
    }

    /// Loads a key to see that this device can.
    pub fn check_key(&self, key: &Tss2Key) -> Result<KeyDescription, DeviceError> {
        self.key(Op::CheckKey(der(key)))
    }

    /// TPM2_Certify of `key` by the attestation key of the trust domain.
    pub fn certify(
        &self,
        trust_domain: &str,
        key: &[u8],
        qualifying: &[u8],
    ) -> Result<TpmAttestation, DeviceError> {
        self.attestation(Op::Certify {
            trust_domain: trust_domain.to_owned(),
            key: ByteBuf::from(key),
            qualifying: ByteBuf::from(qualifying),
        })
    }

    /// TPM2_Quote by the attestation key of the trust domain.
    pub fn quote(
        &self,
        trust_domain: &str,
        selection: &PcrSelection,
        qualifying: &[u8],
    ) -> Result<TpmAttestation, DeviceError> {
        self.attestation(Op::Quote {
            trust_domain: trust_domain.to_owned(),
            selection: selection.to_wire(),
            qualifying: ByteBuf::from(qualifying),
        })
    }

    /// The present values of registers.
    pub fn registers(&self, selection: &PcrSelection) -> Result<Vec<TpmPcrValue>, DeviceError> {
        match self.call(Op::ReadRegisters(selection.to_wire()))? {
            Reply::Registers(values) => Ok(values),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Signs a message with a key (TSS2 structure, DER); `r ‖ s`.
    pub fn sign(&self, key: &[u8], message: &[u8]) -> Result<Vec<u8>, DeviceError> {
        match self.call(Op::Sign {
            key: ByteBuf::from(key),
            message: ByteBuf::from(message),
        })? {
            Reply::Signature(signature) => Ok(signature.into_vec()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// The boot log, whole; empty where the device has none.
    pub fn boot_log(&self) -> Result<Vec<u8>, DeviceError> {
        match self.call(Op::BootLog)? {
            Reply::Log(log) => Ok(log.into_vec()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// What the kernel has measured since the boot, from this byte of its list on, in at most `limit` bytes; empty where it measures nothing.
    pub fn runtime_list(&self, from: u64, limit: usize) -> Result<Vec<u8>, DeviceError> {
        let mut list = Vec::new();
        while list.len() < limit {
            let read = u64::try_from(list.len()).unwrap_or(u64::MAX);
            match self.call(Op::RuntimeList(from.saturating_add(read)))? {
                Reply::Log(part) if part.is_empty() => break,
                Reply::Log(part) => list.extend(part.into_vec()),
                _ => return Err(DeviceError::Mismatch),
            }
        }
        list.truncate(limit);
        Ok(list)
    }

    fn key(&self, op: Op) -> Result<KeyDescription, DeviceError> {
        match self.call(op)? {
            Reply::Key(key) => Ok(key),
            _ => Err(DeviceError::Mismatch),
        }
    }

    fn attestation(&self, op: Op) -> Result<TpmAttestation, DeviceError> {
        match self.call(op)? {
            Reply::Attestation(attestation) => Ok(attestation),
            _ => Err(DeviceError::Mismatch),
        }
    }

    fn call(&self, op: Op) -> Result<Reply, DeviceError> {
        let process = self.process()?;
        self.exchange(&process, op)
    }

    /// The running helper, or a new one that has been told which device it serves.
    fn process(&self) -> Result<Arc<Process>, DeviceError> {
        let mut slot = lock(&self.shared.process);
        if let Some(process) = slot.as_ref().filter(|process| !process.is_dead()) {
            return Ok(Arc::clone(process));
        }
        if slot.take().is_some() {
            tracing::warn!("touchmark-device ended; starting it again");
        }
        let process = Process::start(&self.shared.path).map_err(|error| DeviceError::Start {
            path: self.shared.path.display().to_string(),
            cause: error.to_string(),
        })?;
        let process = Arc::new(process);
        self.exchange(&process, Op::Open(self.shared.settings.clone()))?;
        *slot = Some(Arc::clone(&process));
        Ok(process)
    }

    fn exchange(&self, process: &Process, op: Op) -> Result<Reply, DeviceError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let patience_ms = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        let answer = process
            .send(&Request {
                id,
                patience_ms,
                turn: self.turn,
                op,
            })
            .map_err(|_| DeviceError::HelperDied)?
            .recv_timeout(self.patience + GRACE);
        match answer {
            Ok(result) => Ok(result?),
            Err(RecvTimeoutError::Disconnected) => Err(DeviceError::HelperDied),
            Err(RecvTimeoutError::Timeout) => {
                // It answers late requests itself: a silent one hangs in the hardware or in a vendor's library.
                process.forget(id);
                process.kill();
                Err(DeviceError::Timeout(patience_ms))
            }
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.shared.settings.tcti)
    }
}

fn der(key: &Tss2Key) -> ByteBuf {
    ByteBuf::from(key.to_der().unwrap_or_default())
}

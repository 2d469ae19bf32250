//! A TPM, whichever process serves it at the moment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_bytes::ByteBuf;
use touchmark_api::device::{Activation, KeyDescription, Op, Reply, Settings, Urgency};
use touchmark_crypto::Secret;
use touchmark_custody::tss2::Tss2Key;
use touchmark_rats::{
    PcrSelection,
    tpm::{TpmAttestation, TpmDeviceKey, TpmPcrValue},
};

use crate::{DeviceError, helper::Helper};

/// How long a call waits for endorsement keys: making an RSA key takes a real chip up to minutes, once in its life.
const ENDORSEMENT_PATIENCE: Duration = Duration::from_secs(300);

/// A TPM behind its helper process. Cloning shares it.
#[derive(Clone)]
pub struct Device {
    helper: Helper,
    tcti: String,
    boot_log: Option<String>,
}

impl Device {
    /// A TPM served by the binary at `path`. Nothing is started before the first call.
    pub fn new(path: &Path, settings: Settings) -> Self {
        Self {
            tcti: settings.tcti.clone(),
            boot_log: settings.boot_log.clone(),
            helper: Helper::new(path, Op::Open(settings)),
        }
    }

    /// What can be said of the settings without starting anything: the helper is there, and the TCTI is one of the kinds
    /// that it speaks.
    ///
    /// # Errors
    ///
    /// Says which of the two does not hold and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.helper.check()?;
        if let Some(log) = &self.boot_log
            && !std::fs::metadata(log).is_ok_and(|found| found.is_file())
        {
            return Err(format!(
                "tpm.eventlog: {log} is not there, or not a file; on a real host the kernel shows it at \
                 /sys/kernel/security/tpm0/binary_bios_measurements (securityfs mounted, for root)"
            ));
        }
        let tcti = &self.tcti;
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
            helper: self.helper.patient(patience),
            ..self.clone()
        }
    }

    /// The same device for requests of another urgency, for the daemon itself. It begins as [`Urgency::Renewal`].
    pub fn urgent(&self, urgency: Urgency) -> Self {
        Self {
            helper: self.helper.urgent(urgency),
            ..self.clone()
        }
    }

    /// The same device for what one of the daemon's callers asks for: it takes turns with the others.
    pub fn on_behalf_of(&self, caller: u64) -> Self {
        Self {
            helper: self.helper.on_behalf_of(caller),
            ..self.clone()
        }
    }

    /// Where `touchmark-device` is looked for: beside the running binary.
    pub fn beside_this_binary() -> std::io::Result<PathBuf> {
        Ok(std::env::current_exe()?.with_file_name("touchmark-device"))
    }

    /// Process id of the helper that serves the device now; `None` before the first call.
    pub fn helper_pid(&self) -> Option<u32> {
        self.helper.pid()
    }

    /// The endorsement keys with their certificates, in the device's order of preference.
    pub fn endorsements(&self) -> Result<Vec<TpmDeviceKey>, DeviceError> {
        let patient = self
            .helper
            .patient(self.helper.patience().max(ENDORSEMENT_PATIENCE));
        match patient.call(Op::Endorsements)? {
            Reply::Endorsements(endorsements) => Ok(endorsements),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// The attestation key for a trust domain, with the certificate that a cloud gave it.
    pub fn attestation_key(&self, trust_domain: &str) -> Result<TpmDeviceKey, DeviceError> {
        match self.helper.call(Op::AttestationKey(trust_domain.to_owned()))? {
            Reply::AttestationKey(key) => Ok(key),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Opens a sealed secret.
    pub fn activate(&self, activation: Activation) -> Result<Secret, DeviceError> {
        match self.helper.call(Op::Activate(activation))? {
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
        match self.helper.call(Op::ReadRegisters(selection.to_wire()))? {
            Reply::Registers(values) => Ok(values),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// Signs a message with a key (TSS2 structure, DER); `r ‖ s`.
    pub fn sign(&self, key: &[u8], message: &[u8]) -> Result<Vec<u8>, DeviceError> {
        match self.helper.call(Op::Sign {
            key: ByteBuf::from(key),
            message: ByteBuf::from(message),
        })? {
            Reply::Signature(signature) => Ok(signature.into_vec()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// The boot log, whole; empty where the device has none.
    pub fn boot_log(&self) -> Result<Vec<u8>, DeviceError> {
        match self.helper.call(Op::BootLog)? {
            Reply::Log(log) => Ok(log.into_vec()),
            _ => Err(DeviceError::Mismatch),
        }
    }

    /// What the kernel has measured since the boot, from this byte of its list on, in at most `limit` bytes; empty where it measures nothing.
    pub fn runtime_list(&self, from: u64, limit: usize) -> Result<Vec<u8>, DeviceError> {
        let mut list = Vec::new();
        while list.len() < limit {
            let read = u64::try_from(list.len()).unwrap_or(u64::MAX);
            match self.helper.call(Op::RuntimeList(from.saturating_add(read)))? {
                Reply::Log(part) if part.is_empty() => break,
                Reply::Log(part) => list.extend(part.into_vec()),
                _ => return Err(DeviceError::Mismatch),
            }
        }
        list.truncate(limit);
        Ok(list)
    }

    fn key(&self, op: Op) -> Result<KeyDescription, DeviceError> {
        match self.helper.call(op)? {
            Reply::Key(key) => Ok(key),
            _ => Err(DeviceError::Mismatch),
        }
    }

    fn attestation(&self, op: Op) -> Result<TpmAttestation, DeviceError> {
        match self.helper.call(op)? {
            Reply::Attestation(attestation) => Ok(attestation),
            _ => Err(DeviceError::Mismatch),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.tcti)
    }
}

fn der(key: &Tss2Key) -> ByteBuf {
    ByteBuf::from(key.to_der().unwrap_or_default())
}

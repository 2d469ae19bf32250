//! One TPM, owned by one thread.
//!
//! The connection is made at the first use and again after the device was away or reset; a request that met a stale
//! connection is tried once more on a new one.

mod attest;
mod attestation_key;
mod endorsement;
mod keys;
mod nv;
mod objects;
mod own_signature;
mod selection;
mod sessions;
mod templates;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    str::FromStr,
};

use serde_bytes::ByteBuf;
use touchmark_api::{
    Guarded,
    device::{FaultKind, Op, Reply, Settings},
};
use tss_esapi::{
    Context, Error,
    constants::response_code::Tss2ResponseCodeKind as Kind,
    handles::ObjectHandle,
    interface_types::resource_handles::Hierarchy,
    structures::{Auth, Public},
    tcti_ldr::TctiNameConf,
};

use self::{attestation_key::Certified, endorsement::Endorsement, objects::Objects};
use crate::fault::{Outcome, fault, from_tss, is_transport, kind, may_be_stale};

/// Largest boot log that is read, and largest part of a list.
const MAX_LOG: u64 = 4 * 1024 * 1024;

/// A TPM, connected or not.
pub(crate) struct Tpm {
    settings: Settings,
    tcti: TctiNameConf,
    connection: Option<Connection>,
}

/// A connection and what is loaded through it.
pub(crate) struct Connection {
    context: Context,
    objects: Objects,
    /// Endorsement keys that are open, by persistent handle.
    endorsements: Vec<(u32, Endorsement)>,
    /// The attestation key that a cloud certified, once it was looked for.
    certified: Option<Option<Certified>>,
    /// Public areas of attestation keys of our own making, by trust domain.
    attestation_areas: BTreeMap<String, Public>,
    nv_buffer: Option<u16>,
    owner_auth: bool,
    endorsement_auth: bool,
}

impl Tpm {
    /// Reads the settings; the device is not touched yet.
    pub(crate) fn new(settings: Settings) -> Outcome<Self> {
        if settings.tcti.starts_with("swtpm:path") || settings.tcti.contains(",path=") {
            return Err(fault(
                FaultKind::Refused,
                "tpm.device: swtpm over a Unix socket is not supported by the TSS wrapper; use host= and port=",
            ));
        }
        let tcti = TctiNameConf::from_str(&settings.tcti).map_err(|_| {
            fault(
                FaultKind::Refused,
                format!(
                    "tpm.device: {:?} is not a TCTI; examples: device:/dev/tpmrm0, tabrmd:, \
                     swtpm:host=127.0.0.1,port=2321",
                    settings.tcti
                ),
            )
        })?;
        Ok(Self {
            settings,
            tcti,
            connection: None,
        })
    }

    /// Carries out one request.
    pub(crate) fn answer(&mut self, op: Op) -> Outcome<Reply> {
        match op {
            Op::Open(_)
            | Op::OpenToken(_)
            | Op::DescribeToken
            | Op::CreateTokenKey { .. }
            | Op::DescribeTokenKey(_)
            | Op::DestroyTokenKey(_)
            | Op::StoreCertificate { .. } => Err(fault(
                FaultKind::Refused,
                "a TPM does no such thing: a PKCS#11 token does",
            )),
            Op::BootLog => self.boot_log().map(|log| Reply::Log(ByteBuf::from(log))),
            Op::RuntimeList(from) => self
                .runtime_list(from)
                .map(|part| Reply::Log(ByteBuf::from(part))),
            Op::Endorsements => self.with(|c| c.endorsements()).map(Reply::Endorsements),
            Op::AttestationKey(domain) => self
                .with(|c| c.attestation_description(&domain))
                .map(Reply::AttestationKey),
            Op::Activate(activation) => self
                .with(|c| c.activate(&activation))
                .map(|secret| Reply::Secret(Guarded::new(secret))),
            Op::CreateKey { seal } => {
                let seal = selection::from_wire(&seal)?;
                self.with(|c| c.create_key(seal.as_ref())).map(Reply::Key)
            }
            Op::CheckKey(key) => self.with(|c| c.check_key(&key)).map(Reply::Key),
            Op::Certify {
                trust_domain,
                key,
                qualifying,
            } => self
                .with(|c| c.certify(&trust_domain, &key, &qualifying))
                .map(Reply::Attestation),
            Op::Quote {
                trust_domain,
                selection,
                qualifying,
            } => {
                let selection = selection::from_wire(&selection)?
                    .ok_or_else(|| fault(FaultKind::Refused, "a quote needs registers"))?;
                self.with(|c| c.quote(&trust_domain, &selection, &qualifying))
                    .map(Reply::Attestation)
            }
            Op::ReadRegisters(selection) => {
                let selection = selection::from_wire(&selection)?
                    .ok_or_else(|| fault(FaultKind::Refused, "no registers to read"))?;
                self.with(|c| c.registers(&selection)).map(Reply::Registers)
            }
            Op::Sign { key, message } => self
                .with(|c| c.sign(&key, &message))
                .map(|signature| Reply::Signature(ByteBuf::from(signature))),
        }
    }

    /// Runs an operation on the connection, and once more on a new one if this one turned out to be stale.
    fn with<T>(&mut self, operation: impl Fn(&mut Connection) -> Result<T, Failure>) -> Outcome<T> {
        let fresh = self.connection.is_none();
        match self.attempt(&operation) {
            Err(failure) if !fresh && failure.is_connection() => {
                self.connection = None;
                self.attempt(&operation).map_err(Failure::into_fault)
            }
            other => other.map_err(Failure::into_fault),
        }
        .inspect_err(|fault| {
            if fault.kind == FaultKind::Unavailable {
                self.connection = None;
            }
        })
    }

    fn attempt<T>(
        &mut self,
        operation: impl Fn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        match &mut self.connection {
            Some(connection) => {
                let result = operation(connection);
                connection.context.clear_sessions();
                result
            }
            None => Err(Failure::Fault(fault(FaultKind::Unavailable, "not connected"))),
        }
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let mut context = Context::new(self.tcti.clone()).map_err(|error| {
            Failure::Fault(fault(
                FaultKind::Unavailable,
                format!(
                    "cannot reach the TPM at {:?} ({error}); check tpm.device and that this user may open it (group tss)",
                    self.settings.tcti
                ),
            ))
        })?;
        let mut set = |hierarchy: Hierarchy, auth: &Guarded| -> Result<bool, Failure> {
            if !auth.is_empty() {
                // The library zeroizes its own copy.
                let auth =
                    Auth::try_from(auth.expose()).map_err(|error| Failure::tss("authorization", error))?;
                context
                    .tr_set_auth(ObjectHandle::from(hierarchy), auth)
                    .map_err(|error| Failure::tss("authorization", error))?;
            }
            Ok(!auth.is_empty())
        };
        let owner_auth = set(Hierarchy::Owner, &self.settings.owner_auth)?;
        let endorsement_auth = set(Hierarchy::Endorsement, &self.settings.endorsement_auth)?;
        Ok(Connection {
            context,
            objects: Objects::default(),
            endorsements: Vec::new(),
            certified: None,
            attestation_areas: BTreeMap::new(),
            nv_buffer: None,
            owner_auth,
            endorsement_auth,
        })
    }

    fn boot_log(&self) -> Outcome<Vec<u8>> {
        let Some(path) = &self.settings.boot_log else {
            return Ok(Vec::new());
        };
        let refused = |error: std::io::Error| {
            fault(
                FaultKind::Refused,
                format!("cannot read the boot log {path}: {error}"),
            )
        };
        let mut log = Vec::new();
        File::open(path)
            .map_err(refused)?
            .take(MAX_LOG + 1)
            .read_to_end(&mut log)
            .map_err(refused)?;
        if u64::try_from(log.len()).is_ok_and(|length| length > MAX_LOG) {
            return Err(fault(
                FaultKind::Refused,
                format!("the boot log {path} is over {MAX_LOG} bytes"),
            ));
        }
        Ok(log)
    }

    /// A part of the kernel's list. A kernel that measures nothing shows none.
    fn runtime_list(&self, from: u64) -> Outcome<Vec<u8>> {
        let Some(path) = &self.settings.runtime_list else {
            return Ok(Vec::new());
        };
        let refused = |error: std::io::Error| {
            fault(
                FaultKind::Refused,
                format!("cannot read the list of measurements {path}: {error}"),
            )
        };
        let mut part = Vec::new();
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(part),
            Err(error) => return Err(refused(error)),
            Ok(mut file) => {
                file.seek(SeekFrom::Start(from)).map_err(refused)?;
                file.take(MAX_LOG).read_to_end(&mut part).map_err(refused)?;
            }
        }
        Ok(part)
    }
}

/// A failure inside an operation: the library's, kept so that a stale connection can be told, or our own.
pub(crate) enum Failure {
    Tss { what: &'static str, error: Error },
    Fault(touchmark_api::device::Fault),
}

impl Failure {
    pub(crate) fn tss(what: &'static str, error: Error) -> Self {
        Self::Tss { what, error }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Fault(fault(FaultKind::Refused, message))
    }

    pub(crate) fn untrusted(message: impl Into<String>) -> Self {
        Self::Fault(fault(FaultKind::Untrusted, message))
    }

    /// Whether the same may succeed later without anybody acting, or on another connection.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Tss { what, error } => {
                self.is_connection() || self.is_object_memory() || from_tss(what, *error).kind.is_retryable()
            }
            Self::Fault(fault) => fault.kind.is_retryable(),
        }
    }

    fn is_connection(&self) -> bool {
        matches!(self, Self::Tss { error, .. } if is_transport(*error) || may_be_stale(*error))
    }

    pub(crate) fn is_object_memory(&self) -> bool {
        matches!(self, Self::Tss { error, .. } if kind(*error) == Some(Kind::ObjectMemory))
    }

    pub(crate) fn is_pcr_changed(&self) -> bool {
        matches!(self, Self::Tss { error, .. } if kind(*error) == Some(Kind::PcrChanged))
    }

    fn into_fault(self) -> touchmark_api::device::Fault {
        match self {
            Self::Tss { what, error } => from_tss(what, error),
            Self::Fault(fault) => fault,
        }
    }
}

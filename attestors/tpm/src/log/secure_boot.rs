//! What register 7 says of Secure Boot (PC Client Platform Firmware Profile, section 3.3.4.8).
//!
//! No digest covers an event's type, and whoever runs on the host may extend the register later on. So events are told apart by what their
//! digests commit to, and only what comes before the separator, by which firmware ends, is the firmware's word.

use std::sync::LazyLock;

use touchmark_crypto::{HashAlg, der, sha256, x509::DeviceCertificate};

use super::{
    BootLog,
    event::{BANKS, EV_VARIABLE_DRIVER_CONFIG, Event},
    judge::Registers,
    uefi::{Guid, Signature, Variable, signatures},
};

/// Whether Secure Boot was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecureBoot {
    /// Measured once as on, where firmware measures it.
    On,
    /// Measured as off.
    Off,
    /// Measured without a value, as firmware does that has no Secure Boot, or has it off.
    Unset,
    /// Not measured.
    #[default]
    Unknown,
    /// Measured as no firmware does; the text says how.
    Invalid(&'static str),
}

/// A certificate of Secure Boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCertificate {
    /// SHA-256 of its DER.
    pub sha256: [u8; 32],
    /// Its subject, for people; empty where it cannot be read.
    pub subject: String,
}

impl BootCertificate {
    fn of(der: &[u8]) -> Self {
        Self {
            sha256: sha256(&[der]),
            subject: DeviceCertificate::parse(der).map_or(String::new(), |read| read.label()),
        }
    }
}

/// The certificates in the databases of Secure Boot, and what each holds beside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignatureDatabases {
    /// Platform key.
    pub pk: Vec<BootCertificate>,
    /// Key exchange keys.
    pub kek: Vec<BootCertificate>,
    /// What may boot.
    pub db: Vec<BootCertificate>,
    /// What may not: certificates.
    pub dbx: Vec<BootCertificate>,
    /// Image digests in `db`, SHA-256; the first 256.
    pub db_digests: Vec<[u8; 32]>,
    /// What else is in `db`: entries of other types, and digests beyond those.
    pub db_others: usize,
    /// Image digests in `dbx`.
    pub dbx_digests: usize,
    /// Whether each of the four was measured, and could be read.
    pub measured: bool,
}

/// What is said of a variable SecureBoot under another type.
pub(super) const RENAMED: &str = "the log calls the variable something else than firmware does";
/// What firmware measures before the configuration where its debugger can be used (PC Client Platform Firmware Profile, section 3.3.4.8).
const DEBUG_MODE: &[u8] = b"UEFI Debug Mode";
/// Most image digests of `db` that are kept.
const MAX_DIGESTS: usize = 256;
/// The databases: name, vendor.
const DATABASES: [(&str, Guid); 4] = [
    ("PK", Guid::GLOBAL),
    ("KEK", Guid::GLOBAL),
    ("db", Guid::DATABASE),
    ("dbx", Guid::DATABASE),
];

/// What register 7 says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register7 {
    pub(crate) secure_boot: SecureBoot,
    pub(crate) databases: SignatureDatabases,
    /// Certificates that images were accepted by.
    pub(crate) authorities: Vec<BootCertificate>,
    /// Digests of images that were accepted by their digest.
    pub(crate) authority_digests: Vec<[u8; 32]>,
    /// Events whose digest commits to nothing that could be read.
    pub(crate) unread: usize,
    /// The first variable of a database that is no list of signatures: number and name.
    pub(crate) no_list: Option<(usize, String)>,
    /// The first event that configures Secure Boot after the separator.
    pub(crate) late: Option<usize>,
    /// Whether the log has the variable SecureBoot under another type than firmware measures it by.
    pub(crate) renamed: bool,
    seen: [bool; 4],
    separated: bool,
    /// Whether firmware measured that it could be debugged.
    debugged: bool,
    /// Whether an event before the separator commits to nothing that could be read.
    hidden: bool,
}

/// Digests of the two separators by which firmware ends that found no error, in each bank.
static SEPARATORS: LazyLock<[(HashAlg, [Vec<u8>; 2]); BANKS.len()]> = LazyLock::new(|| {
    BANKS.map(|bank| {
        (
            bank,
            [[0; 4], [0xff; 4]].map(|data: [u8; 4]| bank.digest(&[&data])),
        )
    })
});

/// Whether an event is a separator of firmware that found no error, by its digest.
pub(crate) fn is_separator(event: &Event<'_>, bank: HashAlg) -> bool {
    let Some(digest) = event.digest(bank) else {
        return false;
    };
    SEPARATORS
        .iter()
        .any(|(of, separators)| *of == bank && separators.iter().any(|separator| separator == digest))
}

/// Whether a variable is one that firmware measures before the separator only: what Secure Boot is configured with. An authority has the
/// name of the database that it was found in, and is no list.
fn configures(variable: &Variable<'_>) -> bool {
    let database = DATABASES.contains(&(variable.name.as_str(), variable.vendor));
    let list = || variable.value.is_empty() || signatures(variable.value).is_some();
    (variable.name == "SecureBoot" && variable.vendor == Guid::GLOBAL) || (database && list())
}

impl Register7 {
    /// Reads the events of register 7, in their order.
    pub(crate) fn read(log: &BootLog<'_>, bank: HashAlg, registers: Registers) -> Self {
        let mut out = Self::default();
        let register = registers.of(7);
        let events = log.events.iter();
        for event in events.filter(|event| event.is_extended() && event.register == register) {
            if is_separator(event, bank) {
                out.separated = true;
            } else if out.separated {
                out.later(event, bank);
            } else {
                out.configuration(event, bank);
            }
        }
        if out.secure_boot == SecureBoot::On && out.hidden && registers == Registers::Pcr {
            out.secure_boot = SecureBoot::Invalid("something that firmware measured with it is hidden");
        }
        if out.secure_boot == SecureBoot::On && out.renamed {
            out.secure_boot = SecureBoot::Invalid(RENAMED);
        }
        if out.secure_boot == SecureBoot::On && out.debugged {
            out.secure_boot = SecureBoot::Invalid("on, while the firmware's debugger was enabled");
        }
        if out.secure_boot == SecureBoot::On && !out.separated {
            out.secure_boot = SecureBoot::Invalid("no separator says where firmware ended");
        }
        out.databases.measured = out.separated && out.seen == [true; 4];
        out
    }

    /// Before the separator: firmware's configuration.
    fn configuration(&mut self, event: &Event<'_>, bank: HashAlg) {
        let is_configuration = event.kind == EV_VARIABLE_DRIVER_CONFIG;
        if !event.is_digest_of(bank, event.data) {
            self.unread += 1;
            self.hidden = true;
            if is_configuration {
                self.secure_boot = SecureBoot::Invalid("a variable whose digest does not cover it");
            }
            return;
        }
        let Some(variable) = Variable::parse(event.data) else {
            if is_configuration {
                self.secure_boot = SecureBoot::Invalid("a variable that cannot be read");
            }
            self.debugged |= event.data == DEBUG_MODE;
            return;
        };
        if variable.name == "SecureBoot" {
            self.renamed |= !is_configuration;
            self.switch(&variable);
            return;
        }
        let named = (variable.name.as_str(), variable.vendor);
        let Some(at) = DATABASES.iter().position(|database| *database == named) else {
            return;
        };
        let Some(list) = signatures(variable.value) else {
            // Firmware that accepted an image before it ended, a driver on a card for example.
            match authority(event, &variable, bank) {
                Some(certificate) if !is_configuration => self.authorities.push(certificate),
                _ => {
                    self.unread += 1;
                    self.no_list.get_or_insert((event.number, variable.name));
                }
            }
            return;
        };
        if let Some(seen) = self.seen.get_mut(at) {
            *seen = true;
        }
        self.databases.add(variable.name.as_str(), &list);
    }

    fn switch(&mut self, variable: &Variable<'_>) {
        self.secure_boot = match (self.secure_boot, variable.value) {
            (invalid @ SecureBoot::Invalid(_), _) => invalid,
            _ if variable.vendor != Guid::GLOBAL => {
                SecureBoot::Invalid("a variable SecureBoot of another vendor")
            }
            (SecureBoot::On | SecureBoot::Off | SecureBoot::Unset, _) => {
                SecureBoot::Invalid("measured twice")
            }
            (SecureBoot::Unknown, [1]) => SecureBoot::On,
            (SecureBoot::Unknown, [0]) => SecureBoot::Off,
            (SecureBoot::Unknown, []) => SecureBoot::Unset,
            _ => SecureBoot::Invalid("a value that is not one byte of 0 or 1"),
        };
    }

    /// After the separator: whose signatures images were accepted by, and what loaders add. How the log wraps what a digest commits to is
    /// its own choice, and changes nothing.
    fn later(&mut self, event: &Event<'_>, bank: HashAlg) {
        let wrapped = Variable::parse(event.data);
        let value = wrapped.as_ref().map(|variable| variable.value);
        let behind_owner = value.and_then(|value| value.get(16..));
        let candidates = [Some(event.data), value, behind_owner];
        let committed = candidates
            .into_iter()
            .flatten()
            .find(|bytes| event.is_digest_of(bank, bytes));
        let Some(committed) = committed else {
            self.unread += 1;
            if event.kind == EV_VARIABLE_DRIVER_CONFIG && wrapped.is_some_and(|variable| named(&variable)) {
                self.late.get_or_insert(event.number);
            }
            return;
        };
        match Variable::parse(committed) {
            Some(variable) => {
                if variable.name == "SecureBoot" {
                    self.secure_boot =
                        SecureBoot::Invalid("measured after the separator, where firmware has ended");
                }
                if named(&variable) && event.kind == EV_VARIABLE_DRIVER_CONFIG || configures(&variable) {
                    self.late.get_or_insert(event.number);
                }
                self.accept(variable.value, true);
            }
            None => self.accept(committed, false),
        }
    }

    /// What an image was accepted by: a certificate or the digest of the image, behind its owner or alone. A variable may hold something
    /// else, a loader's state; what is no variable and none of these is not known.
    fn accept(&mut self, bytes: &[u8], is_variable: bool) {
        let behind_owner = bytes.get(16..).unwrap_or_default();
        if let Some(certificate) = [behind_owner, bytes]
            .into_iter()
            .find(|part| is_certificate(part))
        {
            self.authorities.push(BootCertificate::of(certificate));
        } else if bytes.len() == 32 || bytes.len() == 48 {
            let digest = bytes.last_chunk::<32>();
            self.authority_digests.extend(digest.copied());
        } else if !is_variable && bytes.len() > 32 && !bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            self.unread += 1;
        }
    }
}

/// Whether a variable has the name of one that configures Secure Boot.
fn named(variable: &Variable<'_>) -> bool {
    variable.name == "SecureBoot" || DATABASES.iter().any(|(name, _)| *name == variable.name)
}

impl SignatureDatabases {
    fn add(&mut self, name: &str, list: &[Signature<'_>]) {
        let certificates = match name {
            "PK" => &mut self.pk,
            "KEK" => &mut self.kek,
            "db" => &mut self.db,
            _ => &mut self.dbx,
        };
        for signature in list {
            match (signature, name) {
                (Signature::X509(der), _) => certificates.push(BootCertificate::of(der)),
                (Signature::Sha256(digest), "db") if self.db_digests.len() < MAX_DIGESTS => {
                    self.db_digests.extend(<[u8; 32]>::try_from(*digest));
                }
                (Signature::Sha256(_), "dbx") => self.dbx_digests += 1,
                (_, "db") => self.db_others += 1,
                _ => {}
            }
        }
    }
}

/// Whether this is a certificate and nothing else. Text can begin with the same byte: shim's SBAT level does, behind its first sixteen.
fn is_certificate(bytes: &[u8]) -> bool {
    der::contents(0x30, bytes).is_some() || DeviceCertificate::parse(bytes).is_ok()
}

/// The certificate that a variable names as the one that an image was accepted by: behind its owner, or alone.
fn accepted_by<'a>(variable: &Variable<'a>) -> Option<&'a [u8]> {
    let behind_owner = variable.value.get(16..).unwrap_or_default();
    [behind_owner, variable.value]
        .into_iter()
        .find(|part| is_certificate(part))
}

/// The certificate that an image was accepted by: firmware hashes the whole data, shim the certificate alone.
fn authority(event: &Event<'_>, variable: &Variable<'_>, bank: HashAlg) -> Option<BootCertificate> {
    let certificate = accepted_by(variable)?;
    let covered = event.is_digest_of(bank, event.data)
        || event.is_digest_of(bank, variable.value)
        || event.is_digest_of(bank, certificate);
    covered.then(|| BootCertificate::of(certificate))
}

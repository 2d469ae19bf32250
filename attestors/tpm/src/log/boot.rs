//! How a machine booted, as far as its log's digests commit to it.
//!
//! Two kinds of things are told apart: what a digest covers is a fact once the log was replayed; names of files and paths of images
//! are the log's own account of what the digest beside them is of, and only digests are compared with anything.

use touchmark_crypto::{HashAlg, sha256, x509::DeviceCertificate};

use touchmark_rats::{ClaimValue, Claims};

use super::{
    BootLog,
    describe::loader,
    event::{
        Content, EV_APPLICATION, EV_EFI_ACTION, EV_EVENT_TAG, EV_IPL, EV_RUNTIME_DRIVER, EV_S_CRTM_VERSION,
        EV_SEPARATOR, EV_VARIABLE_AUTHORITY, EV_VARIABLE_DRIVER_CONFIG, Event, known_kind,
    },
    judge::Registers,
    little::Little,
    uefi::{Guid, Signature, Variable, image_path, signatures, utf16},
};

/// Whether Secure Boot was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecureBoot {
    /// Measured once as on, where firmware measures it.
    On,
    /// Measured as off.
    Off,
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

/// The certificates in the databases of Secure Boot, and how many image digests each holds beside.
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
    /// Image digests in `db`.
    pub db_digests: usize,
    /// Image digests in `dbx`.
    pub dbx_digests: usize,
}

/// An image, file or section, by the digest that was extended for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Position of its event.
    pub number: usize,
    /// The register.
    pub register: u32,
    /// The digest in the bank that was asked about.
    pub digest: Vec<u8>,
    /// What the log says that it is: a path, a file name, the name of a section.
    pub name: String,
}

/// How a machine booted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// Whether Secure Boot was on.
    pub secure_boot: SecureBoot,
    /// Whose signatures it accepts.
    pub databases: SignatureDatabases,
    /// Certificates that images were accepted by.
    pub authorities: Vec<BootCertificate>,
    /// What the firmware calls its version.
    pub firmware: Option<String>,
    /// EFI drivers from devices and disks.
    pub drivers: Vec<Image>,
    /// EFI applications in the order in which they were started: loaders, kernels.
    pub applications: Vec<Image>,
    /// Files that a boot loader read.
    pub files: Vec<Image>,
    /// Sections of a unified kernel image.
    pub sections: Vec<Image>,
    /// The kernel, where the log tells which of these it is.
    pub kernel: Option<Image>,
    /// The initial RAM disks, likewise.
    pub initrds: Vec<Image>,
    /// Command lines that a digest commits to.
    pub command_lines: Vec<String>,
    /// Commands of GRUB that a digest commits to.
    pub commands: Vec<String>,
    /// Whether the firmware's boot services were left.
    pub left_firmware: bool,
    /// Events of types that no specification has.
    pub unknown_events: usize,
}

/// How much is read of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What claims are made of.
    Claims,
    /// All that can be told.
    Story,
}

impl Boot {
    /// Reads the events of a log that was replayed in `bank`.
    pub(crate) fn read(log: &BootLog<'_>, bank: HashAlg, registers: Registers, detail: Detail) -> Self {
        let mut boot = Self {
            secure_boot: secure_boot(log, bank, registers),
            ..Self::default()
        };
        let events = log.events.iter().filter(|event| event.is_extended());
        let mut kernel_path: Option<String> = None;
        let mut initrd_paths: Vec<String> = Vec::new();
        for event in events.filter(|event| event.content == Content::PcClient) {
            if known_kind(event.kind).is_none() {
                boot.unknown_events += 1;
            }
            let at = |pcr| event.register == registers.of(pcr);
            match event.kind {
                EV_VARIABLE_DRIVER_CONFIG if at(7) => boot.read_database(event, bank),
                EV_VARIABLE_AUTHORITY if at(7) => boot.authorities.extend(authority(event, bank)),
                EV_S_CRTM_VERSION if at(0) && event.is_digest_of(bank, event.data) => {
                    boot.firmware = Some(utf16(event.data)).filter(|text| !text.is_empty());
                }
                EV_APPLICATION if at(4) => {
                    let name = image_path(event.data).unwrap_or_default();
                    boot.applications.extend(image(event, bank, name));
                }
                EV_APPLICATION..=EV_RUNTIME_DRIVER => {
                    let name = image_path(event.data).unwrap_or_default();
                    boot.drivers.extend(image(event, bank, name));
                }
                EV_EFI_ACTION
                    if at(5) && event.data == EXIT_SUCCESS && event.is_digest_of(bank, event.data) =>
                {
                    boot.left_firmware = true;
                }
                EV_IPL
                    if (at(8) || at(9) || at(11) || at(12))
                        && (detail == Detail::Story || !is_other_command(event.data)) =>
                {
                    boot.read_loader(event, bank, registers, &mut kernel_path, &mut initrd_paths);
                }
                EV_EVENT_TAG if at(9) => boot.read_tag(event, bank),
                _ => {}
            }
        }
        boot.name_kernel(kernel_path.as_deref(), &initrd_paths);
        boot
    }

    /// The story as claims that policy can test.
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        let texts = |values: Vec<String>| ClaimValue::Texts(values);
        let certificates = |list: &[BootCertificate]| {
            texts(
                list.iter()
                    .map(|certificate| hex::encode(certificate.sha256))
                    .collect(),
            )
        };
        let digests = |list: &[Image]| texts(list.iter().map(|image| hex::encode(&image.digest)).collect());
        let secure_boot = match self.secure_boot {
            SecureBoot::On => "on",
            SecureBoot::Off => "off",
            SecureBoot::Unknown => "unknown",
            SecureBoot::Invalid(_) => "invalid",
        };
        claims.set("boot.secure_boot", ClaimValue::Text(secure_boot.to_owned()));
        claims.set("boot.pk", certificates(&self.databases.pk));
        claims.set("boot.kek", certificates(&self.databases.kek));
        claims.set("boot.db", certificates(&self.databases.db));
        claims.set("boot.dbx", certificates(&self.databases.dbx));
        claims.set("boot.authorities", certificates(&self.authorities));
        claims.set("boot.applications", digests(&self.applications));
        if let Some(kernel) = &self.kernel {
            claims.set("boot.kernel", ClaimValue::Text(hex::encode(&kernel.digest)));
        }
        claims.set("boot.initrds", digests(&self.initrds));
        claims.set("boot.command_lines", texts(self.command_lines.clone()));
        if let Some(firmware) = &self.firmware {
            claims.set("boot.firmware", ClaimValue::Text(firmware.clone()));
        }
        claims.set("boot.left_firmware", ClaimValue::Bool(self.left_firmware));
        let unknown = i64::try_from(self.unknown_events).unwrap_or(i64::MAX);
        claims.set("boot.unknown_events", ClaimValue::Int(unknown));
        claims
    }

    fn read_database(&mut self, event: &Event<'_>, bank: HashAlg) {
        let variable = Variable::parse(event.data).filter(|_| event.is_digest_of(bank, event.data));
        let Some(variable) = variable else { return };
        let Some(list) = signatures(variable.value) else {
            return;
        };
        let databases = &mut self.databases;
        let (certificates, digests) = match (variable.name.as_str(), variable.vendor) {
            ("PK", Guid::GLOBAL) => (&mut databases.pk, None),
            ("KEK", Guid::GLOBAL) => (&mut databases.kek, None),
            ("db", Guid::DATABASE) => (&mut databases.db, Some(&mut databases.db_digests)),
            ("dbx", Guid::DATABASE) => (&mut databases.dbx, Some(&mut databases.dbx_digests)),
            _ => return,
        };
        certificates.extend(list.iter().filter_map(|signature| match signature {
            Signature::X509(der) => Some(BootCertificate::of(der)),
            _ => None,
        }));
        if let Some(digests) = digests {
            *digests += list
                .iter()
                .filter(|signature| matches!(signature, Signature::Sha256(_)))
                .count();
        }
    }

    /// What GRUB, shim, systemd-boot and systemd-stub measure.
    fn read_loader(
        &mut self,
        event: &Event<'_>,
        bank: HashAlg,
        registers: Registers,
        kernel: &mut Option<String>,
        initrds: &mut Vec<String>,
    ) {
        let said = loader(event.data);
        // GRUB hashes the text behind the prefix; a NUL may end the data.
        for prefix in ["grub_cmd: ", "kernel_cmdline: ", "module_cmdline: "] {
            let Some(rest) = said.strip_prefix(prefix) else {
                continue;
            };
            let covered = event.is_digest_of(bank, rest.as_bytes())
                || event.is_digest_of(bank, said.as_bytes())
                || event.is_digest_of(bank, event.data);
            if !covered {
                return;
            }
            if prefix == "grub_cmd: " {
                let mut words = rest.split_whitespace();
                match words.next() {
                    Some(command) if KERNEL_COMMANDS.contains(&command) => {
                        *kernel = words.next().map(str::to_owned);
                    }
                    Some(command) if INITRD_COMMANDS.contains(&command) => {
                        initrds.extend(words.map(str::to_owned));
                    }
                    _ => {}
                }
                self.commands.push(rest.to_owned());
            } else {
                if kernel.is_none() {
                    *kernel = rest.split_whitespace().next().map(str::to_owned);
                }
                self.command_lines.push(rest.to_owned());
            }
            return;
        }
        let at = |pcr| event.register == registers.of(pcr);
        if at(11) && said.starts_with('.') {
            // The name comes first, then what is in the section, both under the name.
            let name = [said.as_bytes(), &[0]].concat();
            if !event.is_digest_of(bank, &name) {
                self.sections.extend(image(event, bank, said));
            }
        } else if event.is_digest_of(bank, event.data) && event.data.get(1) == Some(&0) {
            // systemd-boot and the stub measure what they hand over, in UTF-16.
            self.command_lines.push(said);
        } else if at(9) {
            self.files.extend(image(event, bank, said));
        }
    }

    /// Events of Linux' own EFI stub.
    fn read_tag(&mut self, event: &Event<'_>, bank: HashAlg) {
        let mut reader = Little(event.data);
        let (Some(id), Some(size)) = (reader.u32(), reader.size()) else {
            return;
        };
        let value = reader.take(size).unwrap_or_default();
        match id {
            0x8f3b_22ec => self.initrds.extend(image(event, bank, "initrd".to_owned())),
            0x8f3b_22ed if event.is_digest_of(bank, value) => self.command_lines.push(utf16(value)),
            _ => {}
        }
    }

    /// Which of the images is the kernel: the file that an authenticated command names, or a section, or the last application.
    fn name_kernel(&mut self, kernel: Option<&str>, initrds: &[String]) {
        let file = |path: &str| {
            let tail = path.rsplit(')').next().unwrap_or(path);
            let found = self
                .files
                .iter()
                .find(|file| !tail.is_empty() && file.name.trim_end().ends_with(tail));
            found.cloned()
        };
        // Older builds of GRUB name what they load by its kind only.
        let called = |name: &str| self.files.iter().find(|file| file.name == name).cloned();
        self.kernel = kernel
            .and_then(file)
            .or_else(|| called("grub_linuxefi Kernel"))
            .or_else(|| {
                self.sections
                    .iter()
                    .find(|section| section.name == ".linux")
                    .cloned()
            });
        let mut read: Vec<Image> = initrds.iter().filter_map(|path| file(path)).collect();
        if read.is_empty() {
            read.extend(called("grub_linuxefi Initrd"));
        }
        self.initrds.extend(read);
        let sections = self.sections.iter().filter(|section| section.name == ".initrd");
        self.initrds.extend(sections.cloned());
    }
}

/// Commands by which GRUB loads kernels and what goes with them.
const KERNEL_COMMANDS: [&str; 3] = ["linux", "linuxefi", "linux16"];
const INITRD_COMMANDS: [&str; 3] = ["initrd", "initrdefi", "initrd16"];

/// Whether it is a command of GRUB that loads neither kernel nor initrd: no claim is made of it.
fn is_other_command(data: &[u8]) -> bool {
    let Some(rest) = data.strip_prefix(b"grub_cmd: ") else {
        return false;
    };
    let word = rest
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    let loads = KERNEL_COMMANDS.iter().chain(&INITRD_COMMANDS);
    !loads.into_iter().any(|command| word == command.as_bytes())
}

const EXIT_SUCCESS: &[u8] = b"Exit Boot Services Returned with Success";

fn image(event: &Event<'_>, bank: HashAlg, name: String) -> Option<Image> {
    Some(Image {
        number: event.number,
        register: event.register,
        digest: event.digest(bank)?.to_vec(),
        name,
    })
}

/// The certificate that an image was accepted by: firmware hashes the whole data, shim the certificate alone.
fn authority(event: &Event<'_>, bank: HashAlg) -> Option<BootCertificate> {
    let variable = Variable::parse(event.data)?;
    let certificate = match variable.value.get(16..) {
        Some(behind_owner) if behind_owner.first() == Some(&0x30) => behind_owner,
        _ => variable.value,
    };
    let covered = event.is_digest_of(bank, event.data)
        || event.is_digest_of(bank, variable.value)
        || event.is_digest_of(bank, certificate);
    (covered && certificate.first() == Some(&0x30)).then(|| BootCertificate::of(certificate))
}

fn secure_boot(log: &BootLog<'_>, bank: HashAlg, registers: Registers) -> SecureBoot {
    let register = registers.of(7);
    let mut found = SecureBoot::Unknown;
    let mut separated = false;
    for event in log
        .events
        .iter()
        .filter(|event| event.is_extended() && event.register == register)
    {
        if event.kind == EV_SEPARATOR {
            separated = true;
        }
        if event.kind != EV_VARIABLE_DRIVER_CONFIG {
            continue;
        }
        if !event.is_digest_of(bank, event.data) {
            return SecureBoot::Invalid("a variable whose digest does not cover it");
        }
        let Some(variable) = Variable::parse(event.data) else {
            return SecureBoot::Invalid("a variable that cannot be read");
        };
        if variable.name != "SecureBoot" {
            continue;
        }
        if variable.vendor != Guid::GLOBAL {
            return SecureBoot::Invalid("a variable SecureBoot of another vendor");
        }
        if separated {
            return SecureBoot::Invalid("measured after the separator, where firmware has ended");
        }
        if found != SecureBoot::Unknown {
            return SecureBoot::Invalid("measured twice");
        }
        found = match variable.value {
            [1] => SecureBoot::On,
            [0] | [] => SecureBoot::Off,
            _ => return SecureBoot::Invalid("a value that is not one byte of 0 or 1"),
        };
    }
    found
}

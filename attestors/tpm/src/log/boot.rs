//! How a machine booted, as far as its log's digests commit to it.
//!
//! Two kinds of things are told apart: what a digest covers is a fact once the log was replayed; names of files and paths of images
//! are the log's own account of what the digest beside them is of, and only digests are compared with anything.

use touchmark_crypto::HashAlg;
use touchmark_rats::{ClaimValue, Claims};

use super::{
    BootLog,
    describe::loader,
    event::{Content, EV_APPLICATION, EV_IPL, EV_RUNTIME_DRIVER, EV_S_CRTM_VERSION, Event, known_kind},
    judge::Registers,
    little::Little,
    secure_boot::{BootCertificate, Register7, SecureBoot, SignatureDatabases, is_separator},
    stub::Sections,
    uefi::{Variable, image_path, partition_table, text, utf16},
};

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
    /// Whether the log has its variable under another type than firmware measures it by.
    pub(crate) secure_boot_renamed: bool,
    /// Whose signatures it accepts.
    pub databases: SignatureDatabases,
    /// Certificates that images were accepted by.
    pub authorities: Vec<BootCertificate>,
    /// What the firmware calls its version.
    pub firmware: Option<String>,
    /// EFI drivers from devices and disks.
    pub drivers: Vec<Image>,
    /// What was started, in its order: loaders, kernels. Whatever was measured where firmware measures applications and is nothing else.
    pub applications: Vec<Image>,
    /// What was measured into register 9: files that a boot loader read, and what Linux' own stub was given.
    pub files: Vec<Image>,
    /// Sections of a unified kernel image, by names that digests commit to.
    pub sections: Vec<Image>,
    /// What shim measured of its own keys, into register 14.
    pub shim: Vec<Image>,
    /// The kernel, by the log's own account of which of these it is.
    pub kernel: Option<Image>,
    /// The initial RAM disks, likewise.
    pub initrds: Vec<Image>,
    /// Digests of images that were accepted by their digest, SHA-256.
    pub authority_digests: Vec<[u8; 32]>,
    /// Command lines that a digest commits to.
    pub command_lines: Vec<String>,
    /// The same of register 12: what systemd-boot and its stub were given beside a unified kernel image.
    pub stub_lines: Vec<String>,
    /// Commands of GRUB that a digest commits to.
    pub commands: Vec<String>,
    /// Whether the firmware's boot services were left.
    pub left_firmware: bool,
    /// Events of types that no specification has, and of other formats in the registers of firmware and loaders.
    pub unknown_events: usize,
    /// Events in registers 7, 8 and 12 whose digest commits to nothing that could be read.
    pub unread_events: usize,
    /// The first variable of a database that is no list of signatures: number and name.
    pub(crate) no_list: Option<(usize, String)>,
    /// The first event that configures Secure Boot after firmware ended.
    pub(crate) late_configuration: Option<usize>,
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
        let seventh = Register7::read(log, bank, registers);
        let mut boot = Self {
            secure_boot: seventh.secure_boot,
            secure_boot_renamed: seventh.renamed,
            databases: seventh.databases,
            authorities: seventh.authorities,
            authority_digests: seventh.authority_digests,
            unread_events: seventh.unread,
            no_list: seventh.no_list,
            late_configuration: seventh.late,
            ..Self::default()
        };
        let mut paths = Paths::default();
        let mut sections = Sections::default();
        // Firmware's own words on its version come before its separator.
        let mut firmware_speaks = true;
        for event in log.events.iter().filter(|event| event.is_extended()) {
            let measured = event.content == Content::PcClient;
            if (measured && known_kind(event.kind).is_none()) || (!measured && event.register < 10) {
                boot.unknown_events += 1;
            }
            let at = |pcr| event.register == registers.of(pcr);
            if at(0) && firmware_speaks {
                firmware_speaks = !is_separator(event, bank);
                if event.kind == EV_S_CRTM_VERSION && event.is_digest_of(bank, event.data) {
                    boot.firmware = version(event.data).or(boot.firmware);
                }
            }
            if at(4) && !is_words(event, bank, registers) {
                let path = image_path(event.data).filter(|_| event.kind == EV_APPLICATION);
                boot.applications
                    .extend(image(event, bank, path.unwrap_or_default()));
            } else if detail == Detail::Story && (EV_APPLICATION..=EV_RUNTIME_DRIVER).contains(&event.kind) {
                let name = image_path(event.data).unwrap_or_default();
                boot.drivers.extend(image(event, bank, name));
            }
            if at(5) && event.data == EXIT_SUCCESS && event.is_digest_of(bank, event.data) {
                boot.left_firmware = true;
            }
            let loads = [8, 9, 12].into_iter().any(at);
            if loads && !is_separator(event, bank) {
                boot.read_loader(event, bank, registers, detail, &mut paths);
            }
            if at(11) && registers == Registers::Pcr {
                boot.sections.extend(sections.next(event, bank));
            }
            // Windows measures into the same register, in a form of its own.
            if detail == Detail::Story && at(14) && registers == Registers::Pcr && event.kind == EV_IPL {
                boot.shim.extend(image(event, bank, loader(event.data)));
            }
        }
        boot.name_kernel(paths.kernel.as_deref(), &paths.initrds);
        boot
    }

    /// The story as claims that policy can test. `quoted` tells of which registers something is known: of the others nothing is claimed.
    pub fn into_claims(self, quoted: impl Fn(u32) -> bool) -> Claims {
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
            SecureBoot::Off | SecureBoot::Unset => "off",
            SecureBoot::Unknown => "unknown",
            SecureBoot::Invalid(_) => "invalid",
        };
        claims.set("boot.secure_boot", ClaimValue::Text(secure_boot.to_owned()));
        claims.set("boot.pk", certificates(&self.databases.pk));
        claims.set("boot.kek", certificates(&self.databases.kek));
        claims.set("boot.db", certificates(&self.databases.db));
        claims.set("boot.dbx", certificates(&self.databases.dbx));
        let db_digests = self.databases.db_digests.iter().map(hex::encode).collect();
        claims.set("boot.db_digests", texts(db_digests));
        let count = |count: usize| ClaimValue::Int(i64::try_from(count).unwrap_or(i64::MAX));
        claims.set("boot.db_others", count(self.databases.db_others));
        claims.set(
            "boot.databases_measured",
            ClaimValue::Bool(self.databases.measured),
        );
        claims.set("boot.authorities", certificates(&self.authorities));
        let accepted = self.authority_digests.iter().map(hex::encode).collect();
        claims.set("boot.authority_digests", texts(accepted));
        if quoted(4) {
            claims.set("boot.applications", digests(&self.applications));
        }
        if quoted(9) {
            claims.set("boot.files", digests(&self.files));
        }
        if quoted(11) {
            let named = |section: &Image| format!("{}={}", section.name, hex::encode(&section.digest));
            claims.set("boot.sections", texts(self.sections.iter().map(named).collect()));
        }
        if quoted(8) && quoted(9) {
            claims.set("boot.command_lines", texts(self.command_lines));
            claims.set("boot.commands", texts(self.commands));
        }
        if quoted(12) {
            claims.set("boot.stub_lines", texts(self.stub_lines));
        }
        if let Some(firmware) = self.firmware {
            claims.set("boot.firmware", ClaimValue::Text(firmware));
        }
        claims.set("boot.left_firmware", ClaimValue::Bool(self.left_firmware));
        claims.set("boot.unknown_events", count(self.unknown_events));
        claims.set("boot.unread_events", count(self.unread_events));
        claims
    }

    /// What GRUB, systemd-boot, systemd-stub and Linux' own stub measure. What a digest commits to is read whatever type the log gives it.
    fn read_loader(
        &mut self,
        event: &Event<'_>,
        bank: HashAlg,
        registers: Registers,
        detail: Detail,
        paths: &mut Paths,
    ) {
        let at = |pcr| event.register == registers.of(pcr);
        let end = event
            .data
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let said = event.data.get(..end).unwrap_or_default();
        // GRUB hashes the text behind the prefix; that of Red Hat's releases before 9 with the NUL that ends it.
        for (prefix, is_command) in GRUB_PREFIXES {
            let Some(rest) = said.strip_prefix(prefix.as_bytes()) else {
                continue;
            };
            let covered = event.is_digest_of(bank, rest)
                || event.is_digest_of(bank, &[rest, &[0]].concat())
                || event.is_digest_of(bank, said)
                || event.is_digest_of(bank, event.data);
            if covered {
                match (is_command, detail) {
                    // Which paths it loads is told, and not claimed.
                    (true, Detail::Claims) => self.commands.push(text(rest)),
                    _ => self.read_command(is_command, &text(rest), paths),
                }
                return;
            }
        }
        let said = loader(event.data);
        if at(9) {
            if let Some(line) = load_options(event, bank) {
                self.command_lines.push(line);
            }
            let name = if is_initrd_tag(event.data) {
                "initrd".to_owned()
            } else {
                said
            };
            self.files.extend(image(event, bank, name));
        } else if !event.is_digest_of(bank, event.data) {
            self.unread_events += 1;
        } else if !is_tag(event.data) && event.data != WINDOWS_SEPARATOR {
            // Of systemd-boot and its stub, in UTF-16; or of whoever wrote it without a prefix, which no digest covers.
            let lines = if at(12) && registers == Registers::Pcr {
                &mut self.stub_lines
            } else {
                &mut self.command_lines
            };
            lines.push(words(event.data));
        }
    }

    fn read_command(&mut self, is_command: bool, rest: &str, paths: &mut Paths) {
        if !is_command {
            if paths.kernel.is_none() {
                paths.kernel = rest.split_whitespace().next().map(str::to_owned);
            }
            self.command_lines.push(rest.to_owned());
            return;
        }
        let mut words = rest.split_whitespace();
        match words.next() {
            Some(command) if KERNEL_COMMANDS.contains(&command) => {
                paths.kernel = words.next().map(str::to_owned);
            }
            Some(command) if INITRD_COMMANDS.contains(&command) => {
                paths.initrds.extend(words.map(str::to_owned));
            }
            _ => {}
        }
        self.commands.push(rest.to_owned());
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
        self.initrds = self
            .files
            .iter()
            .filter(|file| file.name == "initrd")
            .cloned()
            .collect();
        let mut read: Vec<Image> = initrds.iter().filter_map(|path| file(path)).collect();
        if read.is_empty() {
            read.extend(called("grub_linuxefi Initrd"));
        }
        self.initrds.extend(read);
        let sections = self.sections.iter().filter(|section| section.name == ".initrd");
        self.initrds.extend(sections.cloned());
    }
}

/// What GRUB writes before what it measures, and whether that is a command or a command line.
const GRUB_PREFIXES: [(&str, bool); 5] = [
    ("grub_cmd: ", true),
    ("kernel_cmdline: ", false),
    ("module_cmdline: ", false),
    ("grub_cmd ", true),
    ("grub_kernel_cmdline ", false),
];
/// Commands by which GRUB loads kernels and what goes with them.
const KERNEL_COMMANDS: [&str; 3] = ["linux", "linuxefi", "linux16"];
const INITRD_COMMANDS: [&str; 3] = ["initrd", "initrdefi", "initrd16"];

/// What authenticated commands of GRUB load, by path.
#[derive(Default)]
struct Paths {
    kernel: Option<String>,
    initrds: Vec<String>,
}

const EXIT_SUCCESS: &[u8] = b"Exit Boot Services Returned with Success";

pub(super) fn image(event: &Event<'_>, bank: HashAlg, name: String) -> Option<Image> {
    Some(Image {
        number: event.number,
        register: event.register,
        digest: event.digest(bank)?.to_vec(),
        name,
    })
}

/// What firmware calls its version, where that is text: some measure an identifier instead.
fn version(data: &[u8]) -> Option<String> {
    let text = utf16(data);
    let text = text.trim();
    let readable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (readable && !text.is_empty()).then(|| text.to_owned())
}

/// Longest text that firmware measures beside applications, in bytes: far too short for an image.
const MAX_WORDS: usize = 256;

/// Whether an event among those of applications is firmware's own words, or its separator: what its digest commits to is in the log, and is
/// no image. A confidential VM has tables of partitions and variables in the same register.
fn is_words(event: &Event<'_>, bank: HashAlg, registers: Registers) -> bool {
    if is_separator(event, bank) {
        return true;
    }
    let words = event.data.len() <= MAX_WORDS
        && event
            .data
            .iter()
            .all(|byte| (0x20..0x7f).contains(byte) || *byte == 0);
    let shared = registers == Registers::Rtmr
        && (partition_table(event.data).is_some() || Variable::parse(event.data).is_some());
    (words || shared) && event.is_digest_of(bank, event.data)
}

/// By which Windows' loader ends what it measures into register 12.
const WINDOWS_SEPARATOR: &[u8] = b"WBCL";
/// Tags of Linux' own EFI stub in register 9: initial RAM disks, and the command line.
const INITRD_TAG: u32 = 0x8f3b_22ec;
const OPTIONS_TAG: u32 = 0x8f3b_22ed;

fn tag(data: &[u8]) -> Option<(u32, &[u8])> {
    let mut reader = Little(data);
    let (id, size) = (reader.u32()?, reader.size()?);
    Some((id, reader.take(size).unwrap_or_default()))
}

/// Whether data is one tagged event and nothing else, as Windows' loader writes them.
fn is_tag(data: &[u8]) -> bool {
    let mut reader = Little(data);
    let size = reader.u32().and_then(|_| reader.size());
    size.is_some_and(|size| size == reader.0.len())
}

/// Text in whichever encoding it is.
fn words(data: &[u8]) -> String {
    let end = data
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    match std::str::from_utf8(data.get(..end).unwrap_or_default()) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => utf16(data),
    }
}

fn is_initrd_tag(data: &[u8]) -> bool {
    tag(data).is_some_and(|(id, _)| id == INITRD_TAG)
}

/// The command line that Linux' stub was given, where the digest commits to it.
fn load_options(event: &Event<'_>, bank: HashAlg) -> Option<String> {
    let (id, value) = tag(event.data)?;
    (id == OPTIONS_TAG && event.is_digest_of(bank, value)).then(|| utf16(value))
}

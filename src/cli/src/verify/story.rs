//! How a machine booted, for people and as a document.

use serde_json::{Value, json};
use touchmark_attestor_tpm::{Boot, BootCertificate, Image, SecureBoot};

/// Most command lines and commands that are told.
const MAX_LINES: usize = 64;

/// Lines, each with a title.
#[derive(Default)]
struct Story(Vec<String>);

impl Story {
    fn tell(&mut self, title: &str, text: impl std::fmt::Display) {
        self.0.push(format!("{title:14}{text}"));
    }

    /// What an image is called, and below it where it was measured, and its digest.
    fn image(&mut self, title: &str, image: &Image) {
        let name = match image.name.as_str() {
            "" => "(without a path)",
            name => name,
        };
        self.tell(title, name.to_owned());
        self.tell(
            "",
            format!("PCR {}, {}", image.register, hex::encode(&image.digest)),
        );
    }
}

/// The story in lines.
pub(super) fn lines(boot: &Boot) -> Vec<String> {
    let mut story = Story::default();
    story.tell(
        "Firmware",
        boot.firmware
            .clone()
            .unwrap_or_else(|| "does not say its version".to_owned()),
    );
    story.tell(
        "Secure Boot",
        match boot.secure_boot {
            SecureBoot::On => "on".to_owned(),
            SecureBoot::Off => "off".to_owned(),
            SecureBoot::Unset => "off (the variable has no value)".to_owned(),
            SecureBoot::Unknown => "not measured".to_owned(),
            SecureBoot::Invalid(how) => format!("not to be believed: {how}"),
        },
    );
    let databases = &boot.databases;
    for (name, certificates, digests) in [
        ("PK", &databases.pk, 0),
        ("KEK", &databases.kek, 0),
        ("db", &databases.db, databases.db_digests.len()),
        ("dbx", &databases.dbx, databases.dbx_digests),
    ] {
        for certificate in certificates {
            story.tell("", format!("{name:4} {}", self::certificate(certificate)));
        }
        if digests > 0 {
            story.tell("", format!("{name:4} {digests} digests of images"));
        }
    }
    for certificate in &boot.authorities {
        story.tell("Accepted by", self::certificate(certificate));
    }
    for image in &boot.drivers {
        story.image("Driver", image);
    }
    for image in &boot.applications {
        story.image("Started", image);
    }
    for (title, images) in [
        ("Shim's keys", boot.shim.iter().collect::<Vec<_>>()),
        ("Kernel", boot.kernel.iter().collect()),
        ("Initrd", boot.initrds.iter().collect()),
    ] {
        for image in images {
            story.image(title, image);
        }
    }
    let named = |image: &&Image| Some(*image) != boot.kernel.as_ref() && !boot.initrds.contains(image);
    for image in boot.sections.iter().filter(named) {
        story.image("Section", image);
    }
    for image in boot.files.iter().filter(named).take(MAX_LINES) {
        story.image("File", image);
    }
    for digest in boot.authority_digests.iter().take(MAX_LINES) {
        story.tell(
            "Accepted by",
            format!("the digest of the image, {}", hex::encode(digest)),
        );
    }
    for line in boot.command_lines.iter().chain(&boot.stub_lines).take(MAX_LINES) {
        story.tell("Command line", line.clone());
    }
    let commands = boot.commands.len();
    if commands > 0 {
        story.tell("GRUB", format!("{commands} commands; the ones that load:"));
    }
    let loads = [
        "linux",
        "initrd",
        "chainloader",
        "multiboot",
        "insmod /",
        "kernel",
    ];
    for command in boot
        .commands
        .iter()
        .filter(|command| loads.iter().any(|word| command.starts_with(word)))
        .take(MAX_LINES)
    {
        story.tell("", command.clone());
    }
    story.tell(
        "Handed over",
        if boot.left_firmware {
            "the firmware's boot services were left"
        } else {
            "the log does not say that the firmware's boot services were left"
        }
        .to_owned(),
    );
    if databases.db_others > 0 {
        story.tell("", format!("db   {} entries of other kinds", databases.db_others));
    }
    if boot.unread_events > 0 {
        story.tell(
            "Unread",
            format!(
                "{} events of Secure Boot or of loaders whose digest commits to nothing that is in the log",
                boot.unread_events
            ),
        );
    }
    if boot.unknown_events > 0 {
        story.tell(
            "Unknown",
            format!(
                "{} events of types that no specification has",
                boot.unknown_events
            ),
        );
    }
    story.0
}

/// The story as a document.
pub(super) fn document(boot: &Boot) -> Value {
    let certificates = |list: &[BootCertificate]| -> Value {
        list.iter()
            .map(|certificate| json!({"sha256": hex::encode(certificate.sha256), "subject": certificate.subject}))
            .collect()
    };
    let image = |image: &Image| {
        json!({
            "event": image.number,
            "pcr": image.register,
            "digest": hex::encode(&image.digest),
            "name": image.name,
        })
    };
    let images = |list: &[Image]| -> Value { list.iter().map(image).collect() };
    let secure_boot = match boot.secure_boot {
        SecureBoot::On => json!("on"),
        SecureBoot::Off | SecureBoot::Unset => json!("off"),
        SecureBoot::Unknown => json!("unknown"),
        SecureBoot::Invalid(_) => json!("invalid"),
    };
    json!({
        "firmware": boot.firmware,
        "secure_boot": secure_boot,
        "databases": {
            "pk": certificates(&boot.databases.pk),
            "kek": certificates(&boot.databases.kek),
            "db": certificates(&boot.databases.db),
            "dbx": certificates(&boot.databases.dbx),
            "db_digests": boot.databases.db_digests.iter().map(hex::encode).collect::<Vec<_>>(),
            "db_others": boot.databases.db_others,
            "measured": boot.databases.measured,
            "dbx_digests": boot.databases.dbx_digests,
        },
        "authorities": certificates(&boot.authorities),
        "drivers": images(&boot.drivers),
        "applications": images(&boot.applications),
        "files": images(&boot.files),
        "sections": images(&boot.sections),
        "shim": images(&boot.shim),
        "kernel": boot.kernel.as_ref().map(image),
        "initrds": images(&boot.initrds),
        "authority_digests": boot.authority_digests.iter().map(hex::encode).collect::<Vec<_>>(),
        "command_lines": boot.command_lines,
        "stub_lines": boot.stub_lines,
        "commands": boot.commands,
        "left_firmware": boot.left_firmware,
        "unknown_events": boot.unknown_events,
        "unread_events": boot.unread_events,
    })
}

fn certificate(certificate: &BootCertificate) -> String {
    let digest = hex::encode(certificate.sha256);
    let short = digest.get(..16).unwrap_or_default();
    format!("{} ({short}..)", certificate.subject)
}

//! `touchmark reference compute`: what boot files lead to, before any host has booted them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use touchmark_attestor_tpm::{EfiImage, ImageValue};
use touchmark_crypto::HashAlg;
use touchmark_verifier::{ReferenceSet, ReferenceValue};

use crate::{
    exit::{UNUSABLE, fail},
    output::{Output, say},
    verify::{input, references},
};

/// The bank that hosts quote (`bank` of section `tpm` in server.toml).
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Bank {
    #[default]
    Sha256,
    Sha384,
}

/// Boot files.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A unified kernel image, or a kernel.
    kernel: PathBuf,
    /// Initrds that the kernel is loaded with.
    #[arg(long, value_name = "FILE")]
    initrd: Vec<PathBuf>,
    /// Further EFI executables that are started before it: shim, GRUB, systemd-boot.
    #[arg(long, value_name = "FILE")]
    loader: Vec<PathBuf>,
    /// Values that the rest of the boot has, TOML: what is computed is added to them.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Boot files of the release before, whose values are left out of those: the new set is for the new files alone.
    #[arg(long, value_name = "FILE", requires = "with")]
    instead_of: Vec<PathBuf>,
    /// The bank of registers that hosts quote.
    #[arg(long, value_enum, default_value_t)]
    bank: Bank,
    /// Label of the set.
    #[arg(long)]
    label: String,
}

pub(super) fn run(output: Output, arguments: &Arguments) -> Result<(), ExitCode> {
    let bank = match arguments.bank {
        Bank::Sha256 => HashAlg::Sha256,
        Bank::Sha384 => HashAlg::Sha384,
    };
    let mut values: Vec<ReferenceValue> = Vec::new();
    if let Some(with) = &arguments.with {
        for set in references(std::slice::from_ref(with))? {
            values.extend(set.values().iter().cloned());
        }
    }
    for old in &arguments.instead_of {
        let bytes = input::read_boot_file(old)?;
        if let Some(section) = EfiImage::parse(&bytes)
            .ok()
            .and_then(|image| image.beside_initrd())
        {
            let what = format!(
                "because of its section {section} the value of its initrd (PCR 9) cannot be computed, and would stay valid: take the next \
                 release's values from a host that booted it (reference capture)"
            );
            return Err(unusable(old, what));
        }
        let digests: Vec<String> = of_file(old, bank)?
            .into_iter()
            .map(|value| value.digest)
            .collect();
        let before = values.len();
        values.retain(|value| !digests.contains(&value.digest));
        if values.len() == before {
            return Err(unusable(old, "nothing of it is among the values of --with"));
        }
    }
    for loader in &arguments.loader {
        let bytes = input::read_boot_file(loader)?;
        let digest = image(&bytes, loader)?
            .authenticode(bank)
            .map_err(|error| unusable(loader, error))?;
        values.push(value(4, &digest, name(loader)));
    }
    let bytes = input::read_boot_file(&arguments.kernel)?;
    image(&bytes, &arguments.kernel)?;
    for file in std::iter::once(&arguments.kernel).chain(&arguments.initrd) {
        values.extend(of_file(file, bank)?);
    }
    let set = ReferenceSet::of(&arguments.label, values).map_err(|error| fail(UNUSABLE, error))?;
    // As `reference capture` has it.
    match output {
        Output::Json => say(&format!(
            "{}\n",
            json!({"label": set.label(), "reference": set.to_toml()})
        )),
        Output::Text => say(&set.to_toml()),
    }
    Ok(())
}

/// What a file leads to: an EFI executable what is measured of it, and what is read by GRUB as it is.
fn of_file(path: &Path, bank: HashAlg) -> Result<Vec<ReferenceValue>, ExitCode> {
    let bytes = input::read_boot_file(path)?;
    let as_it_is = || value(9, &bank.digest(&[&bytes]), name(path));
    let Ok(image) = EfiImage::parse(&bytes) else {
        return Ok(vec![as_it_is()]);
    };
    let computed = image
        .values(bank, &name(path))
        .map_err(|error| unusable(path, error))?;
    if let Some(section) = image.beside_initrd() {
        eprintln!(
            "touchmark: {}: because of its section {section} the stub hands over more than .initrd: take the value of PCR 9 from a \
             host that booted it (reference capture)",
            path.display()
        );
    }
    let of = |of: ImageValue| value(of.pcr, &of.digest, of.description);
    let mut values: Vec<ReferenceValue> = computed.into_iter().map(of).collect();
    values.extend((!image.is_unified()).then(as_it_is));
    Ok(values)
}

fn image<'a>(bytes: &'a [u8], path: &Path) -> Result<EfiImage<'a>, ExitCode> {
    EfiImage::parse(bytes).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> ExitCode {
    fail(UNUSABLE, format!("{}: {why}", path.display()))
}

fn value(pcr: u8, digest: &[u8], description: String) -> ReferenceValue {
    ReferenceValue {
        pcr,
        digest: hex::encode(digest),
        description,
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

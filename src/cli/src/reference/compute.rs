//! `touchmark reference compute`: what boot files lead to, before any host has booted them.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use touchmark_attestor_tpm::{EfiImage, ImageValue};
use touchmark_crypto::HashAlg;
use touchmark_verifier::{ReferenceSet, ReferenceValue};

use crate::{
    exit::{UNUSABLE, fail},
    verify::{input, references},
};

/// The bank that hosts quote.
const BANK: HashAlg = HashAlg::Sha256;

pub(super) fn run(
    kernel: &Path,
    initrds: &[PathBuf],
    loaders: &[PathBuf],
    with: Option<&Path>,
    label: &str,
) -> Result<(), ExitCode> {
    let mut values: Vec<ReferenceValue> = Vec::new();
    if let Some(with) = with {
        for set in references(&[with.to_path_buf()])? {
            values.extend(set.values().iter().cloned());
        }
    }
    for loader in loaders {
        let bytes = input::read(loader)?;
        let digest = image(&bytes, loader)?
            .authenticode(BANK)
            .map_err(|error| unusable(loader, error))?;
        values.push(value(4, &digest, name(loader)));
    }
    let bytes = input::read(kernel)?;
    let image = image(&bytes, kernel)?;
    let computed = image
        .values(BANK, &name(kernel))
        .map_err(|error| unusable(kernel, error))?;
    values.extend(
        computed
            .into_iter()
            .map(|of: ImageValue| value(of.pcr, &of.digest, of.description)),
    );
    if !image.is_unified() {
        // GRUB measures the files that it reads as they are.
        values.push(value(9, &BANK.digest(&[&bytes]), name(kernel)));
    }
    for initrd in initrds {
        let bytes = input::read(initrd)?;
        values.push(value(9, &BANK.digest(&[&bytes]), name(initrd)));
    }
    let set = ReferenceSet::of(label, values).map_err(|error| fail(UNUSABLE, error))?;
    print!("{}", set.to_toml());
    Ok(())
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

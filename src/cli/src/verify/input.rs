//! What the commands of `verify` take: files of evidence, register values, certificates, times.

mod registers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use touchmark_attestor_tpm::PcrValues;
use touchmark_crypto::{HashAlg, PublicKey, pem, x509::DeviceAnchors, x509::DeviceCertificate};
use touchmark_rats::{PcrBank, PcrSelection};

use crate::exit::{UNUSABLE, fail};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Largest file that a machine boots: unified kernel images hold whole systems.
const MAX_BOOT_FILE: u64 = 1 << 30;

/// Reads a file of evidence, `-` for standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ExitCode> {
    read_within(path, MAX_FILE)
}

/// Reads a kernel, an initrd or an image, `-` for standard input.
pub(crate) fn read_boot_file(path: &Path) -> Result<Vec<u8>, ExitCode> {
    read_within(path, MAX_BOOT_FILE)
}

fn read_within(path: &Path, limit: u64) -> Result<Vec<u8>, ExitCode> {
    let cannot = |why: String| fail(UNUSABLE, format!("{}: {why}", path.display()));
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(std::io::stdin().lock(), limit + 1);
        std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(|error| cannot(error.to_string()))?;
        return if bytes.len() as u64 > limit {
            Err(cannot(over(limit)))
        } else {
            Ok(bytes)
        };
    }
    // Files below /sys have no length: what counts is how much there is.
    let file = std::fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit + 1), &mut bytes)
        .map_err(|error| cannot(error.to_string()))?;
    if bytes.len() as u64 > limit {
        Err(cannot(over(limit)))
    } else {
        Ok(bytes)
    }
}

fn over(limit: u64) -> String {
    format!("over {} MiB: larger than any such file", limit >> 20)
}

/// A time in RFC 3339; now where none is given.
pub(crate) fn moment(text: Option<&str>) -> Result<u64, ExitCode> {
    match text {
        None => Ok(touchmark_tls::clock::now()),
        Some(text) => touchmark_tls::clock::from_rfc3339(text).ok_or_else(|| {
            fail(
                UNUSABLE,
                format!("--at {text}: not a time; write it like 2026-11-24T12:00:00Z"),
            )
        }),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hexadecimal(name: &str, text: Option<&str>) -> Result<Option<Vec<u8>>, ExitCode> {
    text.map(|text| {
        hex::decode(text).map_err(|_| fail(UNUSABLE, format!("{name}: {text} is not hexadecimal")))
    })
    .transpose()
}

/// Certificates in files, DER or PEM.
pub(crate) fn certificates(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, ExitCode> {
    let mut out = Vec::new();
    for path in paths {
        let bytes = read(path)?;
        for der in in_file(&bytes) {
            DeviceCertificate::parse(&der)
                .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))?;
            out.push(der);
        }
    }
    Ok(out)
}

/// Anchors in files.
pub(crate) fn anchors(paths: &[PathBuf]) -> Result<DeviceAnchors, ExitCode> {
    let ders = certificates(paths)?;
    DeviceAnchors::new(ders.iter().map(Vec::as_slice)).map_err(|error| fail(UNUSABLE, error))
}

/// The certificates in a file, whether DER or PEM.
pub(crate) fn in_file(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok();
    let pems = text.and_then(|text| pem::decode_all(pem::CERTIFICATE, text).ok());
    pems.unwrap_or_else(|| vec![bytes.to_vec()])
}

/// A public key in a file: SubjectPublicKeyInfo, DER or PEM, or that of a certificate.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, ExitCode> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let spki = match pem::decode_all("PUBLIC KEY", &text) {
        Ok(ders) => ders.into_iter().next().unwrap_or_default(),
        Err(_) => match in_file(&bytes).first().map(|der| DeviceCertificate::parse(der)) {
            Some(Ok(certificate)) => certificate.facts.spki,
            _ => bytes.clone(),
        },
    };
    PublicKey::from_file_signer_spki(&spki).map_err(|error| {
        fail(
            UNUSABLE,
            format!(
                "{}: {error}; give a public key or a certificate, DER or PEM",
                path.display()
            ),
        )
    })
}

/// All public keys in a file, PEM: keys and certificates; or the one, DER.
pub(crate) fn public_keys(path: &Path) -> Result<Vec<PublicKey>, ExitCode> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut spkis = pem::decode_all("PUBLIC KEY", &text).unwrap_or_default();
    for der in pem::decode_all(pem::CERTIFICATE, &text).unwrap_or_default() {
        spkis.extend(DeviceCertificate::parse(&der).map(|certificate| certificate.facts.spki));
    }
    if spkis.is_empty() {
        return Ok(vec![public_key(path)?]);
    }
    let key = |spki: &Vec<u8>| {
        PublicKey::from_file_signer_spki(spki)
            .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))
    };
    spkis.iter().map(key).collect()
}

/// Register values: `{"sha256": {"0": "hex"}}`, or what tpm2_pcrread prints.
pub(crate) fn registers(path: &Path) -> Result<PcrValues, ExitCode> {
    let bytes = read(path)?;
    registers::read(&String::from_utf8_lossy(&bytes))
        .map_err(|why| fail(UNUSABLE, format!("{}: {why}", path.display())))
}

/// A bank by its name.
pub(crate) fn bank(name: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|hash| hash.name() == name)
}

/// A selection as tools write it: `sha256:0,1,2+sha384:0`.
pub(crate) fn selection(text: &str) -> Result<PcrSelection, ExitCode> {
    let wrong = || {
        fail(
            UNUSABLE,
            format!("--pcrs {text}: write it like sha256:0,1,2+sha384:0"),
        )
    };
    text.split('+')
        .map(|part| {
            let (name, indices) = part.split_once(':').ok_or_else(wrong)?;
            let indices: Result<Vec<u8>, ExitCode> = indices
                .split(',')
                .map(|index| index.parse().ok().filter(|index| *index < 24).ok_or_else(wrong))
                .collect();
            let mut indices = indices?;
            indices.sort_unstable();
            indices.dedup();
            Ok(PcrBank {
                bank: bank(name).ok_or_else(wrong)?,
                indices,
            })
        })
        .collect::<Result<_, _>>()
        .map(PcrSelection)
}

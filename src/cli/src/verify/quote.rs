//! `touchmark verify tpm`: a quote, with the log that explains it.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use touchmark_attestor_tpm::{
    CertificateUse, LogUse, PcrValues, RecordedKey, RecordedQuote, Registers, judge_certificate, judge_log,
};
use touchmark_rats::{Check, ClaimValue, PcrSelection, Reason};
use touchmark_verifier::ReferenceSet;

use super::{
    eventlog::{self, Against},
    input, outcome, policy,
};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
    verify::outcome::Report,
};

/// A quote, as tpm2_quote writes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The attestation (TPMS_ATTEST; `tpm2_quote --message`).
    attest: PathBuf,
    /// Its signature (TPMT_SIGNATURE; `tpm2_quote --signature`).
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// The attestation key: a public key or its certificate, DER or PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The attestation key's TPMT_PUBLIC as well: its attributes are shown, and its scheme has to be the signature's.
    #[arg(long, value_name = "FILE")]
    key_area: Option<PathBuf>,
    /// Roots that have to vouch for the key's certificate.
    #[arg(long, value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// Certificates between them.
    #[arg(long, value_name = "FILE", requires = "roots")]
    intermediates: Vec<PathBuf>,
    /// Qualifying data that it has to carry, in hexadecimal. Without it nothing is said about freshness.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Registers that it has to be over, like sha256:0,1,2.
    #[arg(long, value_name = "SELECTION")]
    pcrs: Option<String>,
    /// Values of the registers: JSON, or what tpm2_pcrread prints.
    #[arg(long, value_name = "FILE")]
    registers: Option<PathBuf>,
    /// The boot log, which has to lead to the registers.
    #[arg(long, value_name = "FILE")]
    eventlog: Option<PathBuf>,
    /// Reference values that the boot has to match.
    #[arg(long, value_name = "FILE", requires = "eventlog")]
    reference: Vec<PathBuf>,
    /// Policies that have to permit, Cedar; with a log. About a host without labels; the device is vouched for where roots are given.
    #[arg(long, value_name = "FILE", requires = "eventlog")]
    policy: Vec<PathBuf>,
    /// Refuses a boot whose log does not show Secure Boot on.
    #[arg(long, requires = "eventlog")]
    require_secure_boot: bool,
    /// When certificates have to hold; now by default.
    #[arg(long, value_name = "TIME", requires = "roots")]
    at: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let (attest, signature) = (
        input::read(&arguments.attest)?,
        input::read(&arguments.signature)?,
    );
    let nonce = input::hexadecimal("--nonce", arguments.nonce.as_deref())?;
    let selection: Option<PcrSelection> = arguments.pcrs.as_deref().map(input::selection).transpose()?;
    let values: Option<PcrValues> = arguments.registers.as_deref().map(input::registers).transpose()?;
    if arguments.eventlog.is_some() && values.is_none() {
        return Err(fail(
            UNUSABLE,
            "--eventlog: give --registers too, since a quote says only a digest of them",
        ));
    }
    let log = arguments.eventlog.as_deref().map(input::read).transpose()?;
    let sets = eventlog::references(&arguments.reference)?;
    let mut checks: Vec<Check> = Vec::new();
    let Some(key) = key(arguments, &mut checks)? else {
        return Ok(Report::of(checks));
    };
    let judged = RecordedQuote {
        attest: &attest,
        signature: &signature,
        key: &key,
        nonce: nonce.as_deref(),
        selection: selection.as_ref(),
        values: values.as_ref(),
        log: log.as_deref(),
    }
    .judge();
    let held = judged.checks.iter().all(|check| check.reason().is_none());
    checks.extend(judged.checks);
    let quoted: serde_json::Map<String, serde_json::Value> = judged
        .quoted
        .iter()
        .map(|(bank, values)| {
            let values: serde_json::Map<String, serde_json::Value> = values
                .iter()
                .map(|(index, value)| (index.to_string(), hex::encode(value).into()))
                .collect();
            (bank.name().to_owned(), values.into())
        })
        .collect();
    let report = match (held, log) {
        (true, Some(log)) => {
            let wanted = LogUse {
                secure_boot: arguments.require_secure_boot,
                bank: sets.iter().find_map(ReferenceSet::bank),
            };
            let judged_log = judge_log(&log, Registers::Pcr, &judged.quoted, wanted);
            let mut claims = policy::nobody_vouches();
            claims.extend(&judged.claims);
            claims.set("device.vouched", ClaimValue::Bool(!arguments.roots.is_empty()));
            let against = Against {
                values: &judged.quoted,
                sets,
                policies: policy::read(&arguments.policy)?,
                claims,
                all: false,
            };
            let mut told = eventlog::told(judged_log, &against);
            checks.append(&mut told.checks);
            Report { checks, ..told }
        }
        _ => Report::of(checks).with("claims", outcome::claims(&judged.claims)),
    };
    Ok(report.with("quoted", json!(quoted)))
}

/// The key, vouched for where roots are given. `None` when that fails, with the check that says why.
fn key(arguments: &Arguments, checks: &mut Vec<Check>) -> Result<Option<RecordedKey>, ExitCode> {
    let key = input::public_key(&arguments.key)?;
    if !arguments.roots.is_empty() {
        let bytes = input::read(&arguments.key)?;
        let der = input::in_file(&bytes).into_iter().next().unwrap_or_default();
        let intermediates = input::certificates(&arguments.intermediates)?;
        let anchors = input::anchors(&arguments.roots)?;
        let now = input::moment(arguments.at.as_deref())?;
        match judge_certificate(
            &der,
            &intermediates,
            &anchors,
            CertificateUse::BareAttestation,
            now,
        ) {
            Ok(chip) => checks.extend(chip.checks),
            Err(check) => {
                checks.push(check);
                return Ok(None);
            }
        }
    }
    let Some(path) = &arguments.key_area else {
        return Ok(Some(RecordedKey::bare(key)));
    };
    // TPM2B_PUBLIC, as tools write it, has a size before the area.
    let bytes = input::read(path)?;
    let sized = bytes
        .first_chunk::<2>()
        .map(|size| usize::from(u16::from_be_bytes(*size)));
    let area = match sized {
        Some(size) if size + 2 == bytes.len() => bytes.get(2..).unwrap_or_default(),
        _ => &bytes,
    };
    match RecordedKey::with_area(key, area) {
        Ok(key) => Ok(Some(key)),
        Err(check) if check.reason() == Some(Reason::Malformed) => {
            Err(fail(UNUSABLE, format!("{}: {}", path.display(), check.found)))
        }
        Err(check) => {
            checks.push(check);
            Ok(None)
        }
    }
}

//! `touchmark verify hsm`: what a maker's module says of a key.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;
use touchmark_attestor_hsm::{Format, Statement, judge as judge_statement};

use super::{
    input,
    outcome::{Report, claims},
};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// A module's statement about a key: a certificate of a YubiHSM 2 or of a YubiKey (PIV), or the attributes that a Marvell LiquidSecurity
/// module signed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The statement, DER, PEM or as the module wrote it; `-` for standard input.
    file: PathBuf,
    /// Roots of the maker, DER or PEM.
    #[arg(long, value_name = "FILE", required = true)]
    roots: Vec<PathBuf>,
    /// Certificates between the statement and its root: of the device, of its partition.
    #[arg(long, value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Roots of the module's owner, whom a Marvell statement has to lead to as well.
    #[arg(long, value_name = "FILE")]
    owner_roots: Vec<PathBuf>,
    /// What the statement is: yubihsm2, yubikey-piv or marvell. By default what it looks like.
    #[arg(long)]
    format: Option<String>,
    /// The serial number that the module has to have.
    #[arg(long)]
    serial: Option<String>,
    /// The key that it has to be about: a public key or a certificate, DER or PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Refuses a module that is not of a FIPS series.
    #[arg(long)]
    require_fips: bool,
    /// When certificates have to hold; now by default.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let bytes = input::read(&arguments.file)?;
    let bytes = input::in_file(&bytes).into_iter().next().unwrap_or_default();
    let format = match arguments.format.as_deref() {
        None => Format::of(&bytes),
        Some(word) => Format::parse(word).ok_or_else(|| {
            let words: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
            fail(
                UNUSABLE,
                format!("--format {word}: there are {}", words.join(", ")),
            )
        })?,
    };
    let certificates = input::certificates(&arguments.certificates)?;
    let makers = input::anchors(&arguments.roots)?;
    let owners = input::anchors(&arguments.owner_roots)?;
    let wanted = arguments.key.as_deref().map(input::public_key).transpose()?;
    let statement = Statement {
        format,
        bytes: &bytes,
        certificates: &certificates,
        makers: &makers,
        owners: (!owners.is_empty()).then_some(&owners),
    };
    let attested = match judge_statement(&statement, input::moment(arguments.at.as_deref())?) {
        Ok(attested) => attested,
        Err(check) => return Ok(Report::of(vec![check])),
    };
    let mut checks = attested.checks.clone();
    checks.extend(wanted.map(|key| attested.is_about(&key)));
    checks.extend(
        arguments
            .serial
            .as_deref()
            .map(|serial| attested.has_serial(serial)),
    );
    checks.extend(arguments.require_fips.then(|| attested.is_fips()));
    checks.push(attested.held());
    let mut report = Report::of(checks)
        .with("claims", claims(&attested.claims()))
        .with("key", json!({"spki_sha256": hex::encode(attested.key.digest())}));
    let named = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("{what} {value}"));
    let module = [
        Some(attested.format.as_str().to_owned()),
        named("serial number", &attested.serial),
        named("firmware", &attested.firmware),
    ];
    let module: Vec<String> = module.into_iter().flatten().collect();
    report.story.push(format!("Module    {}", module.join(", ")));
    report.story.push(format!(
        "Key       {:?}, SHA-256 of its SubjectPublicKeyInfo {}{}",
        attested.key.kind(),
        hex::encode(attested.key.digest()),
        named(", called", &attested.label).unwrap_or_default()
    ));
    Ok(report)
}

//! `touchmark verify ima`: what the kernel measured while it ran.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::{Value, json};
use touchmark_attestor_tpm::{
    PcrValues,
    ima::{ImaExpected, SignatureKeys, judge_ima},
};
use touchmark_rats::{Check, Claims, RUNTIME_REGISTER};
use touchmark_verifier::{FileList, KnownLists};

use super::{
    input,
    outcome::{self, Report},
    policy,
};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
    policy::label_of,
};

const NO_RUNTIME_VALUE: &str = "give the value of register 10 (--registers)";
/// Most entries that are told of one kind.
const MAX_TOLD: usize = 20;

/// A list of the kernel's measurements.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The list, binary or ASCII, for example /sys/kernel/security/ima/binary_runtime_measurements; `-` for standard input.
    file: PathBuf,
    /// Register values that it has to lead to: JSON, or what tpm2_pcrread prints.
    #[arg(long, value_name = "FILE")]
    registers: Option<PathBuf>,
    /// Keys whose signatures of files count: public keys or certificates. With any, each signature in the list has to be of one of them.
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Lists of known files, as sha256sum prints them: a file that is in none of them is named.
    #[arg(long, value_name = "FILE")]
    allowlist: Vec<PathBuf>,
    /// Policies that have to permit, Cedar; about a host without labels, a device that nobody vouches for, and what the list establishes.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Prints every entry.
    #[arg(long)]
    entries: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let bytes = input::read(&arguments.file)?;
    let values = match &arguments.registers {
        None => Default::default(),
        Some(path) => input::registers(path)?,
    };
    let mut keys = Vec::new();
    for path in &arguments.keys {
        keys.extend(input::public_keys(path)?);
    }
    let keys = SignatureKeys::new(keys);
    // What the kernel measures into register 10 is proved by that register alone.
    let unproved = !values
        .values()
        .any(|values| values.contains_key(&RUNTIME_REGISTER));
    let known = known_files(&arguments.allowlist)?;
    let policies = policy::read(&arguments.policy)?;
    let expected = ImaExpected {
        values,
        keys: (!keys.is_empty()).then_some(&keys),
    };
    let mut judged = judge_ima(&bytes, is_text(&bytes), &expected);
    let mut claims = policy::nobody_vouches();
    if judged.checks.iter().all(|check| check.reason().is_none()) {
        match judged.established(&known, &keys, &expected.values) {
            Ok((established, files)) => {
                claims.extend(&established);
                judged.checks.extend((!known.0.is_empty()).then_some(files));
                judged
                    .checks
                    .extend(policies.map(|policies| policy::decide(&policies, &claims)));
            }
            Err(check) => judged.checks.push(check),
        }
    }
    let entries: Vec<Value> = judged
        .entries
        .iter()
        .enumerate()
        .map(|(number, entry)| {
            json!({
                "entry": number,
                "pcr": entry.register,
                "template": entry.template,
                "digest": format!("{}:{}", entry.file.algorithm, hex::encode(&entry.file.digest)),
                "path": entry.path,
                "violation": entry.is_violation(),
                "signed": !entry.signature.is_empty(),
                "attested": !unproved && judged.is_attested(number),
            })
        })
        .collect();
    let attested = match unproved {
        true => 0,
        false => (0..judged.entries.len())
            .filter(|number| judged.is_attested(*number))
            .count(),
    };
    let mut story = Vec::new();
    let mut tell = |title: &str, text: String| story.push(format!("{title:14}{text}"));
    tell(
        "Entries",
        match unproved {
            true => format!("{}, none of them attested", judged.entries.len()),
            false => format!("{}, {attested} of them attested", judged.entries.len()),
        },
    );
    let violations: Vec<&str> = judged
        .entries
        .iter()
        .filter(|entry| entry.is_violation())
        .map(|entry| entry.path.as_ref())
        .collect();
    for path in violations.iter().take(MAX_TOLD) {
        tell("Violation", (*path).to_owned());
    }
    if violations.len() > MAX_TOLD {
        tell("", format!("and {} more", violations.len() - MAX_TOLD));
    }
    if arguments.entries {
        for entry in &judged.entries {
            tell(
                "",
                format!(
                    "{}:{} {}",
                    entry.file.algorithm,
                    hex::encode(&entry.file.digest),
                    entry.path
                ),
            );
        }
    }
    let mut report = Report::of(judged.checks)
        .with("claims", outcome::claims(&claims))
        .with("attested", json!(attested))
        .with("entries", entries.into());
    report.story = story;
    report.unproved = unproved.then_some(NO_RUNTIME_VALUE);
    Ok(report)
}

/// What a list establishes under these register values, by these lists of known files; and the checks.
pub(crate) fn of_list(
    bytes: &[u8],
    values: &PcrValues,
    lists: &[PathBuf],
) -> Result<(Vec<Check>, Claims), ExitCode> {
    let known = known_files(lists)?;
    let expected = ImaExpected {
        values: values.clone(),
        keys: None,
    };
    let judged = judge_ima(bytes, is_text(bytes), &expected);
    let established = judged.established(&known, &SignatureKeys::default(), values);
    let mut checks = judged.checks;
    let claims = established.map_or_else(
        |check| {
            checks.push(check);
            Claims::default()
        },
        |(claims, _)| claims,
    );
    Ok((checks, claims))
}

/// A binary list begins with a register below 24 in four bytes, three of them zero; text has none.
fn is_text(bytes: &[u8]) -> bool {
    !bytes.iter().take(8).any(|byte| *byte == 0)
}

/// Lists of known files, each by the name of its file.
fn known_files(paths: &[PathBuf]) -> Result<KnownLists, ExitCode> {
    let list = |path: &PathBuf| {
        let bytes = input::read(path)?;
        let list = FileList::from_text(&label_of(path), &String::from_utf8_lossy(&bytes));
        list.map(Arc::new)
            .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))
    };
    paths.iter().map(list).collect::<Result<_, _>>().map(KnownLists)
}

//! `touchmark verify eventlog`: how a machine booted, and whether its log leads to its registers.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_attestor_tpm::{Judged, Registers, judge_log};
use touchmark_rats::MeasuredEvent;
use touchmark_verifier::{ReferenceSet, check_references};

use super::{input, outcome::Report, story};
use crate::{
    exit::{UNUSABLE, fail},
    output::Output,
};

/// A boot log.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The log, for example /sys/kernel/security/tpm0/binary_bios_measurements; `-` for standard input.
    file: PathBuf,
    /// Register values that it has to lead to: JSON, or what tpm2_pcrread prints. Without them the log is read and told, and proves
    /// nothing.
    #[arg(long, value_name = "FILE")]
    registers: Option<PathBuf>,
    /// The log counts measurement registers of a confidential VM (RTMRs) instead of a TPM's.
    #[arg(long)]
    rtmr: bool,
    /// Reference values that the boot has to match, one of them wholly; what differs is marked.
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// Refuses a boot whose log does not show Secure Boot on.
    #[arg(long)]
    require_secure_boot: bool,
    /// Prints every event.
    #[arg(long)]
    events: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    judge(arguments).map_or_else(|code| code, |report| report.print(arguments.output))
}

fn judge(arguments: &Arguments) -> Result<Report, ExitCode> {
    let log = input::read(&arguments.file)?;
    let values = match &arguments.registers {
        None => Default::default(),
        Some(path) => input::registers(path)?,
    };
    let sets = references(&arguments.reference)?;
    let registers = if arguments.rtmr {
        Registers::Rtmr
    } else {
        Registers::Pcr
    };
    let judged = judge_log(&log, registers, &values, arguments.require_secure_boot);
    Ok(told(judged, &sets, arguments.events))
}

/// Reference values from files.
pub(crate) fn references(paths: &[PathBuf]) -> Result<Vec<ReferenceSet>, ExitCode> {
    paths
        .iter()
        .map(|path| {
            let bytes = input::read(path)?;
            ReferenceSet::from_toml(&String::from_utf8_lossy(&bytes))
                .map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))
        })
        .collect()
}

/// A log that was judged, as a report: the story, the events that no set knows marked.
pub(super) fn told(judged: Judged, sets: &[ReferenceSet], all: bool) -> Report {
    let Judged {
        mut checks,
        boot,
        bank,
        events,
    } = judged;
    let Some(bank) = bank else {
        return Report::of(checks);
    };
    let mut unknown: BTreeSet<usize> = BTreeSet::new();
    if !sets.is_empty() {
        let named: Vec<&ReferenceSet> = sets.iter().collect();
        // Which registers hold nothing is known of a quote, not of a log.
        checks.push(check_references(&named, &events, &[]));
        let closest = sets
            .iter()
            .map(|set| set.unknown(&events))
            .min_by_key(Vec::len)
            .unwrap_or_default();
        unknown.extend(closest.into_iter().map(|event| event.number));
    }
    let mut report = Report::of(checks)
        .with("bank", bank.name().into())
        .with("boot", story::document(&boot))
        .with("events", listed(&events, &unknown));
    report.story = story::lines(&boot);
    let shown: Vec<&MeasuredEvent> = events
        .iter()
        .filter(|event| all || unknown.contains(&event.number))
        .collect();
    if !shown.is_empty() {
        report.story.push(String::new());
    }
    report.story.extend(shown.into_iter().map(|event| {
        let mark = if unknown.contains(&event.number) { '!' } else { ' ' };
        format!(
            "{mark} {:4} PCR {:2} {} {}",
            event.number,
            event.pcr,
            hex::encode(&event.digest),
            event.description
        )
    }));
    report
}

fn listed(events: &[MeasuredEvent], unknown: &BTreeSet<usize>) -> Value {
    events
        .iter()
        .map(|event| {
            let mut one = json!({
                "event": event.number,
                "pcr": event.pcr,
                "digest": hex::encode(&event.digest),
                "description": event.description,
            });
            if unknown.contains(&event.number) {
                one["differs"] = true.into();
            }
            one
        })
        .collect()
}

//! `touchmark verify eventlog`: how a machine booted, and whether its log leads to its registers.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_attestor_tpm::{BootLog, Judged, LogUse, PcrValues, Registers, judge_log};
use touchmark_crypto::HashAlg;
use touchmark_policy::Policies;
use touchmark_rats::{Check, Claims, MeasuredEvent, Reason};
use touchmark_verifier::{ReferenceSet, check_references};

use super::{
    input, outcome,
    outcome::{NO_VALUES, Report},
    policy, story,
};
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
    /// Policies that have to permit, Cedar; about a host without labels for whose device nobody vouches.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
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
    let wanted = LogUse {
        secure_boot: arguments.require_secure_boot,
        bank: sets.iter().find_map(ReferenceSet::bank),
    };
    let judged = judge_log(&log, registers, &values, wanted);
    let against = Against {
        values: &values,
        sets,
        policies: policy::read(&arguments.policy)?,
        claims: policy::nobody_vouches(),
        all: arguments.events,
    };
    let mut report = told(judged, &against);
    if values.is_empty() {
        report.unproved = Some(NO_VALUES);
    }
    if arguments.rtmr && !looks_confidential(&log) {
        report.story.push(
            "Hint          this looks like the log of a TPM, whose registers are no RTMRs: leave out --rtmr"
                .to_owned(),
        );
    }
    if !arguments.rtmr && looks_confidential(&log) {
        report.story.push(
            "Hint          this looks like the log of a confidential VM (CCEL): give --rtmr".to_owned(),
        );
    }
    Ok(report)
}

/// Whether a log is in SHA-384 alone and of registers 0 to 4, as confidential VMs write theirs.
fn looks_confidential(log: &[u8]) -> bool {
    BootLog::parse(log).is_ok_and(|log| {
        log.banks() == [HashAlg::Sha384] && log.registers().iter().all(|register| *register <= 4)
    })
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

/// What a log is held against beside its registers.
pub(super) struct Against<'a> {
    pub(super) sets: Vec<ReferenceSet>,
    /// The register values that the log was held against; none: it is told, and proved by nothing.
    pub(super) values: &'a PcrValues,
    pub(super) policies: Option<Policies>,
    /// What is established besides the boot.
    pub(super) claims: Claims,
    /// Whether every event is shown.
    pub(super) all: bool,
}

/// A log that was judged, as a report: the story, the events that no set knows marked.
pub(super) fn told(judged: Judged, against: &Against<'_>) -> Report {
    let Against { sets, values, .. } = against;
    let proved = policy::proved(&judged, sets, values);
    let registers = &proved;
    let mut claims = against.claims.clone();
    claims.extend(&policy::of_boot(&judged, sets, values));
    let Judged {
        mut checks,
        boot,
        bank,
        events,
        ..
    } = judged;
    let Some(bank) = bank else {
        return Report::of(checks);
    };
    let mut unknown: BTreeSet<usize> = BTreeSet::new();
    if !sets.is_empty() {
        let (held, beside): (Vec<MeasuredEvent>, Vec<MeasuredEvent>) = events
            .iter()
            .cloned()
            .partition(|event| registers.contains(&event.pcr));
        checks.extend(beyond_quote(sets, registers));
        checks.push(held_against(sets, bank, &held));
        checks.extend(not_held(&beside));
        let closest = sets.iter().map(|set| set.unknown(&held)).min_by_key(Vec::len);
        unknown.extend(closest.unwrap_or_default().into_iter().map(|event| event.number));
    }
    let held = checks.iter().all(|check| check.reason().is_none());
    if let Some(policies) = &against.policies {
        // Where policies decide, what matches no reference values is theirs to weigh; other evidence has to hold first.
        let by_values = checks
            .iter()
            .position(|check| check.reason() == Some(Reason::ReferenceMismatch));
        let others = checks.iter().filter(|check| check.reason().is_some()).count();
        if held || by_values.is_some() && others == 1 {
            if let Some(check) = by_values.and_then(|at| checks.get_mut(at)) {
                *check = Check::noted(check.name, Reason::ReferenceMismatch, check.found.clone());
            }
            checks.push(policy::decide(policies, &claims));
        }
    }
    let mut report = Report::of(checks)
        .with("claims", outcome::claims(&claims))
        .with("bank", bank.name().into())
        .with("boot", story::document(&boot))
        .with("events", listed(&events, &unknown));
    report.story = story::lines(&boot);
    let extended: BTreeSet<u8> = events.iter().map(|event| event.pcr).collect();
    let open: Vec<String> = extended.difference(registers).map(u8::to_string).collect();
    if !values.is_empty() && !open.is_empty() {
        let names = open.join(", ");
        report.story.push(format!(
            "{:14}what is told of register {names}: no value was given",
            "Unproved"
        ));
    }
    let shown: Vec<&MeasuredEvent> = events
        .iter()
        .filter(|event| against.all || unknown.contains(&event.number))
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

fn held_against(sets: &[ReferenceSet], bank: HashAlg, events: &[MeasuredEvent]) -> Check {
    if sets
        .iter()
        .any(|set| set.bank().is_none_or(|other| other == bank))
    {
        let named: Vec<&ReferenceSet> = sets.iter().collect();
        // Which registers hold nothing is known of a quote, not of a log.
        return check_references(&named, events, &[]);
    }
    let banks: BTreeSet<&str> = sets
        .iter()
        .filter_map(ReferenceSet::bank)
        .map(HashAlg::name)
        .collect();
    Check::failed(
        "reference_values",
        Reason::NoReferenceValues,
        format!(
            "reference values of {}, in which the registers were given",
            bank.name()
        ),
        format!("values of {}", Vec::from_iter(banks).join(", ")),
        "give the registers of the bank that the reference values are of",
    )
}

/// Registers that every set of values names, and of which nothing was quoted.
fn beyond_quote(sets: &[ReferenceSet], quoted: &BTreeSet<u8>) -> Option<Check> {
    let missing = |set: &ReferenceSet| -> Vec<String> {
        let named = set.registers();
        named.difference(quoted).map(u8::to_string).collect()
    };
    let fewest = sets.iter().map(missing).min_by_key(Vec::len)?;
    (!fewest.is_empty()).then(|| {
        Check::failed(
            "reference_values.registers",
            Reason::ReferenceMismatch,
            "the value of every register that the reference values name",
            format!("nothing of register {}", fewest.join(", ")),
            "quote, or give, those registers too",
        )
    })
}

/// Says which registers the log extends that were held against nothing.
fn not_held(events: &[MeasuredEvent]) -> Option<Check> {
    let registers: BTreeSet<u8> = events.iter().map(|event| event.pcr).collect();
    let names: Vec<String> = registers.iter().map(u8::to_string).collect();
    (!names.is_empty()).then(|| {
        Check::passed(
            "reference_values.beside",
            format!(
                "PCR {} is held against nothing: no values name it, or it was not quoted",
                names.join(", ")
            ),
        )
    })
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

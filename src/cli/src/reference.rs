//! `touchmark reference`: what good measurements are.

mod compute;

use std::{path::PathBuf, process::ExitCode};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use touchmark_api::admin::Request;

use crate::{
    admin::{Operator, read_file},
    output::{Output, labels_of_nobody, one_line, report, say, table},
    verify::input,
};

/// Reference values.
#[derive(Debug, clap::Args)]
pub(crate) struct References {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints the values that a host's last boot matches, as TOML for `apply`.
    Capture {
        /// Id or name of a host that is known to be good.
        host: String,
        /// Label of the set; the host's name by default.
        #[arg(long)]
        label: Option<String>,
    },
    /// Prints the values that boot files lead to, as TOML for `apply`: of a unified kernel image (PCR 4, 9, 11), or of a kernel and its
    /// initrds as GRUB loads them (PCR 4, 9). Asks no service.
    Compute(compute::Arguments),
    /// Applies a set in place of the one before under its label: hosts whose boots match it are admitted.
    Apply {
        /// TOML file; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Only stages it: it decides nothing until it is promoted.
        #[arg(long)]
        stage: bool,
        /// Beside the generations before instead of in their place, so that a fleet can be updated host by host.
        #[arg(long, conflicts_with = "stage")]
        beside: bool,
    },
    /// Stages what a vendor's signed manifest (CoRIM) states, if a signer that the service pins has signed it.
    Import {
        /// The manifest, COSE_Sign1.
        file: PathBuf,
        /// Label of the set.
        #[arg(long)]
        label: String,
    },
    /// Makes a staged generation valid, beside those before it.
    Promote {
        /// Its label; LABEL@GENERATION where several are staged.
        label: String,
    },
    /// Retires the valid generations of a label but the newest: the update is through.
    Retire {
        /// Their label.
        label: String,
    },
    /// What one set has and another has not, event by event.
    Diff {
        /// LABEL, LABEL@GENERATION, or a host for its last boot.
        left: String,
        /// The other.
        right: String,
    },
    /// Lists the sets that are applied.
    List,
    /// Withdraws a set: hosts that match no other one are refused at their next attestation.
    Delete {
        /// Its label.
        label: String,
    },
}

pub(crate) fn run(arguments: References) -> ExitCode {
    let operator = arguments.operator;
    let done = match arguments.command {
        Command::Capture { host, label } => capture(&operator, host, label),
        Command::Compute(arguments) => compute::run(operator.output, &arguments),
        Command::Apply { file, stage, beside } => apply(&operator, &file, stage, beside),
        Command::Import { file, label } => import(&operator, &file, label),
        Command::Promote { label } => promote(&operator, label),
        Command::Retire { label } => retire(&operator, label),
        Command::Diff { left, right } => diff(&operator, left, right),
        Command::List => list(&operator),
        Command::Delete { label } => delete(&operator, label),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn capture(operator: &Operator, host: String, label: Option<String>) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceCapture { host, label })?;
    match operator.output {
        Output::Json => say(&format!("{document}\n")),
        Output::Text => say(document["reference"].as_str().unwrap_or_default()),
    }
    Ok(())
}

fn apply(operator: &Operator, file: &std::path::Path, stage: bool, beside: bool) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceApply {
        file: read_file(file)?,
        stage,
        beside,
    })?;
    report(operator.output, &document, entered);
    Ok(())
}

fn import(operator: &Operator, file: &std::path::Path, label: String) -> Result<(), ExitCode> {
    let manifest = STANDARD.encode(input::read(file)?);
    let document = operator.ask(&Request::ReferenceImport { manifest, label })?;
    report(operator.output, &document, entered);
    Ok(())
}

/// A generation that came in, and whose boots it fits.
fn entered(document: &Value) -> String {
    let label = document["label"].as_str().unwrap_or_default();
    let generation = &document["generation"];
    let mut lines = vec![
        match (document["changed"] == true, document["state"] == "staged") {
            (false, _) => {
                format!("'{label}' is there as it is (generation {generation}); nothing was changed")
            }
            (true, true) => format!(
                "staged {} values as '{label}', generation {generation}; they decide nothing until touchmark reference promote {label}",
                document["values"]
            ),
            (true, false) => format!(
                "applied {} values as '{label}', generation {generation}; hosts that match them are admitted at their next try",
                document["values"]
            ),
        },
    ];
    for host in document["hosts"].as_array().into_iter().flatten() {
        let name = host["host"].as_str().unwrap_or_default();
        lines.push(if host["fits"] == true {
            format!("{name}: its last boot fits")
        } else {
            format!(
                "{name}: {} events of its last boot are not in it",
                host["unknown_events"]
            )
        });
    }
    lines.extend(labels_of_nobody(document));
    lines.join("\n")
}

fn promote(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferencePromote { label })?;
    report(operator.output, &document, |document| {
        format!(
            "'{}', generation {}, is valid now",
            document["label"].as_str().unwrap_or_default(),
            document["generation"]
        )
    });
    Ok(())
}

fn retire(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceRetire { label })?;
    report(operator.output, &document, |document| {
        format!(
            "retired {} generations of '{}'; hosts that still boot them are refused at their next attestation",
            document["retired"],
            document["label"].as_str().unwrap_or_default()
        )
    });
    Ok(())
}

fn diff(operator: &Operator, left: String, right: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceDiff { left, right })?;
    report(operator.output, &document, |document| {
        let mut lines = Vec::new();
        for (mark, side) in [("-", "only_left"), ("+", "only_right")] {
            for value in document[side].as_array().into_iter().flatten() {
                lines.push(format!(
                    "{mark} PCR {:2} {} {}",
                    value["pcr"],
                    value["digest"].as_str().unwrap_or_default(),
                    one_line(value["description"].as_str().unwrap_or_default())
                ));
            }
        }
        if lines.is_empty() {
            lines.push("no difference".to_owned());
        }
        lines.push(format!("{} values are the same", document["same"]));
        lines.join("\n")
    });
    Ok(())
}

fn delete(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceDelete { label })?;
    report(operator.output, &document, |document| {
        format!(
            "withdrew '{}' with all its generations; hosts that match no other set are refused at their next attestation",
            document["label"].as_str().unwrap_or_default()
        )
    });
    Ok(())
}

fn list(operator: &Operator) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceList)?;
    report(operator.output, &document, |document| {
        table(
            document,
            &[
                ("label", "LABEL"),
                ("generation", "GENERATION"),
                ("state", "STATE"),
                ("values", "VALUES"),
                ("host_labels", "HOSTS"),
                ("source", "SOURCE"),
                ("applied_at", "APPLIED"),
            ],
        )
    });
    Ok(())
}

//! `touchmark registration`: who gets which identifier.

use std::{path::PathBuf, process::ExitCode};

use serde_json::Value;
use touchmark_api::admin::Request;

use crate::{
    admin::{Operator, read_file},
    output::{report, table},
};

/// Registrations.
#[derive(Debug, clap::Args)]
pub(crate) struct Registrations {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Applies a file: its label owns the entries in it.
    Apply {
        /// TOML file; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// Delete entries of the label that the file does not have.
        #[arg(long)]
        prune: bool,
    },
    /// Lists registrations.
    List,
    /// Shows one registration.
    Show {
        /// label/name.
        registration: String,
    },
    /// Deletes one registration.
    Delete {
        /// label/name.
        registration: String,
    },
}

pub(crate) fn run(arguments: Registrations) -> ExitCode {
    let operator = arguments.operator;
    let done = match arguments.command {
        Command::Apply { file, dry_run, prune } => apply(&operator, &file, dry_run, prune),
        Command::List => list(&operator, None),
        Command::Show { registration } => list(&operator, Some(registration)),
        Command::Delete { registration } => delete(&operator, &registration),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn apply(operator: &Operator, file: &std::path::Path, dry_run: bool, prune: bool) -> Result<(), ExitCode> {
    let file = read_file(file)?;
    let document = operator.ask(&Request::RegistrationApply { file, dry_run, prune })?;
    report(operator.output, &document, |document| {
        let label = document["label"].as_str().unwrap_or_default();
        let changes = document["changes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let line = |change: &Value| {
            let what = change["change"].as_str().unwrap_or_default();
            let sign = match what {
                "added" => "+",
                "changed" => "~",
                "deleted" => "-",
                _ => " ",
            };
            format!(
                "{sign} {label}/{}  {what}",
                change["name"].as_str().unwrap_or_default()
            )
        };
        let fields = |change: &Value| {
            let fields = change["fields"].as_array().cloned().unwrap_or_default();
            let field = |field: &Value| {
                let name = field["field"].as_str().unwrap_or_default();
                format!("    {name}: {} -> {}", field["before"], field["after"])
            };
            fields.iter().map(field).collect::<Vec<_>>()
        };
        let mut lines: Vec<String> = changes
            .iter()
            .flat_map(|change| std::iter::once(line(change)).chain(fields(change)))
            .collect();
        if dry_run {
            lines.push("dry run: nothing was changed".to_owned());
        }
        lines.join("\n")
    });
    Ok(())
}

fn list(operator: &Operator, wanted: Option<String>) -> Result<(), ExitCode> {
    let mut document = operator.ask(&Request::RegistrationList)?;
    let reference = |entry: &Value| {
        format!(
            "{}/{}",
            entry["label"].as_str().unwrap_or_default(),
            entry["name"].as_str().unwrap_or_default()
        )
    };
    if let Some(wanted) = wanted {
        let entries = document.as_array().cloned().unwrap_or_default();
        let found = entries.into_iter().find(|entry| reference(entry) == wanted);
        let Some(found) = found else {
            return Err(crate::exit::fail(
                crate::exit::REFUSED,
                format!("no registration {wanted:?}"),
            ));
        };
        report(operator.output, &found, |found| {
            serde_json::to_string_pretty(found).unwrap_or_default()
        });
        return Ok(());
    }
    for entry in document.as_array_mut().into_iter().flatten() {
        entry["reference"] = reference(entry).into();
    }
    report(operator.output, &document, |document| {
        let columns = [
            ("reference", "REGISTRATION"),
            ("identifier", "IDENTIFIER"),
            ("kinds", "KINDS"),
            ("custody", "CUSTODY"),
            ("use", "USE"),
            ("lifetime", "LIFETIME"),
        ];
        table(document, &columns)
    });
    Ok(())
}

fn delete(operator: &Operator, registration: &str) -> Result<(), ExitCode> {
    let Some((label, name)) = registration.split_once('/') else {
        return Err(crate::exit::fail(
            crate::exit::UNUSABLE,
            format!("{registration:?}: write LABEL/NAME"),
        ));
    };
    let request = Request::RegistrationDelete {
        label: label.to_owned(),
        name: name.to_owned(),
    };
    let document = operator.ask(&request)?;
    report(operator.output, &document, |_| format!("deleted {registration}"));
    Ok(())
}

//! `touchmark reference`: what good measurements are.

use std::{path::PathBuf, process::ExitCode};

use touchmark_api::admin::Request;

use crate::{
    admin::{Operator, read_file},
    output::{Output, report, table},
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
    /// Applies a set: hosts whose boots match it are admitted.
    Apply {
        /// TOML file; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
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
        Command::Apply { file } => apply(&operator, &file),
        Command::List => list(&operator),
        Command::Delete { label } => delete(&operator, label),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn capture(operator: &Operator, host: String, label: Option<String>) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceCapture { host, label })?;
    match operator.output {
        Output::Json => println!("{document}"),
        Output::Text => print!("{}", document["reference"].as_str().unwrap_or_default()),
    }
    Ok(())
}

fn apply(operator: &Operator, file: &std::path::Path) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceApply {
        file: read_file(file)?,
    })?;
    report(operator.output, &document, |document| {
        let label = document["label"].as_str().unwrap_or_default();
        if document["changed"] == true {
            format!(
                "applied {} values as '{label}'; hosts that match them are admitted at their next try",
                document["values"]
            )
        } else {
            format!("'{label}' is applied as it is; nothing was changed")
        }
    });
    Ok(())
}

fn delete(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceDelete { label })?;
    report(operator.output, &document, |document| {
        format!(
            "withdrew '{}'; hosts that match no other set are refused at their next attestation",
            document["label"].as_str().unwrap_or_default()
        )
    });
    Ok(())
}

fn list(operator: &Operator) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::ReferenceList)?;
    report(operator.output, &document, |document| {
        table(document, &[("label", "LABEL"), ("values", "VALUES")])
    });
    Ok(())
}

//! `touchmark allowlist`: which files hosts may run, by their digests.

use std::{path::PathBuf, process::ExitCode};

use base64::{Engine, engine::general_purpose::STANDARD};
use touchmark_api::admin::Request;
use touchmark_verifier::FileList;

use crate::{
    admin::{Operator, read_text},
    exit::{UNUSABLE, fail},
    output::{Output, labels_of_nobody, report, table},
};

/// Largest file of digests that is read, in bytes.
const MAX_LIST: u64 = 512 * 1024 * 1024;

/// Lists of known files.
#[derive(Debug, clap::Args)]
pub(crate) struct Allowlists {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Applies a list in place of the one before under its label. What hosts run and no list has is counted in `ima.unknown`.
    Apply {
        /// What sha256sum, sha384sum or sha512sum prints for the files of a release; `-` for standard input. At most 2,000,000 files.
        #[arg(short, long)]
        file: PathBuf,
        /// Label of the list, for example a release of a distribution.
        #[arg(long)]
        label: String,
        /// Label of the hosts that it is for; all where none is given.
        #[arg(long, value_name = "LABEL")]
        hosts: Vec<String>,
    },
    /// Lists the lists that are applied.
    List,
    /// Withdraws a list: at their next attestation hosts send what they measured anew.
    Delete {
        /// Its label.
        label: String,
    },
}

pub(crate) fn run(arguments: Allowlists) -> ExitCode {
    let operator = arguments.operator;
    let done = match arguments.command {
        Command::Apply { file, label, hosts } => apply(&operator, &file, &label, hosts),
        Command::List => list(&operator),
        Command::Delete { label } => delete(&operator, label),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn apply(
    operator: &Operator,
    file: &std::path::Path,
    label: &str,
    hosts: Vec<String>,
) -> Result<(), ExitCode> {
    let text = read_text(file, MAX_LIST)?;
    let list = FileList::from_text(label, &text)
        .map_err(|error| fail(UNUSABLE, format!("{}: {error}", file.display())))?;
    let document = operator.ask(&Request::AllowlistApply {
        label: label.to_owned(),
        hosts: (!hosts.is_empty()).then_some(hosts),
        digests: STANDARD.encode(list.to_bytes()),
    })?;
    report(operator.output, &document, |document| {
        let mut lines = vec![format!(
            "applied {} files as '{}'; hosts are held against it at their next attestation",
            document["files"],
            document["label"].as_str().unwrap_or_default()
        )];
        lines.extend(labels_of_nobody(document));
        lines.join("\n")
    });
    Ok(())
}

fn list(operator: &Operator) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::AllowlistList)?;
    report(operator.output, &document, |document| {
        table(
            document,
            &[
                ("label", "LABEL"),
                ("files", "FILES"),
                ("hosts", "HOSTS"),
                ("id", "ID"),
            ],
        )
    });
    Ok(())
}

fn delete(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::AllowlistDelete { label })?;
    if let Output::Json = operator.output {
        println!("{document}");
    } else {
        println!(
            "withdrew '{}'; hosts send what they measured anew at their next attestation",
            document["label"].as_str().unwrap_or_default()
        );
    }
    Ok(())
}

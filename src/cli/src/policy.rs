//! `touchmark policy`: which evidence is good enough.

mod cases;

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use touchmark_api::admin::Request;
use touchmark_policy::{Policies, SCHEMA, Source, shipped};

use crate::{
    admin::{Operator, read_file},
    exit::{REFUSED, UNUSABLE, fail},
    output::{Output, labels_of_nobody, report, table},
};

/// Policies, in Cedar.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Says of each file whether it validates; asks no service.
    Check {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs a table of evidence and expected decisions; asks no service.
    Test {
        /// TOML file.
        file: PathBuf,
    },
    /// Prints a policy that is shipped, to be changed and applied; without a name, lists them.
    Shipped {
        /// Its name.
        name: Option<String>,
    },
    /// Prints the schema: what policies may test.
    Schema,
    /// What the policies decide about a host by its last evidence, and on which claims.
    Explain {
        /// Id or name.
        host: String,
    },
    /// Applies a set under a label, replacing the one before. One that does not validate is refused, and the old one stays.
    Apply {
        /// Cedar file; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Label of the set; the file's name without its ending by default.
        #[arg(long)]
        label: Option<String>,
        /// Labels of hosts for which the set only observes: what it would deny is noted.
        #[arg(long, value_name = "LABEL")]
        observe: Vec<String>,
        /// Only says which hosts would fall out, or come in, by their last evidence.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists the sets that are applied.
    List,
    /// Prints a set that is applied.
    Show {
        /// Its label.
        label: String,
    },
    /// Withdraws a set.
    Delete {
        /// Its label.
        label: String,
        /// Only says which hosts would fall out, or come in, by their last evidence.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) fn run(arguments: PolicyArguments) -> ExitCode {
    let operator = arguments.operator;
    let done = match arguments.command {
        Command::Check { files } => check(operator.output, &files),
        Command::Test { file } => cases::run(operator.output, &file),
        Command::Shipped { name } => print_shipped(operator.output, name.as_deref()),
        Command::Schema => {
            report(operator.output, &json!({"schema": SCHEMA}), |_| SCHEMA.to_owned());
            Ok(())
        }
        Command::Explain { host } => explain(&operator, host),
        Command::Apply {
            file,
            label,
            observe,
            dry_run,
        } => apply(&operator, &file, label, observe, dry_run),
        Command::List => list(&operator),
        Command::Show { label } => show(&operator, label),
        Command::Delete { label, dry_run } => delete(&operator, label, dry_run),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

/// The label of a file's set: its name without its ending.
pub(crate) fn label_of(file: &std::path::Path) -> String {
    file.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .filter(|stem| stem != "-")
        .unwrap_or_default()
}

fn check(output: Output, files: &[PathBuf]) -> Result<(), ExitCode> {
    let mut results = Vec::new();
    for file in files {
        let source = Source {
            label: label_of(file),
            text: read_file(file)?,
            observe: Vec::new(),
        };
        results.push(match Policies::compile(&[source]) {
            Ok(policies) => json!({"file": file, "valid": true, "policies": policies.len()}),
            Err(error) => json!({"file": file, "valid": false, "error": error.to_string()}),
        });
    }
    let all = results.iter().all(|result| result["valid"] == true);
    report(output, &Value::Array(results), |results| {
        let line = |result: &Value| {
            let file = result["file"].as_str().unwrap_or_default();
            match result["error"].as_str() {
                None => format!("{file}: {} policies, valid", result["policies"]),
                Some(error) => format!("{file}: {error}"),
            }
        };
        let lines: Vec<String> = results.as_array().into_iter().flatten().map(line).collect();
        lines.join("\n")
    });
    if all { Ok(()) } else { Err(ExitCode::from(REFUSED)) }
}

fn print_shipped(output: Output, name: Option<&str>) -> Result<(), ExitCode> {
    let names: Vec<&str> = shipped().iter().map(|shipped| shipped.name).collect();
    match name {
        None => {
            report(output, &json!(names), |_| names.join("\n"));
            Ok(())
        }
        Some(name) => match shipped().iter().find(|shipped| shipped.name == name) {
            Some(found) => {
                let document = json!({"name": found.name, "text": found.text});
                report(output, &document, |_| found.text.to_owned());
                Ok(())
            }
            None => Err(fail(
                UNUSABLE,
                format!("no policy {name:?} is shipped; there are {}", names.join(", ")),
            )),
        },
    }
}

fn explain(operator: &Operator, host: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::PolicyExplain { host })?;
    report(operator.output, &document, |document| {
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        let decided = format!("{}: {}\n{}", text("host"), text("decision"), text("explanation"));
        let lines: Vec<String> = [decided].into_iter().chain(observed(document)).collect();
        lines.join("\n")
    });
    if document["decision"] == "permit" {
        Ok(())
    } else {
        Err(ExitCode::from(REFUSED))
    }
}

fn apply(
    operator: &Operator,
    file: &std::path::Path,
    label: Option<String>,
    observe: Vec<String>,
    dry_run: bool,
) -> Result<(), ExitCode> {
    let label = label.unwrap_or_else(|| label_of(file));
    let document = operator.ask(&Request::PolicyApply {
        label,
        text: read_file(file)?,
        observe,
        dry_run,
    })?;
    report(operator.output, &document, |document| {
        let label = document["label"].as_str().unwrap_or_default();
        let head = match (document["dry_run"] == true, document["changed"] == true) {
            (true, _) => format!("'{label}' validates; nothing was applied"),
            (false, true) => format!("applied '{label}'; {} policies decide now", document["policies"]),
            (false, false) => format!("'{label}' is applied as it is; nothing was changed"),
        };
        let mut lines = vec![head, changes(document)];
        let labels = document["observes_no_more"].as_array().into_iter().flatten();
        lines.extend(labels.filter_map(Value::as_str).map(|label| {
            format!("it only observed hosts labelled '{label}' before; without --observe {label} it decides about them")
        }));
        lines.extend(labels_of_nobody(document));
        lines.join("\n")
    });
    Ok(())
}

/// What sets that only observe would do about a host, a line each.
fn observed(host: &Value) -> Vec<String> {
    let sets = host["observed"].as_array().into_iter().flatten();
    let line = |set: &Value| {
        let text = |name: &str| set[name].as_str().unwrap_or_default();
        format!(
            "{} only observes, and would deny: {}",
            text("set"),
            text("explanation")
        )
    };
    sets.map(line).collect()
}

/// The hosts whose decision changes, in words.
fn changes(document: &Value) -> String {
    let hosts: Vec<&Value> = document["hosts"].as_array().into_iter().flatten().collect();
    if hosts.is_empty() {
        return "no host's decision changes, by their last evidence".to_owned();
    }
    let line = |host: &&Value| {
        let text = |name: &str| host[name].as_str().unwrap_or_default();
        let verb = match (text("before"), text("decision")) {
            ("permit", "deny") => "falls out",
            ("deny", "permit") => "comes in",
            _ => "stays",
        };
        let why = std::iter::once(text("explanation").to_owned()).chain(observed(host));
        let why: Vec<String> = why.map(|line| line.replace('\n', "; ")).collect();
        format!("{} {verb}: {}", text("host"), why.join("; "))
    };
    let lines: Vec<String> = hosts.iter().map(line).collect();
    lines.join("\n")
}

fn list(operator: &Operator) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::PolicyList)?;
    report(operator.output, &document, |document| {
        if document.as_array().is_some_and(Vec::is_empty) {
            return "none is applied: reference values alone decide".to_owned();
        }
        table(
            document,
            &[
                ("label", "LABEL"),
                ("policies", "POLICIES"),
                ("observe", "OBSERVES"),
            ],
        )
    });
    Ok(())
}

fn show(operator: &Operator, label: String) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::PolicyShow { label })?;
    report(operator.output, &document, |document| {
        document["text"].as_str().unwrap_or_default().to_owned()
    });
    Ok(())
}

fn delete(operator: &Operator, label: String, dry_run: bool) -> Result<(), ExitCode> {
    let document = operator.ask(&Request::PolicyDelete { label, dry_run })?;
    report(operator.output, &document, |document| {
        let label = document["label"].as_str().unwrap_or_default();
        let head = if document["deleted"] == true {
            format!("withdrew '{label}'")
        } else {
            "nothing was withdrawn".to_owned()
        };
        format!("{head}\n{}", changes(document))
    });
    Ok(())
}

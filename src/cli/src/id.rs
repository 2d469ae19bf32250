//! `touchmark id`: identifiers, offline.

use std::process::ExitCode;

use serde_json::{Value, json};
use touchmark_identity::WorkloadId;

use crate::{
    exit::REFUSED,
    output::{Output, report},
};

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Id {
    /// Says of each URI whether it is a workload identifier, and if not, why.
    Check {
        /// URIs.
        #[arg(required = true)]
        uris: Vec<String>,
        /// How to report.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

pub(crate) fn run(command: Id) -> ExitCode {
    let Id::Check { uris, output } = command;
    let results: Vec<Value> = uris.iter().map(|uri| check(uri)).collect();
    let all = results.iter().all(|result| result["valid"] == true);
    report(output, &Value::Array(results), |results| {
        let lines: Vec<String> = results.as_array().into_iter().flatten().map(line).collect();
        lines.join("\n")
    });
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

fn check(uri: &str) -> Value {
    match WorkloadId::parse(uri) {
        Ok(id) => json!({
            "uri": uri,
            "valid": true,
            "trust_domain": id.trust_domain().to_string(),
            "path": id.path(),
        }),
        Err(error) => json!({
            "uri": uri,
            "valid": false,
            "class": error.class().as_str(),
            "reason": error.reason(),
            "detail": error.to_string(),
            "remedy": error.remedy(),
        }),
    }
}

fn line(result: &Value) -> String {
    let text = |member: &str| result[member].as_str().unwrap_or_default();
    let uri = text("uri").escape_debug();
    if result["valid"] == true {
        format!(
            "{uri}: an identifier of {}, path {}",
            text("trust_domain"),
            text("path")
        )
    } else {
        format!(
            "{uri}: {} ({}); {}",
            text("detail"),
            text("reason"),
            text("remedy")
        )
    }
}

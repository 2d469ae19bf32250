//! `touchmark why`: a refusal, explained.

use std::process::ExitCode;

use serde_json::Value;
use touchmark_api::admin::Request;

use crate::{admin::Operator, output::report};

/// What to explain.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    #[command(flatten)]
    operator: Operator,
    /// A refusal's id, or a host's id or name for its latest.
    id: String,
}

pub(crate) fn run(arguments: &Why) -> ExitCode {
    let request = Request::Why {
        id: arguments.id.clone(),
    };
    match arguments.operator.ask(&request) {
        Ok(document) => {
            report(arguments.operator.output, &document, explain);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn explain(document: &Value) -> String {
    let line = |title: &str, member: &str| {
        let text = document[member]
            .as_str()
            .unwrap_or("-")
            .replace('\n', "\n          ");
        format!("{title:10}{text}")
    };
    [
        line("refused", "subject"),
        line("at", "at"),
        line("check", "check"),
        line("reason", "reason"),
        line("expected", "expected"),
        line("found", "found"),
        line("to do", "remedy"),
    ]
    .join("\n")
}

//! `touchmark events`: the audit trail.

use std::process::ExitCode;

use touchmark_api::admin::Request;

use crate::{
    admin::Operator,
    output::{report, table},
};

/// How much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    operator: Operator,
    /// Most entries to show, the latest first.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(crate) fn run(arguments: &Events) -> ExitCode {
    match arguments.operator.ask(&Request::Events {
        limit: arguments.limit,
    }) {
        Ok(document) => {
            report(arguments.operator.output, &document, |document| {
                let columns = [
                    ("id", "ID"),
                    ("at", "AT"),
                    ("kind", "KIND"),
                    ("subject", "SUBJECT"),
                    ("detail", "DETAIL"),
                ];
                table(document, &columns)
            });
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

//! `touchmark events`: the audit trail.

use std::{io::Write, process::ExitCode, thread, time::Duration};

use serde_json::Value;
use touchmark_api::admin::Request;

use crate::{
    admin::Operator,
    output::{Output, report, table},
};

/// How often the service is asked what is new.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    operator: Operator,
    /// Most entries to show, the latest first.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Goes on with each entry as it is made, until it is interrupted; with `--output json` one object per line.
    #[arg(long)]
    follow: bool,
}

pub(crate) fn run(arguments: &Events) -> ExitCode {
    let done = match arguments.follow {
        false => show(arguments),
        true => follow(arguments),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn ask(arguments: &Events, after: Option<u64>) -> Result<Value, ExitCode> {
    arguments.operator.ask(&Request::Events {
        limit: arguments.limit,
        after,
    })
}

fn show(arguments: &Events) -> Result<(), ExitCode> {
    let document = ask(arguments, None)?;
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
    Ok(())
}

/// The latest entries, oldest first, and then what comes. Ends when nobody reads any more.
fn follow(arguments: &Events) -> Result<(), ExitCode> {
    let latest = ask(arguments, None)?;
    let mut entries: Vec<Value> = latest.as_array().cloned().unwrap_or_default();
    entries.reverse();
    let mut last = 0;
    loop {
        for entry in &entries {
            last = entry["id"].as_u64().unwrap_or(last).max(last);
            if writeln!(std::io::stdout(), "{}", line(arguments.operator.output, entry)).is_err() {
                return Ok(());
            }
        }
        // A full answer may not have been all.
        if entries.len() < usize::try_from(arguments.limit).unwrap_or(usize::MAX) || last == 0 {
            thread::sleep(PAUSE);
        }
        entries = ask(arguments, Some(last))?
            .as_array()
            .cloned()
            .unwrap_or_default();
    }
}

fn line(output: Output, entry: &Value) -> String {
    if output == Output::Json {
        return entry.to_string();
    }
    let text = |member: &str| entry[member].as_str().unwrap_or("-");
    let line = format!(
        "{}  {}  {}  {}",
        text("at"),
        text("kind"),
        text("subject"),
        text("detail")
    );
    crate::output::printable(&line)
}

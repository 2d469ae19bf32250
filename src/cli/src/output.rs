//! Reports: text for people, or one JSON document.

use std::io::Write;

use serde_json::Value;

use crate::exit::UNUSABLE;

/// How a command reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output, nothing else.
    Json,
}

/// Prints a document, or its text. Whoever reads it may have seen enough and be gone: that is no error.
pub(crate) fn report(output: Output, document: &Value, text: impl FnOnce(&Value) -> String) {
    let text = match output {
        Output::Json => document.to_string(),
        Output::Text => printable(text(document).trim_end()),
    };
    if !text.is_empty() {
        say(&format!("{text}\n"));
    }
}

/// Writes to standard output. What could not be written is no answer: the program ends, so that nobody takes a part for the whole. Whoever
/// reads it and is gone has seen enough.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("touchmark: standard output: {error}");
            std::process::exit(i32::from(UNUSABLE));
        }
        _ => {}
    }
}

/// Text without control characters, those that turn the direction of writing included: what came from elsewhere must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let steers = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || c.is_control() && c != '\n'
    };
    text.chars().map(|c| if steers(c) { '?' } else { c }).collect()
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace('\n', "?")
}

/// Members of each object as columns, the longest cell setting the width.
pub(crate) fn table(rows: &Value, columns: &[(&str, &str)]) -> String {
    let cell = |row: &Value, member: &str| match &row[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    };
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(_, title)| (*title).to_owned()).collect()];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|(member, _)| cell(row, member)).collect()),
    );
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line.get(column).map_or(0, |c| c.chars().count()))
            .max()
    };
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |line: &Vec<String>| {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line for each label that what was applied is for, and no host has.
pub(crate) fn labels_of_nobody(document: &Value) -> Vec<String> {
    let labels = document["labels_of_nobody"].as_array().into_iter().flatten();
    labels
        .filter_map(Value::as_str)
        .map(|label| format!("no host has the label '{label}' (touchmark host show NAME has those of one)"))
        .collect()
}

//! Reports: text for people, or one JSON document.

use serde_json::Value;

/// How a command reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output, nothing else.
    Json,
}

/// Prints a document, or its text.
pub(crate) fn report(output: Output, document: &Value, text: impl FnOnce(&Value) -> String) {
    match output {
        Output::Json => println!("{document}"),
        Output::Text => {
            let text = text(document);
            if !text.is_empty() {
                println!("{}", text.trim_end());
            }
        }
    }
}

/// Members of each object as columns, the longest cell setting the width.
pub(crate) fn table(rows: &Value, columns: &[(&str, &str)]) -> String {
    let cell = |row: &Value, member: &str| match &row[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
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

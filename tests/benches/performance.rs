//! `make bench`: what operations cost, beside what they may cost. Counts are taken in front of the simulated TPM; rates and times
//! beside the raw ones of the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot go on fails"
)]

#[path = "performance/appraisal.rs"]
mod appraisal;
#[path = "performance/hsm.rs"]
mod hsm;
#[path = "performance/pure.rs"]
mod pure;
#[path = "performance/system.rs"]
mod system;
#[path = "performance/table.rs"]
mod table;

/// A part of the measurements, by its name.
type Part = (&'static str, fn(&mut table::Table));

const PARTS: [Part; 7] = [
    ("commands", system::commands),
    ("credentials", pure::measure),
    ("appraisals", appraisal::measure),
    ("hsm", hsm::measure),
    ("latency", system::latency),
    ("handshakes", system::handshakes),
    ("reattestation", system::reattestation),
];

/// Measures all parts, or those that are named on the command line.
fn main() {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut table = table::Table::default();
    for (name, measure) in PARTS {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            measure(&mut table);
        }
    }
    if !table.missed().is_empty() {
        eprintln!("\nabove or below their targets: {}", table.missed().join(", "));
        std::process::exit(1);
    }
}

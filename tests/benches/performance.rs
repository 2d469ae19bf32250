//! `make bench`: what operations cost, beside what they may cost. Counts are taken in front of the simulated TPM.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot go on fails"
)]

use touchmark_tests::{count::Commands, dev::Dev};

fn main() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("count");
    let dev = Dev::start(&["--count", &file.display().to_string()]);
    let first = Commands::read(&file);
    dev.json(&["workload", "fetch", "wit"]);
    let key = Commands::read(&file).since(&first);
    let later = {
        // The agent starts again: its attestation key is on record, its boot is the same.
        let before = Commands::read(&file);
        dev.restart_agent(1);
        Commands::read(&file).since(&before)
    };
    println!(
        "{:5} {:62} {:>8} {:>8}",
        "", "TPM commands; context load, save and flush not counted", "at most", "measured"
    );
    let mut held = true;
    let mut row = |number: &str, what: &str, limit: usize, measured: usize| {
        held &= measured <= limit;
        println!("{number:5} {what:62} {limit:>8} {measured:>8}");
    };
    row("B10", "to enrol, the first time", 30, first.len());
    row(
        "B10",
        "to enrol later, with the attestation key on record",
        14,
        later.len(),
    );
    row(
        "B12",
        "for a new certified key, proof of possession included",
        4,
        key.len() - key.handshake(),
    );
    if !held {
        eprintln!("a figure is above its limit");
        std::process::exit(1);
    }
}

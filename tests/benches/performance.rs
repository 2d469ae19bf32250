//! `make bench`: what operations cost, beside what they may cost. Counts are taken in front of the simulated TPM; rates and times
//! beside the raw ones of the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot go on fails"
)]

#[path = "performance/pure.rs"]
mod pure;
#[path = "performance/system.rs"]
mod system;
#[path = "performance/table.rs"]
mod table;

fn main() {
    let mut table = table::Table::default();
    system::commands(&mut table);
    pure::measure(&mut table);
    system::latency(&mut table);
    system::handshakes(&mut table);
    system::reattestation(&mut table);
    if !table.missed().is_empty() {
        eprintln!("\nabove or below their targets: {}", table.missed().join(", "));
        std::process::exit(1);
    }
}

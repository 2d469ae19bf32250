//! The binary `touchmark-sim`: see `touchmark-sim --help` and `docs/guides/simulated-hosts.md`.

use std::process::ExitCode;

use clap::Parser;
use touchmark_simulators::cli::{Cli, Subcommand};
use touchmark_simulators::{child, dev, janitor, run};

fn main() -> ExitCode {
    match Cli::parse().command {
        Subcommand::Run(arguments) => run::main(arguments),
        Subcommand::Dev(arguments) => dev::main(arguments),
        Subcommand::Child(arguments) => child::main(&arguments),
        Subcommand::Janitor(arguments) => janitor::main(&arguments),
    }
}

//! The binary `touchmark`: a subcommand per role.
//!
//! Exit codes: 0 done; 1 refused or not verified; 2 usage or unusable input; 3 a service, agent or device cannot be
//! reached.

mod admin;
mod agent_status;
mod allowlist;
mod ca;
mod cli;
mod daemon;
mod events;
mod exit;
mod host;
mod id;
mod output;
mod policy;
mod reference;
mod registration;
mod verify;
mod why;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Server(command) => daemon::server(command),
        Command::Agent(command) => daemon::agent(command),
        Command::Ca(command) => ca::run(command),
        Command::Host(command) => host::run(command),
        Command::Registration(command) => registration::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Reference(command) => reference::run(command),
        Command::Allowlist(command) => allowlist::run(command),
        Command::Why(arguments) => why::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Verify(command) => verify::run(&command),
        Command::Id(command) => id::run(command),
        Command::Workload(command) => match daemon::runtime() {
            Ok(runtime) => runtime.block_on(workload::run(command)),
            Err(code) => code,
        },
    }
}

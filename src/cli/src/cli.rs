//! The command line.

use clap::{Parser, Subcommand};

use crate::{
    allowlist, ca, daemon, events, host, id, policy, reference, registration, verify, why, workload,
};

/// Hardware-backed workload identity: hosts prove what they are with their TPM, processes on them hold identities whose
/// keys never leave the chip.
#[derive(Debug, Parser)]
#[command(
    name = "touchmark",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A subcommand per role.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The credential service.
    #[command(subcommand)]
    Server(daemon::Daemon),
    /// The host daemon.
    #[command(subcommand)]
    Agent(daemon::AgentCommand),
    /// The certification authority: offline root, intermediate.
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Who may attest.
    Host(host::Host),
    /// Who gets which identifier.
    Registration(registration::Registrations),
    /// Which evidence is good enough.
    Policy(policy::PolicyArguments),
    /// What good measurements are.
    Reference(reference::References),
    /// Which files hosts may run.
    Allowlist(allowlist::Allowlists),
    /// Why something was refused: check, expected, found, remedy.
    Why(why::Why),
    /// The audit trail.
    Events(events::Events),
    /// Recorded evidence, appraised offline.
    #[command(subcommand)]
    Verify(verify::Verify),
    /// Identifiers, offline.
    #[command(subcommand)]
    Id(id::Id),
    /// What a workload asks of the agent on its host.
    Workload(workload::Workload),
}

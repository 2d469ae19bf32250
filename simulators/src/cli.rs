//! The command line of `touchmark-sim`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::fault::{self, FaultRequest};

/// Simulated devices for tests and demonstrations.
#[derive(Debug, Parser)]
#[command(
    name = "touchmark-sim",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Subcommand,
}

/// What `touchmark-sim` can be asked to do.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Runs CMD with simulated devices in its environment; its exit code is returned
    Run(RunArguments),
    /// Runs a whole small system: devices, service, one enrolled agent per TPM, a registration for you
    Dev(DevArguments),
    /// Executes a program that dies with the process PARENT
    #[command(hide = true)]
    Child(ChildArguments),
    /// Waits for the end of standard input, then ends a run's processes and removes its folder
    #[command(hide = true)]
    Janitor(JanitorArguments),
}

/// Which devices there are, and what is wrong with them.
#[derive(Debug, Args)]
pub struct DeviceArguments {
    /// Make N TPMs, each with EK certificates and a measured boot
    #[arg(long = "tpm", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub tpms: Option<u8>,

    /// Make N virtual TPMs as Azure has them, numbered after those of --tpm: no EK certificate, an attestation key that the cloud certified
    #[arg(long = "vtpm", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub vtpms: Option<u8>,

    /// Make an HSM for each of those hosts, one where there is none: a token in SoftHSM
    #[arg(long = "hsm")]
    pub hsm: bool,

    /// Make something wrong on purpose, on the last device or on device K; see the list below
    #[arg(long = "fault", value_name = "NAME[@K]")]
    pub faults: Vec<FaultRequest>,

    /// Keep the test maker's keys and certificates in DIR and use them again, so that its root stays the same
    #[arg(long, value_name = "DIR")]
    pub maker: Option<PathBuf>,
}

/// `touchmark-sim run`.
#[derive(Debug, Args)]
#[command(
    after_help = after_help(),
    override_usage = "touchmark-sim run [--tpm N] [--vtpm N] [--hsm] [--fault NAME[@K]]... [--maker DIR] [--count FILE] [-v] -- CMD [ARGS]..."
)]
pub struct RunArguments {
    /// Which devices.
    #[command(flatten)]
    pub devices: DeviceArguments,

    /// Append a line to FILE for each TPM command that completes while CMD runs: `<n> <command> <response code>`
    #[arg(
        long,
        value_name = "FILE",
        long_help = "Append a line to FILE for each TPM command that completes while CMD runs:\n\
                     `<n> <command> <response code>`, for example `1 TPM2_Quote 0x000`.\n\
                     n is the TPM's number; a command without a name is given as hexadecimal. What the\n\
                     resource manager sends on its own (context saves and loads) is counted too; what sets\n\
                     the TPM up before CMD starts is not. A line is written before its answer is passed on."
    )]
    pub count: Option<PathBuf>,

    /// Say on standard error what was set up, a line for each device
    #[arg(short, long)]
    pub verbose: bool,

    /// The command to run, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `touchmark-sim dev`.
#[derive(Debug, Args)]
#[command(
    after_help = after_help(),
    override_usage = "touchmark-sim dev [--tpm N] [--vtpm N] [--fault NAME[@K]]... [--maker DIR] [--trust-domain ORIGIN] [--count FILE] [-v] [-- CMD [ARGS]...]"
)]
pub struct DevArguments {
    /// Which devices; one TPM where none are asked for. The service has a TPM of its own.
    #[command(flatten)]
    pub devices: DeviceArguments,

    /// Append a line to FILE for each TPM command from the moment agents start: `<n> <command> <response code>`
    #[arg(long)]
    pub count: Option<PathBuf>,

    /// The trust domain; another scheme than spiffe and wimse, and an address as its name, are configured as such
    #[arg(long, value_name = "ORIGIN", default_value = "spiffe://example.org")]
    pub trust_domain: String,

    /// Folder with touchmark and touchmark-device; beside this program, else on PATH, by default
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// Say on standard error what was set up, a line for each device
    #[arg(short, long)]
    pub verbose: bool,

    /// The command to run; without one the system runs until Ctrl-C
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

fn after_help() -> String {
    format!(
        "{}\n\n\
         CMD finds the devices in its environment: TOUCHMARK_SIM is a folder with sim.json, which lists all\n\
         of them; TPM2TOOLS_TCTI, TPM2OPENSSL_TCTI, TPM2_PKCS11_TCTI and TSS2_TCTI name TPM 1, SOFTHSM2_CONF HSM 1.\n\n\
         Exit codes: CMD's own, or 128 + the signal that ended it; 126 or 127 when CMD cannot be executed;\n\
         2 for a usage error; 3 when a device cannot be had (a program is missing).",
        fault::list()
    )
}

/// `touchmark-sim child`.
#[derive(Debug, Args)]
pub struct ChildArguments {
    /// The process to die with.
    pub parent: i32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// `touchmark-sim janitor`.
#[derive(Debug, Args)]
pub struct JanitorArguments {
    /// The run's folder.
    pub folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_lists_every_fault() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let help = command
            .find_subcommand_mut("run")
            .unwrap()
            .render_long_help()
            .to_string();
        for fault in fault::Fault::ALL {
            assert!(
                help.contains(fault.name()) && help.contains(fault.description()),
                "{}",
                fault.name()
            );
        }
    }

    #[test]
    fn everything_after_the_two_dashes_belongs_to_the_command() {
        let cli =
            Cli::try_parse_from(["touchmark-sim", "run", "--tpm", "2", "--", "ls", "--tpm", "3"]).unwrap();
        let Subcommand::Run(arguments) = cli.command else {
            panic!("not run")
        };
        assert_eq!(arguments.devices.tpms, Some(2));
        assert_eq!(arguments.command, ["ls", "--tpm", "3"]);
    }
}

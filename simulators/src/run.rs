//! `touchmark-sim run`: devices for the life of a command.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::Pid;

use crate::cli::{DeviceArguments, RunArguments};
use crate::count::Counter;
use crate::error::SimError;
use crate::fault::{self, Kind};
use crate::signals::Forwarder;
use crate::simulation::{Plan, Simulation};
use crate::tpm::TpmKind;

/// Runs the command and answers its exit code, or says what is wrong.
#[must_use]
pub fn main(arguments: RunArguments) -> ExitCode {
    run(arguments).map_or_else(|error| report(&error), ExitCode::from)
}

fn run(arguments: RunArguments) -> Result<u8, SimError> {
    let counter = arguments.count.as_deref().map(Counter::append_to).transpose()?;
    let plan = plan(arguments.devices, counter, arguments.verbose)?;
    if plan.tpms.is_empty() && plan.hsms.is_empty() {
        eprintln!(
            "touchmark-sim: no device was asked for, so CMD finds none; --tpm N makes TPMs, --vtpm N a cloud's, --hsm an HSM"
        );
    }
    let forwarder = Forwarder::start()?;
    let mut simulation = Simulation::start(&plan)?;
    execute(&mut simulation, &forwarder, &arguments.command, [])
}

/// What the command line asks for.
///
/// # Errors
/// Faults that cannot be placed.
pub fn plan(devices: DeviceArguments, counter: Option<Counter>, verbose: bool) -> Result<Plan, SimError> {
    let (chips, virtuals) = (devices.tpms.unwrap_or(0), devices.vtpms.unwrap_or(0));
    let kinds = std::iter::repeat_n(TpmKind::Chip, chips.into())
        .chain(std::iter::repeat_n(TpmKind::Virtual, virtuals.into()));
    let hosts = usize::from(chips) + usize::from(virtuals);
    let faults = fault::place(&devices.faults, Kind::Tpm, hosts)?;
    let tpms = kinds.zip(faults).collect();
    let hsms = if devices.hsm { hosts.max(1) } else { 0 };
    Ok(Plan {
        tpms,
        hsms: fault::place(&devices.faults, Kind::Hsm, hsms)?,
        service: false,
        maker: devices.maker,
        counter,
        verbose,
    })
}

/// Runs `command` with the devices, and `more` variables, in its environment; answers its exit code. Main thread
/// only.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn execute<'a>(
    simulation: &mut Simulation,
    forwarder: &Forwarder,
    command: &[OsString],
    more: impl IntoIterator<Item = (&'a str, OsString)>,
) -> Result<u8, SimError> {
    let Some((program, rest)) = command.split_first() else {
        return Ok(2);
    };
    let mut command = simulation.launcher().command(program);
    command.args(rest).envs(simulation.environment()).envs(more);
    simulation.begin();
    let mut child = command
        .spawn()
        .map_err(SimError::system("cannot start the command"))?;
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        forwarder.attend(process);
        forwarder.await_end(process);
    }
    let status = child
        .wait()
        .map_err(SimError::system("cannot wait for the command"))?;
    for complaint in simulation.complaints() {
        eprintln!("touchmark-sim: {complaint}");
    }
    Ok(exit_code(status))
}

/// Tells the user what went wrong and what to do next; answers the exit code.
#[must_use]
pub fn report(error: &SimError) -> ExitCode {
    eprintln!("touchmark-sim: {error}\n  {}", error.remedy());
    if matches!(error, SimError::NoSuchDevice { .. } | SimError::NoDevice { .. }) {
        eprintln!("\n{}", fault::list());
    }
    ExitCode::from(error.exit_code())
}

/// As shells answer it: the code, or 128 and the signal.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

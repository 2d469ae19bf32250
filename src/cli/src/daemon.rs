//! The daemons: `server run`, `agent run`, and `config check`, which parses without binding.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use touchmark_agent::{AgentError, SocketError};
use touchmark_server::ServerError;

use crate::{
    agent_status,
    exit::{UNREACHABLE, UNUSABLE, fail},
};

/// What a daemon can be told.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Daemon {
    /// Runs it in the foreground until SIGTERM or SIGINT.
    Run(Config),
    /// Its configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What can be done with a configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Reads it, with the files that it names, and says what is wrong; nothing is started or bound.
    Check(Config),
}

/// What can be done with an agent.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AgentCommand {
    #[command(flatten)]
    Daemon(Daemon),
    /// Asks the running agent how it stands with this host.
    Status(agent_status::AgentStatus),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// Configuration file [default: server.toml or agent.toml in /etc/touchmark].
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Config {
    fn path(self, name: &str) -> PathBuf {
        self.config
            .unwrap_or_else(|| PathBuf::from("/etc/touchmark").join(name))
    }
}

/// A runtime; signing keys may block a worker, so there are several.
pub(crate) fn runtime() -> Result<Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(UNREACHABLE, format!("cannot start the runtime: {error}")))
}

/// The configuration and a runtime to run with; the exit code where there is nothing to run, or no way to.
fn start<C, E: Display>(
    command: Daemon,
    name: &str,
    load: impl FnOnce(&Path) -> Result<C, E>,
    check: impl FnOnce(&C) -> Result<(), String>,
) -> Result<(C, Runtime), ExitCode> {
    let (run, path) = match command {
        Daemon::Run(config) => (true, config.path(name)),
        Daemon::Config(ConfigCommand::Check(config)) => (false, config.path(name)),
    };
    let config = load(&path).map_err(|error| fail(UNUSABLE, error))?;
    check(&config).map_err(|error| fail(UNUSABLE, format!("{}: {error}", path.display())))?;
    if !run {
        println!("{}: good", path.display());
        return Err(ExitCode::SUCCESS);
    }
    log();
    // Nothing that the daemon makes is for others, unless it says so.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    Ok((config, runtime()?))
}

/// `touchmark server ...`
pub(crate) fn server(command: Daemon) -> ExitCode {
    let (config, runtime) = match start(command, "server.toml", touchmark_server::Config::load, |config| {
        config.holders.check()
    }) {
        Ok(started) => started,
        Err(code) => return code,
    };
    match runtime.block_on(touchmark_server::run(config, || (), stop_signal())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (ServerError::Config { .. }
            | ServerError::File { .. }
            | ServerError::Files(_)
            | ServerError::Exportable(_)),
        ) => fail(UNUSABLE, error),
        Err(error) => fail(UNREACHABLE, error),
    }
}

/// `touchmark agent ...`
pub(crate) fn agent(command: AgentCommand) -> ExitCode {
    let command = match command {
        AgentCommand::Daemon(command) => command,
        AgentCommand::Status(arguments) => {
            return match runtime() {
                Ok(runtime) => runtime.block_on(agent_status::run(arguments)),
                Err(code) => code,
            };
        }
    };
    let (config, runtime) = match start(command, "agent.toml", touchmark_agent::Config::load, |config| {
        config.device.check()
    }) {
        Ok(started) => started,
        Err(code) => return code,
    };
    match runtime.block_on(touchmark_agent::run(config, stop_signal())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (AgentError::File(_)
            | AgentError::Socket(
                SocketError::Path(_)
                | SocketError::Directory { .. }
                | SocketError::NotASocket(_)
                | SocketError::Foreign { .. },
            )),
        ) => fail(UNUSABLE, error),
        Err(error) => fail(UNREACHABLE, error),
    }
}

/// Completes at SIGTERM or SIGINT.
async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Logs to standard error; RUST_LOG chooses what.
fn log() {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(ansi)
        .init();
}

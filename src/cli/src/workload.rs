//! placeholder while the module is being written
#[derive(Debug, clap::Args)]
pub(crate) struct Workload {}
pub(crate) async fn run(_: Workload) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }

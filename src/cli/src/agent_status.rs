//! `touchmark agent status`: how it stands with this host, as its agent knows it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde_json::json;
use touchmark_api::workload::{DEFAULT_SOCKET, StatusRequest, StatusResponse};
use touchmark_client::agent::{connect, guarded};
use touchmark_tls::clock;

use crate::{
    exit::{REFUSED, UNREACHABLE, fail},
    output::{Output, report},
};

/// Whom to ask, and how to report.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentStatus {
    /// The agent's socket.
    #[arg(long, env = "TOUCHMARK_AGENT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks the agent; exits 0 only if the host is attested.
pub(crate) async fn run(arguments: AgentStatus) -> ExitCode {
    let status = match ask(&arguments.socket).await {
        Ok(status) => status,
        Err(why) => return fail(UNREACHABLE, why),
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let until = u64::try_from(status.not_after)
        .ok()
        .filter(|time| *time > 0)
        .map(clock::rfc3339);
    let document = json!({
        "state": status.state,
        "host_id": some(&status.host_id),
        "identifier": some(&status.identifier),
        "refusal": some(&status.refusal),
        "detail": some(&status.detail),
        "not_after": until,
    });
    report(arguments.output, &document, |_| {
        let lines = [
            ("identifier", some(&status.identifier)),
            ("until", until),
            ("refusal", some(&status.refusal)),
            ("", some(&status.detail)),
        ];
        let lines = lines
            .into_iter()
            .filter_map(|(name, text)| text.map(|text| format!("{name:12}{text}")));
        std::iter::once(status.state.clone())
            .chain(lines)
            .collect::<Vec<_>>()
            .join("\n")
    });
    if status.state == "attested" {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

async fn ask(socket: &Path) -> Result<StatusResponse, String> {
    let mut client = connect(socket).await?;
    let answer =
        tokio::time::timeout(Duration::from_secs(10), client.status(guarded(StatusRequest {}))).await;
    let answer = answer.map_err(|_| {
        format!(
            "{} accepted but does not answer; is this the agent's socket?",
            socket.display()
        )
    })?;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.message().to_owned())
}

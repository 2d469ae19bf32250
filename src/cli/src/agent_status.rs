//! `touchmark agent status`: how it stands with this host, as its agent knows it.

use std::{path::PathBuf, process::ExitCode};

use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixStream;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Uri},
};
use touchmark_api::workload::{
    DEFAULT_SOCKET, GUARD, GUARD_VALUE, StatusRequest, StatusResponse,
    workload_identity_client::WorkloadIdentityClient,
};
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
    let status = match ask(arguments.socket.clone()).await {
        Ok(status) => status,
        Err(cause) => {
            let socket = arguments.socket.display();
            return fail(UNREACHABLE, format!("no agent answers at {socket} ({cause}); is touchmark agent run running?"));
        }
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let until = u64::try_from(status.not_after).ok().filter(|time| *time > 0).map(clock::rfc3339);
    let document = json!({
        "state": status.state,
        "host_id": some(&status.host_id),
        "identifier": some(&status.identifier),
        "refusal": some(&status.refusal),
        "detail": some(&status.detail),
        "not_after": until,
    });
    report(arguments.output, &document, |_| {
        let lines = [("identifier", some(&status.identifier)), ("until", until), ("refusal", some(&status.refusal)),
            ("", some(&status.detail))];
        let lines = lines.into_iter().filter_map(|(name, text)| text.map(|text| format!("{name:12}{text}")));
        std::iter::once(status.state.clone()).chain(lines).collect::<Vec<_>>().join("\n")
    });
    if status.state == "attested" { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

async fn ask(socket: PathBuf) -> Result<StatusResponse, String> {
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://agent.invalid").connect_timeout(std::time::Duration::from_secs(5));
    let channel: Channel = endpoint.connect_with_connector(connect).await.map_err(|error| error.to_string())?;
    let mut request = Request::new(StatusRequest {});
    request.metadata_mut().insert(GUARD, MetadataValue::from_static(GUARD_VALUE));
    request.set_timeout(std::time::Duration::from_secs(10));
    let answer = WorkloadIdentityClient::new(channel).status(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

//! The way to the agent on this host: gRPC over its Unix socket, which has to be one that only root, this user or its
//! folder's owner can have put there.

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Uri},
};
use touchmark_api::workload::{
    DEFAULT_SOCKET, GUARD, GUARD_VALUE, MAX_RESPONSE, SOCKET_VARIABLE,
    workload_identity_client::WorkloadIdentityClient,
};

/// How long a request may take: a key is made and certified in a TPM, and the service is asked.
const DEADLINE: Duration = Duration::from_secs(45);

/// The agent's service, as generated from its `.proto` file.
pub type AgentClient = WorkloadIdentityClient<Channel>;

/// Where the agent listens: as the environment names it, or the usual place.
pub fn default_socket() -> PathBuf {
    std::env::var_os(SOCKET_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}

/// Connects to the agent at a socket.
///
/// # Errors
///
/// For people: that nobody answers there, or that it is not sure whose the socket is.
pub async fn connect(socket: &Path) -> Result<AgentClient, String> {
    let allowed = trusted(socket)?;
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?;
            // Whoever listens now, not whoever owned the path a moment ago.
            if !allowed.contains(&Some(stream.peer_cred()?.uid())) {
                return Err(std::io::Error::other("somebody else listens there"));
            }
            Ok(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://agent.invalid").connect_timeout(Duration::from_secs(5));
    let channel = endpoint.connect_with_connector(connector).await;
    let client = |channel| WorkloadIdentityClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
    channel.map(client).map_err(|_| {
        format!(
            "no agent answers at {}; is touchmark agent run running?",
            socket.display()
        )
    })
}

/// A request with the guard that every call carries.
pub fn guarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(GUARD, MetadataValue::from_static(GUARD_VALUE));
    request.set_timeout(DEADLINE);
    request
}

/// The same for a call whose answer does not end.
pub fn endless<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(GUARD, MetadataValue::from_static(GUARD_VALUE));
    request
}

/// Whoever squats on the path could hand out identities of its own: its owner has to be somebody this user trusts with
/// that anyway.
fn trusted(socket: &Path) -> Result<[Option<u32>; 3], String> {
    let shown = socket.display();
    let metadata = std::fs::metadata(socket).map_err(|error| {
        format!("no agent at {shown} ({error}); is touchmark agent run running? TOUCHMARK_AGENT_SOCKET names another")
    })?;
    if !metadata.file_type().is_socket() {
        return Err(format!("{shown} is not a socket"));
    }
    let folder = socket
        .parent()
        .map(std::fs::metadata)
        .and_then(Result::ok)
        .map(|folder| folder.uid());
    let ours = nix::unistd::geteuid().as_raw();
    let allowed = [Some(0), Some(ours), folder];
    if !allowed.contains(&Some(metadata.uid())) {
        return Err(format!(
            "{shown} belongs to user {}, who is neither root, you nor the owner of its folder: it may be somebody \
             else's; name the agent's socket with --socket",
            metadata.uid()
        ));
    }
    Ok(allowed)
}

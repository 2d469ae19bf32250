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
use touchmark_api::workload::{GUARD, GUARD_VALUE, workload_identity_client::WorkloadIdentityClient};

/// How long a request may take: a key is made and certified in a TPM, and the service is asked.
const DEADLINE: Duration = Duration::from_secs(45);

/// Connects to the agent at a socket.
pub(crate) async fn connect(socket: &Path) -> Result<WorkloadIdentityClient<Channel>, String> {
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
    channel.map(WorkloadIdentityClient::new).map_err(|_| {
        format!(
            "no agent answers at {}; is touchmark agent run running?",
            socket.display()
        )
    })
}

/// A request with the guard that every call carries.
pub(crate) fn guarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(GUARD, MetadataValue::from_static(GUARD_VALUE));
    request.set_timeout(DEADLINE);
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

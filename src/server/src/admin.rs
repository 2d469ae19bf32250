//! The operators' socket: for root and the service's own user, one request and one answer per connection.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as StdStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};
use touchmark_api::admin::{Answer, MAX_MESSAGE, Request};

use crate::{ServerError, Service, operator};

/// How long a request and its answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Binds the socket, 0600. A stale socket of ours is replaced; anything else in its place is an error.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, ServerError> {
    let refuse = |cause: String| ServerError::Listen {
        address: path.display().to_string(),
        cause,
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
    }
    let metadata = fs::metadata(folder).map_err(|error| refuse(error.to_string()))?;
    let ours = nix::unistd::geteuid().as_raw();
    if ![0, ours].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(refuse(
            "others can write its folder; chown it to yourself and chmod go-w".into(),
        ));
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() || metadata.uid() != ours {
            return Err(refuse(
                "something that is not a socket of this user is there; remove it".into(),
            ));
        }
        if StdStream::connect(path).is_ok() {
            return Err(refuse("another server answers there; stop it first".into()));
        }
        fs::remove_file(path).map_err(|error| refuse(error.to_string()))?;
    }
    let listener = UnixListener::bind(path).map_err(|error| refuse(error.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| refuse(error.to_string()))?;
    Ok(listener)
}

/// Serves operators until told to stop.
pub(crate) async fn serve(listener: UnixListener, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            match timeout(DEADLINE, converse(stream, &service)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "operator's connection ended"),
            }
        });
    }
}

async fn converse(mut stream: UnixStream, service: &Arc<Service>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if ![0, nix::unistd::geteuid().as_raw()].contains(&uid) {
        tracing::warn!(uid, "a user who is not an operator connected to the admin socket");
        return Ok(());
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
    (&mut stream).take(limit + 1).read_to_end(&mut bytes).await?;
    let answer = if bytes.len() > MAX_MESSAGE {
        Answer::Unusable(format!("request over {MAX_MESSAGE} bytes"))
    } else {
        match serde_json::from_slice::<Request>(&bytes) {
            Ok(request) => operator::answer(service, request).await,
            Err(error) => Answer::Unusable(format!("request: {error}")),
        }
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}

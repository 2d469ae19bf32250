//! The process that connected.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::socket::{UnixCredentials, getsockopt, sockopt};
use rustix::fs::CWD;
use tokio::{net::UnixStream, sync::Semaphore};

use super::{
    Caller, CallerError, Identification,
    process::{Executable, FileId, Process},
};

/// The process that connected, shared by all requests of its connection.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    process: Process,
    pid: i32,
    uid: u32,
    gid: u32,
    at_connect: Option<FileId>,
    shared: Arc<Identification>,
    turns: Arc<Semaphore>,
}

impl Peer {
    /// Asks the kernel who connected `socket`.
    pub(super) fn connected(socket: &UnixStream, shared: &Arc<Identification>) -> Result<Self, CallerError> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        let process = Process::connected(socket, credentials.pid())?;
        let at_connect = process.executable()?.map(|executable| executable.file);
        Ok(Self(Arc::new(Inner {
            process,
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
            at_connect,
            shared: Arc::clone(shared),
            turns: shared.turns_of(credentials.uid()),
        })))
    }

    /// The user, when it connected; data that another user sends ends the connection.
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// The process number, when it connected; for the log.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Whether data with these credentials came from the process that connected, still as the same user and group.
    pub(super) fn sent(&self, sender: &UnixCredentials) -> bool {
        (sender.pid(), sender.uid(), sender.gid()) == (self.0.pid, self.0.uid, self.0.gid)
    }

    /// Looks at the process as it is now: once per request, after the request has arrived whole. `needs_digest` asks for
    /// the digest of the executable, which takes about a second per gigabyte unless it is known. Waits for one of its
    /// user's turns ([`Identification::TURNS_PER_USER`]); dropping the future gives up.
    pub async fn identify(&self, needs_digest: bool) -> Result<Caller, CallerError> {
        let turn = Arc::clone(&self.0.turns)
            .acquire_owned()
            .await
            .map_err(|_| CallerError::Cancelled)?;
        let wanted = Arc::new(());
        let still_wanted = Arc::downgrade(&wanted);
        let peer = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let caller = peer.look(needs_digest, &|| still_wanted.strong_count() == 0);
            drop(turn);
            caller
        });
        let caller = looked.await.map_err(|_| CallerError::Cancelled)?;
        drop(wanted);
        caller
    }

    fn look(&self, needs_digest: bool, given_up: &dyn Fn() -> bool) -> Result<Caller, CallerError> {
        let Inner { process, .. } = &*self.0;
        process.must_live()?;
        let executable = process.executable()?;
        if executable.as_ref().map(|executable| executable.file) != self.0.at_connect {
            process.must_live()?;
            return Err(CallerError::Changed);
        }
        let exe = executable.as_ref().and_then(path_in_own_view);
        let exe_sha256 = match &executable {
            Some(executable) if needs_digest => self.digest(executable, given_up)?,
            _ => None,
        };
        let after = process.executable()?;
        process.must_live()?;
        if after != executable {
            return Err(CallerError::Changed);
        }
        Ok(Caller {
            pid: self.0.pid,
            uid: self.0.uid,
            gid: self.0.gid,
            exe,
            exe_sha256,
        })
    }

    fn digest(
        &self,
        executable: &Executable,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Option<[u8; 32]>, CallerError> {
        let Some(file) = self.0.process.open_executable()? else {
            return Ok(None);
        };
        if FileId::of(&file)? != executable.file {
            return Err(CallerError::Changed);
        }
        self.0.shared.digests().digest(&file, given_up)
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer(pid {}, uid {})", self.0.pid, self.0.uid)
    }
}

/// The executable's path, if that names the very same file for the agent. It does not for a file that was deleted or
/// replaced, nor for one that only looks so in the caller's own mount namespace.
fn path_in_own_view(executable: &Executable) -> Option<PathBuf> {
    let path: &Path = &executable.link;
    let same = path.is_absolute() && FileId::at(CWD, path).is_ok_and(|file| file == executable.file);
    same.then(|| path.to_owned())
}

//! A socket at a path that nobody else can hold or swap.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use rustix::fs::OFlags;

use crate::caller::PeerStream;

/// Why a path cannot be served, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A relative path, or one without a file name.
    #[error("{0:?} is no absolute path of a socket: configure one, for example /run/touchmark/agent.sock")]
    Path(PathBuf),
    /// A directory on the way could be changed by others.
    #[error(
        "{directory:?} could be changed by others ({why}), who could put a socket of their own there: \
         use a directory that belongs to root or to the agent's user and that only its owner can write"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Its owner or mode.
        why: String,
    },
    /// Something else than a socket is there.
    #[error("{0:?} exists and is not a socket: move it away, or configure another path")]
    NotASocket(PathBuf),
    /// Somebody else's socket is there.
    #[error("{path:?} belongs to user {owner}: find out who made it, then remove it")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Another agent answers there.
    #[error("another agent serves {0:?}: stop it first, or configure another path")]
    InUse(PathBuf),
    /// A system call failed.
    #[error("{path:?}: {error}")]
    Io {
        /// The path it was about.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
}

/// A listening socket at a path. Any local user may connect (mode 0666). Dropping it removes the path.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
    /// Held from before the path is looked at, so that two agents that start at once do not remove each other's socket.
    _lock: File,
}

impl LocalSocket {
    /// Listens at `path`. The directory is made if only it is missing (0755). A socket of the same user that nobody
    /// answers on is removed. Beside the socket stands `<path>.lock`, which stays.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let name = path.file_name().filter(|_| path.is_absolute());
        let (Some(parent), Some(name)) = (path.parent(), name) else {
            return Err(SocketError::Path(path.to_owned()));
        };
        match DirBuilder::new().mode(0o755).create(parent) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io_at(parent)(error)),
            _ => {}
        }
        let parent = parent.canonicalize().map_err(io_at(parent))?;
        check_directories(&parent)?;
        let path = parent.join(name);
        let lock = lock(&path)?;
        make_way(&path)?;
        let listener = listening(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(io_at(&path))?;
        let made = fs::symlink_metadata(&path).map_err(io_at(&path))?;
        Ok(Self {
            listener,
            file: (made.dev(), made.ino()),
            path,
            _lock: lock,
        })
    }

    /// The path, symbolic links in its directory resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, nonblocking.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |error| SocketError::Io { path, error }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The directory must be its owner's alone; those above it may be shared if they are sticky.
fn check_directories(directory: &Path) -> Result<(), SocketError> {
    for (height, directory) in directory.ancestors().enumerate() {
        let found = fs::metadata(directory).map_err(io_at(directory))?;
        let why = match found.mode() & 0o7777 {
            _ if ![0, own_uid()].contains(&found.uid()) => format!("owner {}", found.uid()),
            mode if mode & 0o022 != 0 && (height == 0 || mode & 0o1000 == 0) => format!("mode {mode:04o}"),
            _ => continue,
        };
        let directory = directory.to_owned();
        return Err(SocketError::Directory { directory, why });
    }
    Ok(())
}

fn lock(socket: &Path) -> Result<File, SocketError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(&path)
        .map_err(io_at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse(socket.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_at(&path)(error)),
    }
}

/// Removes a socket that is ours and dead; anything else there is an error.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_at(path)(error)),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if found.uid() != own_uid() {
        return Err(SocketError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
        });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io_at(path))
        }
        // It answers, or is too busy to.
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(io_at(path)(error)),
    }
}

/// Binds and listens; what is accepted carries credentials from the first byte.
fn listening(path: &Path) -> Result<UnixListener, SocketError> {
    let made = || -> io::Result<UnixListener> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        PeerStream::prepare(&fd)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::new(1024)?)?;
        Ok(UnixListener::from(fd))
    };
    made().map_err(io_at(path))
}

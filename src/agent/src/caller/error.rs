//! Why a caller could not be identified.

use std::io;

/// Why a caller could not be identified.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The process has ended: nothing can be said about it any more.
    #[error("the process at the other end of the socket has ended")]
    Gone,
    /// The process runs another program than when it connected, or its program's file changed while it was read.
    #[error("the process executes another program than when it connected; it has to connect anew")]
    Changed,
    /// The process lives in a process namespace that the agent does not see into.
    #[error("the process at the other end of the socket is not visible in the agent's process namespace")]
    Hidden,
    /// The request was given up meanwhile.
    #[error("the request was given up")]
    Cancelled,
    /// The kernel did not answer as it should.
    #[error("the process at the other end of the socket cannot be looked at: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for CallerError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<nix::errno::Errno> for CallerError {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}

//! Who is at the other end of a Unix socket (draft-ietf-wimse-arch, 3.3.1: an agent ties each workload to its own
//! identity), as far as the kernel tells.
//!
//! The kernel knows which process connected ([`Peer`]) and which one sent each piece of data ([`PeerStream`] checks that
//! it is the same). From the process follow its user, its group and its executable ([`Caller`]), which registrations
//! select by ([`Selectors`]). What the traps are, and what stands against each:
//!
//! | trap | answer |
//! | --- | --- |
//! | the process ends and another gets its number | a pidfd taken from the socket; `/proc/<pid>` is opened once and stays with the process it was opened for |
//! | a child inherits the connection, or it is passed on | every piece of data carries its sender's credentials; a foreign one ends the connection |
//! | the process executes another program | the executable is read at connect and again for each request; a change is refused |
//! | the program file is replaced or changed while it is looked at | it is opened through `/proc/<pid>/exe` once, and compared before and after |
//! | another mount namespace, where the attacker's file has the registered path | a path counts only if it names the same file in the agent's own view |
//!
//! What it cannot see: a process of the same user that traces the caller, preloads code into it or holds a copy of its
//! connection *to read*; what a script does whose interpreter is the executable; what a file system in the hands of the
//! caller serves from one read to the next (files on FUSE have no digest here). So `uid` is a boundary that the kernel
//! enforces, `exe` and `exe_sha256` tell programs of one user apart that do not work against each other. Before Linux
//! 6.5 the pidfd is made from the number that the socket tells; a process that ends between connecting and being
//! accepted, and whose number is used again at once, is then taken for its successor.

mod digest;
mod error;
mod identification;
mod peer;
mod process;
mod selectors;
mod stream;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use error::CallerError;
pub use identification::Identification;
pub use peer::Peer;
pub use selectors::Selectors;
pub use stream::PeerStream;

/// A process as it was while it made one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its number, in the agent's process namespace.
    pub pid: i32,
    /// Its user, in the agent's user namespace.
    pub uid: u32,
    /// Its group, in the agent's user namespace.
    pub gid: u32,
    /// Path of its executable. `None` if the agent may not see it, or if the path does not name that file in the agent's
    /// own view (deleted or replaced since, or another mount namespace).
    pub exe: Option<PathBuf>,
    /// SHA-256 of its executable. `None` if nobody asked, the agent may not read it, it is over
    /// [`Identification::MAX_EXECUTABLE`], or it lies on a FUSE file system.
    pub exe_sha256: Option<[u8; 32]>,
}

//! One process, held by descriptors that cannot come to mean another one.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{AtFlags, CWD, Mode, OFlags, StatxFlags},
    io::Errno,
    process::{Pid, PidfdFlags},
};

use super::CallerError;

/// A process that lived when it was taken.
pub(super) struct Process {
    pidfd: OwnedFd,
    /// `/proc/<pid>`, bound to the process, not to the number; `None` if it is hidden from the agent.
    proc: Option<OwnedFd>,
}

/// The file that a process executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Executable {
    /// The kernel's name for it, ` (deleted)` included.
    pub(super) link: PathBuf,
    /// Which file it is.
    pub(super) file: FileId,
}

/// Tells files apart: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: (u32, u32),
    inode: u64,
}

impl FileId {
    /// Of what `path` names below `directory`. File systems are not asked to bring their answer up to date, so that a
    /// slow one does not hold up the agent.
    pub(super) fn at(directory: impl AsFd, path: impl rustix::path::Arg) -> Result<Self, Errno> {
        let found = rustix::fs::statx(directory, path, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        })
    }

    /// Of an open file.
    pub(super) fn of(file: &File) -> Result<Self, Errno> {
        let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        })
    }
}

impl Process {
    /// The process that connected `socket`, whose number is `pid` as the socket tells.
    pub(super) fn connected(socket: &impl AsFd, pid: i32) -> Result<Self, CallerError> {
        match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Self::held_by(pidfd, pid),
            Err(nix::errno::Errno::ENOPROTOOPT) => Self::by_number(pid),
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL | nix::errno::Errno::ENODATA) => {
                Err(CallerError::Gone)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn held_by(pidfd: OwnedFd, pid: i32) -> Result<Self, CallerError> {
        let proc = proc_directory(pid)?;
        let process = Self { pidfd, proc };
        // Alive after the directory was opened: the number was this process's all along.
        process.must_live()?;
        Ok(process)
    }

    /// For kernels without SO_PEERPIDFD (before 6.5): the number counts if the process's start time is the same before
    /// and after a pidfd is made from it.
    pub(super) fn by_number(pid: i32) -> Result<Self, CallerError> {
        // Negative numbers, which name no process, must not get that far.
        let number = Pid::from_raw(pid.max(0)).ok_or(CallerError::Hidden)?;
        let proc = proc_directory(pid)?;
        let before = start_time(proc.as_ref())?;
        let pidfd =
            rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(|errno| match errno {
                Errno::SRCH => CallerError::Gone,
                errno => errno.into(),
            })?;
        if start_time(proc.as_ref())? != before {
            return Err(CallerError::Gone);
        }
        let process = Self { pidfd, proc };
        process.must_live()?;
        Ok(process)
    }

    /// Fails once the process has ended.
    pub(super) fn must_live(&self) -> Result<(), CallerError> {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match rustix::event::poll(&mut ended, Some(&now))? {
            0 => Ok(()),
            _ => Err(CallerError::Gone),
        }
    }

    /// What the process executes now; `None` if the agent may not know.
    pub(super) fn executable(&self) -> Result<Option<Executable>, CallerError> {
        let Some(proc) = &self.proc else { return Ok(None) };
        let link = match rustix::fs::readlinkat(proc, "exe", Vec::new()) {
            Ok(link) => PathBuf::from(OsString::from_vec(link.into_bytes())),
            Err(errno) => return none_if_hidden(errno),
        };
        match FileId::at(proc, "exe") {
            Ok(file) => Ok(Some(Executable { link, file })),
            Err(errno) => none_if_hidden(errno),
        }
    }

    /// Opens what the process executes; `None` if the agent may not.
    pub(super) fn open_executable(&self) -> Result<Option<File>, CallerError> {
        let Some(proc) = &self.proc else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(proc, "exe", flags, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(errno) => none_if_hidden(errno),
        }
    }
}

/// Opens `/proc/<pid>`; `None` if it is hidden from the agent. What is opened below it afterwards is of the process
/// that had the number now: once that ends, the kernel answers that there is no such process.
fn proc_directory(pid: i32) -> Result<Option<OwnedFd>, CallerError> {
    if pid <= 0 {
        return Err(CallerError::Hidden);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) => none_if_hidden(errno),
    }
}

/// No permission, or nothing there (hidden, ending, a thread of the kernel): whether the process still lives is asked
/// of its pidfd.
fn none_if_hidden<T>(errno: Errno) -> Result<Option<T>, CallerError> {
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::SRCH => Ok(None),
        errno => Err(errno.into()),
    }
}

/// When the process of this `/proc` directory started, in ticks since boot (proc_pid_stat(5), field 22).
fn start_time(proc: Option<&OwnedFd>) -> Result<u64, CallerError> {
    let directory: BorrowedFd<'_> = proc.ok_or(CallerError::Hidden)?.as_fd();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::openat(directory, "stat", flags, Mode::empty()).map_err(gone)?;
    let mut bytes = Vec::new();
    File::from(stat)
        .take(4096)
        .read_to_end(&mut bytes)
        .map_err(|error| match error.raw_os_error() {
            Some(code) => gone(Errno::from_raw_os_error(code)),
            None => error.into(),
        })?;
    // The second field is the program's name in parentheses and may hold anything; the 22nd is the 20th after it.
    let text = String::from_utf8_lossy(&bytes);
    text.rsplit_once(") ")
        .and_then(|(_, fields)| fields.split(' ').nth(19)?.parse().ok())
        .ok_or(CallerError::Hidden)
}

fn gone(errno: Errno) -> CallerError {
    match errno {
        Errno::NOENT | Errno::SRCH => CallerError::Gone,
        errno => errno.into(),
    }
}

//! Real sockets and real processes. Where another process is needed, it is this test program once more, in a role
//! ([`role`]), or a shell.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, IoSlice, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use touchmark_crypto::sha256;

use super::{digest::Digests, process::Process, *};

const SOCKET: &str = "TOUCHMARK_TEST_SOCKET";
const ROLE: &str = "TOUCHMARK_TEST_ROLE";

/// What this program does when a test runs it again: connects, says `1`, and goes on as told once it is answered.
#[test]
fn role() {
    let Some(path) = std::env::var_os(SOCKET) else {
        return;
    };
    let mut socket = UnixStream::connect(path).unwrap();
    socket.write_all(b"1").unwrap();
    let mut answer = [0];
    if socket.read(&mut answer).unwrap() == 0 {
        return;
    }
    if std::env::var_os(ROLE).as_deref() == Some(OsStr::new("exec")) {
        let error = Command::new("/bin/sh")
            .args(["-c", "printf 2 >&0; read x"])
            .stdin(OwnedFd::from(socket))
            .exec();
        panic!("{error}");
    }
}

/// A listening socket in a directory of its own.
struct Place {
    directory: TempDir,
    listener: UnixListener,
    shared: Arc<Identification>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        PeerStream::prepare(&listener).unwrap();
        Self {
            directory,
            listener,
            shared: Arc::new(Identification::new()),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).unwrap()
    }

    async fn accept(&self) -> Result<PeerStream, CallerError> {
        let (socket, _) = self.listener.accept().await.unwrap();
        PeerStream::new(socket, &self.shared)
    }

    /// Starts this program, or a copy of it, in a role.
    fn start(&self, program: &Path, role: &str) -> Running {
        let mut command = Command::new(program);
        command
            .args(["--exact", "caller::tests::role", "--nocapture"])
            .env(SOCKET, self.path())
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        loop {
            match command.spawn() {
                // A child that another test is just starting still holds the copy open for writing.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                child => return Running(child.unwrap()),
            }
        }
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap().canonicalize().unwrap()
}

fn digest_of(path: &Path) -> [u8; 32] {
    sha256(&[&fs::read(path).unwrap()])
}

async fn byte(stream: &mut PeerStream) -> std::io::Result<u8> {
    tokio::time::timeout(Duration::from_secs(60), stream.read_u8())
        .await
        .unwrap()
}

#[tokio::test]
async fn r029_a_process_is_known_by_user_group_path_and_digest() {
    let place = Place::new();
    let mut near = place.connect();
    let mut far = place.accept().await.unwrap();
    near.write_all(b"x").unwrap();
    assert_eq!(byte(&mut far).await.unwrap(), b'x');
    let caller = far.peer().identify(true).await.unwrap();
    assert_eq!(caller.pid, std::process::id().cast_signed());
    assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
    assert_eq!(caller.gid, rustix::process::getegid().as_raw());
    assert_eq!(caller.exe.as_deref(), Some(&*this_program()));
    assert_eq!(caller.exe_sha256, Some(digest_of(&this_program())));
    let caller = far.peer().identify(false).await.unwrap();
    assert_eq!(caller.exe_sha256, None);
}

#[tokio::test]
async fn what_was_sent_before_the_connection_was_accepted_counts_too() {
    let place = Place::new();
    let mut near = place.connect();
    near.write_all(b"early").unwrap();
    drop(near);
    let mut far = place.accept().await.unwrap();
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "early");
}

#[tokio::test]
async fn a10_a_child_that_inherits_the_connection_ends_it() {
    let place = Place::new();
    let mut near = place.connect();
    let mut far = place.accept().await.unwrap();
    near.write_all(b"x").unwrap();
    assert_eq!(byte(&mut far).await.unwrap(), b'x');
    let child = Command::new("/bin/sh")
        .args(["-c", "printf y >&0"])
        .stdin(OwnedFd::from(near.try_clone().unwrap()))
        .status();
    assert!(child.unwrap().success());
    let error = byte(&mut far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    // And it stays ended, for the one that connected too.
    near.write_all(b"x").unwrap();
    let error = byte(&mut far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(far.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn data_of_parent_and_child_is_never_received_as_one() {
    let place = Place::new();
    let mut near = place.connect();
    near.write_all(b"x").unwrap();
    let child = Command::new("/bin/sh")
        .args(["-c", "printf y >&0"])
        .stdin(OwnedFd::from(near.try_clone().unwrap()))
        .status();
    assert!(child.unwrap().success());
    let mut far = place.accept().await.unwrap();
    let mut space = [0; 16];
    assert_eq!(far.read(&mut space).await.unwrap(), 1);
    let error = far.read(&mut space).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn descriptors_that_come_along_end_the_connection() {
    let place = Place::new();
    let near = place.connect();
    let mut far = place.accept().await.unwrap();
    let passed = [near.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&passed)];
    sendmsg::<()>(
        near.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &control,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    let error = byte(&mut far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn r063_a_process_that_executes_another_program_is_refused() {
    let place = Place::new();
    let _child = place.start(&this_program(), "exec");
    let mut far = place.accept().await.unwrap();
    assert_eq!(byte(&mut far).await.unwrap(), b'1');
    let caller = far.peer().identify(false).await.unwrap();
    assert_eq!(caller.exe.as_deref(), Some(&*this_program()));
    far.write_all(b"x").await.unwrap();
    // The same process by number, user and pidfd: only its program tells.
    assert_eq!(byte(&mut far).await.unwrap(), b'2');
    for needs_digest in [false, true] {
        let refused = far.peer().identify(needs_digest).await.unwrap_err();
        assert!(matches!(refused, CallerError::Changed), "{refused}");
    }
}

#[tokio::test]
async fn r063_a_process_that_has_ended_is_nobody() {
    let place = Place::new();
    let mut child = place.start(&this_program(), "wait");
    let mut far = place.accept().await.unwrap();
    assert_eq!(byte(&mut far).await.unwrap(), b'1');
    far.peer().identify(false).await.unwrap();
    child.kill();
    let refused = far.peer().identify(false).await.unwrap_err();
    assert!(matches!(refused, CallerError::Gone), "{refused}");

    // Connected, and ended before it was accepted.
    let mut child = place.start(&this_program(), "wait");
    let (socket, _) = place.listener.accept().await.unwrap();
    child.kill();
    let refused = PeerStream::new(socket, &place.shared).err().unwrap();
    assert!(matches!(refused, CallerError::Gone), "{refused}");
}

#[test]
fn without_a_pidfd_of_the_socket_the_number_is_checked() {
    let own = Process::by_number(std::process::id().cast_signed()).unwrap();
    assert_eq!(own.executable().unwrap().unwrap().link, this_program());
    own.must_live().unwrap();

    let mut child = Command::new("/bin/true").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
    // Ended, but its number is still taken.
    let refused = Process::by_number(pid.as_raw_nonzero().get()).err().unwrap();
    assert!(matches!(refused, CallerError::Gone), "{refused}");
    child.wait().unwrap();
    for nobody in [0, -1] {
        assert!(matches!(Process::by_number(nobody), Err(CallerError::Hidden)));
    }
}

#[tokio::test]
async fn a_replaced_executable_keeps_its_digest_and_loses_its_path() {
    let place = Place::new();
    let program = place.directory.path().join("program");
    fs::copy(this_program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.canonicalize().unwrap();
    let digest = digest_of(&program);
    let _child = place.start(&program, "wait");
    let mut far = place.accept().await.unwrap();
    assert_eq!(byte(&mut far).await.unwrap(), b'1');
    let caller = far.peer().identify(true).await.unwrap();
    assert_eq!(
        (caller.exe.as_deref(), caller.exe_sha256),
        (Some(&*program), Some(digest))
    );

    fs::remove_file(&program).unwrap();
    let caller = far.peer().identify(true).await.unwrap();
    assert_eq!((caller.exe, caller.exe_sha256), (None, Some(digest)));

    fs::write(&program, "another program").unwrap();
    let caller = far.peer().identify(true).await.unwrap();
    assert_eq!((caller.exe, caller.exe_sha256), (None, Some(digest)));
}

#[test]
fn digests_are_kept_once_a_file_has_settled_and_only_so_many() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, name).unwrap();
        File::open(path).unwrap()
    };
    let never = || false;

    let young = Digests::new(Duration::from_secs(3600));
    let same = file("a");
    assert_eq!(young.digest(&same, &never).unwrap(), Some(sha256(&[b"a"])));
    assert_eq!(young.kept(), (1, 0));

    let settled = Digests::new(Duration::ZERO);
    for number in 0..1100 {
        let name = number.to_string();
        let found = settled.digest(&file(&name), &never).unwrap();
        assert_eq!(found, Some(sha256(&[name.as_bytes()])));
    }
    assert_eq!(settled.kept(), (1024, 1024));
}

#[test]
fn what_is_too_large_or_no_file_has_no_digest_and_hashing_can_be_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let digests = Digests::new(Duration::ZERO);
    let large = File::create_new(directory.path().join("large")).unwrap();
    large.set_len(Identification::MAX_EXECUTABLE + 1).unwrap();
    assert_eq!(digests.digest(&large, &|| false).unwrap(), None);
    let folder = File::open(directory.path()).unwrap();
    assert_eq!(digests.digest(&folder, &|| false).unwrap(), None);
    fs::write(directory.path().join("small"), "x").unwrap();
    let small = File::open(directory.path().join("small")).unwrap();
    let given_up = digests.digest(&small, &|| true).unwrap_err();
    assert!(matches!(given_up, CallerError::Cancelled), "{given_up}");
}

#[test]
fn each_user_has_turns_of_its_own() {
    let shared = Identification::new();
    let one = shared.turns_of(1);
    let permits: Vec<_> = (0..Identification::TURNS_PER_USER)
        .map(|_| one.try_acquire().unwrap())
        .collect();
    assert!(shared.turns_of(1).try_acquire().is_err());
    assert!(shared.turns_of(2).try_acquire().is_ok());
    drop(permits);
    assert!(shared.turns_of(1).try_acquire().is_ok());
}

#[test]
fn all_selectors_that_are_given_must_match_and_none_matches_nobody() {
    let caller = Caller {
        pid: 7,
        uid: 1000,
        gid: 100,
        exe: Some("/usr/bin/api".into()),
        exe_sha256: Some([0xab; 32]),
    };
    let all = Selectors {
        uid: Some(1000),
        gid: Some(100),
        exe: Some("/usr/bin/api".into()),
        exe_sha256: Some("ab".repeat(32)),
    };
    assert!(all.matches(&caller));
    assert!(!Selectors::default().matches(&caller));
    for wrong in [
        Selectors {
            uid: Some(1001),
            ..all.clone()
        },
        Selectors {
            gid: Some(0),
            ..all.clone()
        },
        Selectors {
            exe: Some("/usr/bin/api2".into()),
            ..all.clone()
        },
        Selectors {
            exe_sha256: Some("cd".repeat(32)),
            ..all.clone()
        },
        Selectors {
            exe_sha256: Some("AB".repeat(32)),
            ..all.clone()
        },
    ] {
        assert!(!wrong.matches(&caller), "{wrong:?}");
    }
    let unseen = Caller {
        exe: None,
        exe_sha256: None,
        ..caller
    };
    let uid_only = Selectors {
        uid: Some(1000),
        ..Selectors::default()
    };
    assert!(uid_only.matches(&unseen));
    assert!(
        !Selectors {
            exe: all.exe.clone(),
            ..uid_only.clone()
        }
        .matches(&unseen)
    );
    assert!(
        !Selectors {
            exe_sha256: all.exe_sha256,
            ..uid_only
        }
        .matches(&unseen)
    );
}

//! Which paths are taken, and which are not.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use crate::local::{LocalSocket, SocketError};

fn refused(path: &Path) -> SocketError {
    let error = LocalSocket::bind(path).err().unwrap();
    // Each says what is wrong and what to do.
    assert!(error.to_string().contains(": "), "{error}");
    error
}

#[test]
fn a_socket_is_open_to_every_user_and_goes_with_its_agent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/agent.sock");
    let socket = LocalSocket::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    assert_eq!(socket.path(), path.canonicalize().unwrap());
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_is_not_its_own_any_more_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let socket = LocalSocket::bind(&path).unwrap();
    fs::rename(&path, directory.path().join("kept")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let live = UnixListener::bind(&path).unwrap();
    assert!(matches!(refused(&path), SocketError::InUse(_)));
    drop(live);
    let first = LocalSocket::bind(&path).unwrap();
    assert!(matches!(refused(&path), SocketError::InUse(_)));
    drop(first);
    LocalSocket::bind(&path).unwrap();
}

#[test]
fn a11_a_directory_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(refused(&path), SocketError::Directory { .. }),
            "{mode:o}"
        );
    }
    // Nor one below such a directory, unless that is sticky.
    let path = directory.path().join("below/agent.sock");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(refused(&path), SocketError::Directory { .. }));
    fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
    LocalSocket::bind(&path).unwrap();
}

#[test]
fn a11_what_somebody_else_put_there_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    fs::write(&path, "x").unwrap();
    assert!(matches!(refused(&path), SocketError::NotASocket(_)));
    assert_eq!(fs::read(&path).unwrap(), b"x");
    fs::remove_file(&path).unwrap();

    let elsewhere = directory.path().join("elsewhere");
    drop(UnixListener::bind(&elsewhere).unwrap());
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(refused(&path), SocketError::NotASocket(_)));
    fs::remove_file(&path).unwrap();

    // Only root can give a socket, or a directory, to somebody else.
    if rustix::process::geteuid().is_root() {
        drop(UnixListener::bind(&path).unwrap());
        chown(&path, Some(65534), None).unwrap();
        assert!(matches!(
            refused(&path),
            SocketError::Foreign { owner: 65534, .. }
        ));
        let theirs = directory.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(65534), None).unwrap();
        assert!(matches!(
            refused(&theirs.join("agent.sock")),
            SocketError::Directory { .. }
        ));
    }
}

#[test]
fn a_path_must_be_absolute_and_its_directory_within_reach() {
    assert!(matches!(refused(Path::new("agent.sock")), SocketError::Path(_)));
    assert!(matches!(refused(Path::new("/")), SocketError::Path(_)));
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b/agent.sock");
    assert!(matches!(refused(&deep), SocketError::Io { .. }));
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(refused(&long), SocketError::Io { .. }));
}

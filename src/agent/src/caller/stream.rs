//! A connection whose every received byte is known to come from the process that connected.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
};
use tonic::transport::server::Connected;

use super::{CallerError, Identification, Peer};

/// A connection of one process. A piece of data from any other process (a child that inherited the connection, a process
/// it was passed to), from the same process as another user, or with descriptors attached, ends it: reading fails with
/// [`io::ErrorKind::PermissionDenied`], and so does everything after.
pub struct PeerStream {
    socket: UnixStream,
    peer: Peer,
    control: Vec<u8>,
    ended: bool,
}

impl PeerStream {
    /// Takes an accepted connection. The listener must have had [`PeerStream::prepare`] before it listened, or what is
    /// sent right after connecting carries no credentials and ends the connection.
    pub fn new(socket: UnixStream, shared: &Arc<Identification>) -> Result<Self, CallerError> {
        setsockopt(&socket, sockopt::PassCred, &true)?;
        let peer = Peer::connected(&socket, shared)?;
        Ok(Self {
            socket,
            peer,
            control: nix::cmsg_space!(UnixCredentials),
            ended: false,
        })
    }

    /// Makes what a listening socket accepts carry credentials from the first byte.
    pub fn prepare(listener: &impl AsFd) -> io::Result<()> {
        Ok(setsockopt(listener, sockopt::PassCred, &true)?)
    }

    /// The process that connected.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// What came from a socket.
enum Received {
    /// This many bytes, from the peer; none at the end.
    FromPeer(usize),
    /// Data from another process, or with descriptors attached.
    Foreign,
}

/// Receives one piece of data; the kernel never puts data of several senders into one.
fn receive(socket: &UnixStream, peer: &Peer, space: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut pieces = [IoSliceMut::new(space)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(control), flags)?;
    if received.bytes == 0 {
        return Ok(Received::FromPeer(0));
    }
    // Room is for credentials only: with descriptors attached, the list is cut and this is an error.
    let from_peer = received.cmsgs().is_ok_and(|mut list| {
        matches!(
            (list.next(), list.next()),
            (Some(ControlMessageOwned::ScmCredentials(sender)), None) if peer.sent(&sender)
        )
    });
    Ok(if from_peer {
        Received::FromPeer(received.bytes)
    } else {
        Received::Foreign
    })
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "data came from another process than the one that connected",
    )
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self {
            socket,
            peer,
            control,
            ended,
        } = self.get_mut();
        if *ended {
            return Poll::Ready(Err(foreign()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let space = buf.initialize_unfilled();
            match socket.try_io(Interest::READABLE, || receive(socket, peer, space, control)) {
                Ok(Received::FromPeer(length)) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Received::Foreign) => {
                    *ended = true;
                    tracing::info!(?peer, "connection ended: another process sent data over it");
                    return Poll::Ready(Err(foreign()));
                }
                Err(error) if is_retried(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Err(foreign()));
        }
        Pin::new(&mut this.socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

fn is_retried(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

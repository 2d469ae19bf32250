//! The threads: one reads requests, one owns the device. A PKCS#11 token can have several owners, each with a session of its own.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use touchmark_api::device::{FaultKind, Op, Reply, Request, Response, read_frame, write_frame};

use crate::{
    fault::{Outcome, fault},
    queue::{Queue, Waiting},
    token::Token,
    tpm::Tpm,
};

/// How long a closing process waits for the device thread, so that it can flush what it loaded.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves the socket on standard input until it closes.
pub(crate) fn run() -> ExitCode {
    let socket = match socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!(
                "touchmark-device: standard input is not a socket ({error}); it is started by the daemons"
            );
            return ExitCode::from(2);
        }
    };
    let Ok(output) = socket.try_clone() else {
        return ExitCode::FAILURE;
    };
    let output = Output(Arc::new(Mutex::new(output)));
    let queue = Arc::new(Queue::default());
    let (ended, farewell) = mpsc::channel();
    let owner = Owner {
        queue: Arc::clone(&queue),
        output: output.clone(),
        device: None,
        first: true,
    };
    let started = thread::Builder::new().name("device".into()).spawn(move || {
        owner.run();
        // The other end waits for this and for nothing else.
        let _ = ended.send(());
    });
    let clock = {
        let (queue, output) = (Arc::clone(&queue), output.clone());
        thread::Builder::new()
            .name("late".into())
            .spawn(move || tell_late(&queue, &output))
    };
    if started.is_err() || clock.is_err() {
        return ExitCode::FAILURE;
    }
    read(socket, &queue, &output);
    queue.close();
    // The device thread drops its connection, which flushes everything; one that hangs in a library does not hold
    // the process.
    let _ = farewell.recv_timeout(FAREWELL);
    ExitCode::SUCCESS
}

fn socket() -> io::Result<UnixStream> {
    let descriptor: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(descriptor);
    socket.peer_addr()?;
    Ok(socket)
}

/// Where answers go: whole frames, from whichever thread.
#[derive(Clone)]
struct Output(Arc<Mutex<UnixStream>>);

impl Output {
    fn write(&self, id: u64, result: Outcome<Reply>) -> io::Result<()> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *socket, &Response { id, result })
    }
}

/// Tells callers whose patience ended while they waited for their turn: they need not take the device for dead.
fn tell_late(queue: &Queue, output: &Output) {
    while let Some(late) = queue.late() {
        for id in late {
            let busy = fault(
                FaultKind::Late,
                "the device was busy longer than the caller waits",
            );
            if output.write(id, Err(busy)).is_err() {
                return;
            }
        }
    }
}

fn read(mut socket: UnixStream, queue: &Queue, output: &Output) {
    while let Ok(Some(request)) = read_frame::<Request>(&mut socket) {
        if let Err(id) = queue.push(request) {
            let result = Err(fault(
                FaultKind::Unavailable,
                "too many requests of this caller, or of all, wait for this device",
            ));
            if output.write(id, result).is_err() {
                return;
            }
        }
    }
}

/// A device that was opened.
enum Opened {
    Tpm(Box<Tpm>),
    Token(Box<Token>),
}

struct Owner {
    queue: Arc<Queue>,
    output: Output,
    device: Option<Opened>,
    /// Whether it is the only one so far: it starts the others, once it knows how many the device can have.
    first: bool,
}

impl Owner {
    fn run(mut self) {
        while let Some(Waiting { id, op, deadline }) = self.queue.next() {
            let result = if Instant::now() >= deadline {
                Err(fault(
                    FaultKind::Late,
                    "the device was busy longer than the caller waits",
                ))
            } else {
                self.answer(op)
            };
            if self.output.write(id, result).is_err() {
                return;
            }
            self.start_others();
        }
    }

    fn answer(&mut self, op: Op) -> Outcome<Reply> {
        match (op, &mut self.device) {
            (Op::Open(_) | Op::OpenToken(_), Some(_)) => {
                Err(fault(FaultKind::Refused, "the device is open already"))
            }
            (Op::Open(settings), None) => {
                self.device = Some(Opened::Tpm(Box::new(Tpm::new(settings)?)));
                Ok(Reply::Done)
            }
            (Op::OpenToken(settings), None) => {
                self.device = Some(Opened::Token(Box::new(Token::new(settings)?)));
                Ok(Reply::Done)
            }
            (op, Some(Opened::Tpm(tpm))) => tpm.answer(op),
            (op, Some(Opened::Token(token))) => token.answer(op),
            (_, None) => Err(fault(FaultKind::Refused, "no device was opened")),
        }
    }

    /// Starts the other owners of a token that has sessions for them.
    fn start_others(&mut self) {
        let Some(Opened::Token(token)) = self.device.as_ref().filter(|_| self.first) else {
            return;
        };
        let Some(threads) = token.threads() else { return };
        self.first = false;
        for _ in 1..threads {
            let other = Self {
                queue: Arc::clone(&self.queue),
                output: self.output.clone(),
                device: Some(Opened::Token(Box::new(token.another()))),
                first: false,
            };
            // With fewer of them the token is slower, and no more.
            let _ = thread::Builder::new()
                .name("session".into())
                .spawn(move || other.run());
        }
    }
}

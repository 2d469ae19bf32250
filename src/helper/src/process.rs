//! One life of the helper process: spawned, spoken to, reaped.

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use touchmark_api::device::{Fault, Reply, Request, Response, read_frame, write_frame};

/// How long a helper may take to end after its socket was closed.
const FAREWELL: Duration = Duration::from_secs(3);

type Waiting = Arc<Mutex<HashMap<u64, Sender<Result<Reply, Fault>>>>>;

/// A running helper. Dropping it closes the socket, at which the helper exits.
pub(crate) struct Process {
    socket: Mutex<UnixStream>,
    waiting: Waiting,
    dead: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
}

impl Process {
    /// Starts the helper with one end of a socket pair as its standard input.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(path)
            .arg("serve")
            // The TSS library writes its own lines to standard error; what went wrong comes back as a fault.
            .env("TSS2_LOG", "all+NONE")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        let child = Arc::new(Mutex::new(child));
        let waiting = Waiting::default();
        let dead = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            socket: ours.try_clone()?,
            waiting: Arc::clone(&waiting),
            dead: Arc::clone(&dead),
            child: Arc::clone(&child),
        };
        thread::Builder::new()
            .name("device-reader".into())
            .spawn(move || reader.run())?;
        Ok(Self {
            socket: Mutex::new(ours),
            waiting,
            dead,
            child,
        })
    }

    /// Whether the helper has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The helper's process id.
    pub(crate) fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Sends a request; the receiver disconnects if the helper dies first.
    pub(crate) fn send(&self, request: &Request) -> io::Result<Receiver<Result<Reply, Fault>>> {
        let (sender, receiver) = channel();
        lock(&self.waiting).insert(request.id, sender);
        if let Err(error) = write_frame(&mut *lock(&self.socket), request) {
            // Its reader will notice too, but perhaps not before the next call.
            self.dead.store(true, Ordering::Release);
            lock(&self.waiting).remove(&request.id);
            return Err(error);
        }
        if self.is_dead() {
            lock(&self.waiting).clear();
        }
        Ok(receiver)
    }

    /// Forgets a caller that no longer waits.
    pub(crate) fn forget(&self, id: u64) {
        lock(&self.waiting).remove(&id);
    }

    /// Ends a helper that does not answer.
    pub(crate) fn kill(&self) {
        // An error means that it has ended already.
        let _ = lock(&self.child).kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = lock(&self.socket).shutdown(std::net::Shutdown::Both);
    }
}

struct Reader {
    socket: UnixStream,
    waiting: Waiting,
    dead: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
}

impl Reader {
    fn run(mut self) {
        while let Ok(Some(response)) = read_frame::<Response>(&mut self.socket) {
            if let Some(sender) = lock(&self.waiting).remove(&response.id) {
                // A caller that gave up has dropped its receiver.
                let _ = sender.send(response.result);
            }
        }
        self.dead.store(true, Ordering::Release);
        lock(&self.waiting).clear();
        // The socket is closed: the helper is flushing what it loaded and ending, or hangs and has to be ended.
        let start = Instant::now();
        while start.elapsed() < FAREWELL {
            if matches!(lock(&self.child).try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A lock whose data stays valid when a holder panicked: every critical section here is a single call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

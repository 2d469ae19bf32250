//! What stands between a resource manager and its TPM: it counts commands, and it brings some faults about.
//!
//! It listens on a pair of ports like swtpm's own and passes whole commands and answers. Counting and faults
//! begin when CMD does.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::command::{frame, read_frame};
use crate::count::Counter;
use crate::error::SimError;
use crate::fault::{Fault, Faults};
use crate::ima::List;
use crate::ports;

/// How much longer a command takes under `tpm-slow`.
pub const DELAY: Duration = Duration::from_millis(200);

/// What a TPM's proxy does.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The TPM's number.
    pub n: usize,
    /// swtpm's data port.
    pub upstream: u16,
    /// The faults of this TPM.
    pub faults: Faults,
    /// Where commands are counted, if they are.
    pub counter: Option<Counter>,
    /// What the TPM's host measures while it runs.
    pub runtime: Arc<Mutex<List>>,
    /// Whether CMD has started.
    pub started: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts threads that serve until the process ends; answers the data port.
    ///
    /// # Errors
    /// When there are no ports.
    pub fn serve(self) -> Result<u16, SimError> {
        let pair = ports::bind_pair().map_err(SimError::system("cannot find ports for a TPM"))?;
        let control = self.clone();
        listen(pair.control, move |client| control.pass_control(client));
        listen(pair.data, move |client| self.pass_commands(client));
        Ok(pair.port)
    }

    /// The fault `fault`, if it is in effect.
    fn suffers(&self, fault: Fault) -> bool {
        self.faults.has(fault) && self.started.load(Ordering::Acquire)
    }

    /// Commands and answers, until either end closes. swtpm serves one connection at a time, so one is made for
    /// each client.
    fn pass_commands(&self, mut client: TcpStream) -> io::Result<()> {
        if self.suffers(Fault::TpmGone) {
            return Ok(());
        }
        let mut tpm = TcpStream::connect(ports::loopback(self.upstream))?;
        client.set_nodelay(true)?;
        tpm.set_nodelay(true)?;
        while let Ok(command) = read_frame(&mut client) {
            if self.suffers(Fault::TpmGone) {
                break;
            }
            if self.suffers(Fault::TpmSlow) {
                std::thread::sleep(DELAY);
            }
            if self.started.load(Ordering::Acquire) {
                self.measure(&mut tpm)?;
            }
            tpm.write_all(&command)?;
            let answer = read_frame(&mut tpm)?;
            // Before the answer is passed on, so that who has the answer also finds the line.
            if let Some(counter) = &self.counter
                && self.started.load(Ordering::Acquire)
            {
                counter.note(self.n, &command, &answer);
            }
            client.write_all(&answer)?;
        }
        Ok(())
    }

    /// Lets the host's kernel measure a file if it is time to. Its commands are not counted.
    fn measure(&self, tpm: &mut TcpStream) -> io::Result<()> {
        let mut list = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(command) = list.grow()?.as_ref().and_then(frame) {
            tpm.write_all(&command)?;
            read_frame(tpm)?;
        }
        Ok(())
    }

    /// The control channel has other frames, which are of no interest here.
    fn pass_control(&self, client: TcpStream) -> io::Result<()> {
        if self.suffers(Fault::TpmGone) {
            return Ok(());
        }
        let tpm = TcpStream::connect(ports::loopback(self.upstream + 1))?;
        let (mut from_client, mut to_tpm) = (client.try_clone()?, tpm.try_clone()?);
        std::thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_tpm);
            let _ = to_tpm.shutdown(Shutdown::Write);
        });
        let (mut from_tpm, mut to_client) = (tpm, client);
        let _ = io::copy(&mut from_tpm, &mut to_client);
        // Also ends the other direction.
        to_client.shutdown(Shutdown::Both)
    }
}

/// Accepts connections for ever, each on a thread of its own. A connection that breaks is its client's concern.
fn listen<F>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(client));
        }
    });
}

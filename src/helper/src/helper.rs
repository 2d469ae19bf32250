//! The helper process of a device: started when it is needed and again when it died, asked, and ended when it hangs.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::RecvTimeoutError,
    },
    time::Duration,
};

use touchmark_api::device::{Op, Reply, Request, Turn, Urgency};

use crate::{
    DeviceError,
    process::{Process, lock},
};

/// How long a call waits by default.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer than its caller's patience a helper may stay silent before it is ended.
const GRACE: Duration = Duration::from_secs(2);

/// A helper process, and for whom it is asked. Cloning shares the process.
#[derive(Clone)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
    patience: Duration,
    turn: Turn,
}

struct Shared {
    path: PathBuf,
    /// What tells a new process which device it serves.
    opening: Op,
    process: Mutex<Option<Arc<Process>>>,
    next: AtomicU64,
}

impl Helper {
    /// The binary at `path`, told by `opening` which device it serves. Nothing is started before the first call.
    pub(crate) fn new(path: &Path, opening: Op) -> Self {
        Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                opening,
                process: Mutex::new(None),
                next: AtomicU64::new(1),
            }),
            patience: PATIENCE,
            turn: Turn {
                urgency: Urgency::Renewal,
                caller: 0,
            },
        }
    }

    /// Whether the binary can be started.
    pub(crate) fn check(&self) -> Result<(), String> {
        let executable = std::fs::metadata(&self.shared.path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(format!(
                "device.path: {} is not an executable file; install touchmark-device beside touchmark, or name it",
                self.shared.path.display()
            ));
        }
        Ok(())
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn patient(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    pub(crate) fn urgent(&self, urgency: Urgency) -> Self {
        Self {
            turn: Turn { urgency, caller: 0 },
            ..self.clone()
        }
    }

    pub(crate) fn on_behalf_of(&self, caller: u64) -> Self {
        Self {
            turn: Turn {
                urgency: Urgency::Workload,
                caller,
            },
            ..self.clone()
        }
    }

    /// Process id of the process now; `None` before the first call.
    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.shared.process).as_ref().map(|process| process.id())
    }

    /// Asks for one thing.
    pub(crate) fn call(&self, op: Op) -> Result<Reply, DeviceError> {
        let process = self.process()?;
        self.exchange(&process, op)
    }

    /// The running helper, or a new one that has been told which device it serves.
    fn process(&self) -> Result<Arc<Process>, DeviceError> {
        let mut slot = lock(&self.shared.process);
        if let Some(process) = slot.as_ref().filter(|process| !process.is_dead()) {
            return Ok(Arc::clone(process));
        }
        if slot.take().is_some() {
            tracing::warn!("touchmark-device ended; starting it again");
        }
        let process = Process::start(&self.shared.path).map_err(|error| DeviceError::Start {
            path: self.shared.path.display().to_string(),
            cause: error.to_string(),
        })?;
        let process = Arc::new(process);
        self.exchange(&process, self.shared.opening.clone())?;
        *slot = Some(Arc::clone(&process));
        Ok(process)
    }

    fn exchange(&self, process: &Process, op: Op) -> Result<Reply, DeviceError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let patience_ms = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        let answer = process
            .send(&Request {
                id,
                patience_ms,
                turn: self.turn,
                op,
            })
            .map_err(|_| DeviceError::HelperDied)?
            .recv_timeout(self.patience + GRACE);
        match answer {
            Ok(result) => Ok(result?),
            Err(RecvTimeoutError::Disconnected) => Err(DeviceError::HelperDied),
            Err(RecvTimeoutError::Timeout) => {
                // It answers late requests itself: a silent one hangs in the hardware or in a vendor's library.
                process.forget(id);
                process.kill();
                Err(DeviceError::Timeout(patience_ms))
            }
        }
    }
}

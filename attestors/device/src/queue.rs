//! Requests waiting for the one thread that owns the device.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use touchmark_api::device::{Op, Request};

/// Most requests that wait; beyond it callers are told to come back.
const MAX_WAITING: usize = 4096;

/// A request in the queue.
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) op: Op,
    pub(crate) deadline: Instant,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

/// First in, first out. Closing it lets the owner finish what it is at, and no more.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Adds a request; `Err` with its number when the queue is full.
    pub(crate) fn push(&self, request: Request) -> Result<(), u64> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            return Err(request.id);
        }
        let deadline = Instant::now() + Duration::from_millis(request.patience_ms.into());
        state.waiting.push_back(Waiting {
            id: request.id,
            op: request.op,
            deadline,
        });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next request; `None` once the queue is closed.
    pub(crate) fn next(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(request) = state.waiting.pop_front() {
                return Some(request);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No further request is answered.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Since when a connection has had nothing to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Limits;

/// What a connection is doing.
pub(super) struct Activity(Mutex<State>);

struct State {
    running: usize,
    began: bool,
    since: Instant,
}

/// A request that is being worked on, until dropped.
pub(super) struct Running(Arc<Activity>);

impl Activity {
    /// Of a connection that has just been accepted.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            running: 0,
            began: false,
            since: Instant::now(),
        }))
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        let mut state = self.state();
        state.running += 1;
        state.began = true;
        Running(Arc::clone(self))
    }

    /// When the connection is to end if nothing else happens. While requests run, that is never earlier than a whole
    /// idle time from now.
    pub(super) fn expires(&self, limits: &Limits) -> Instant {
        let state = self.state();
        match (state.began, state.running) {
            (false, _) => state.since + limits.first_request,
            (true, 0) => state.since + limits.idle,
            (true, _) => Instant::now() + limits.idle,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.since = Instant::now();
    }
}

//! What strangers cause to be written.

use std::sync::{Mutex, PoisonError};

/// What strangers cause to be written: at most a few rows a second, whatever they send.
#[derive(Default)]
pub(crate) struct Notes(Mutex<(u64, u32)>);

impl Notes {
    /// Rows a second.
    const RATE: u32 = 10;

    /// Whether another row may be written in this second.
    pub(crate) fn admit(&self, now: u64) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != now {
            *state = (now, 0);
        }
        state.1 += 1;
        state.1 <= Self::RATE
    }
}

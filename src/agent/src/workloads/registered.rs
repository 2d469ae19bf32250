//! What this host may ask for, as far as the agent knows.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use touchmark_api::host::{Bundle, Registration};

/// Registrations and trust bundle as the service named them last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Of two answers of the service the one with more is the newer.
    pub(crate) generation: u64,
    pub(crate) registrations: Arc<Vec<Registration>>,
    /// Without the roots that this host does not pin.
    pub(crate) bundle: Arc<Bundle>,
}

/// The latest of them.
#[derive(Default)]
pub(crate) struct Registered {
    known: Mutex<Option<Known>>,
    followed: AtomicBool,
}

impl Registered {
    /// What is known.
    pub(crate) fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known, if the service pushes what changes: then it is what is.
    pub(crate) fn pushed(&self) -> Option<Known> {
        self.known().filter(|_| self.is_followed())
    }

    /// Takes in what is registered now, and whether that is something else than before. An answer that was overtaken by a newer
    /// one is not taken.
    pub(crate) fn learn(&self, learnt: Known) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut() {
            if known.generation > learnt.generation {
                return false;
            }
            if known.registrations == learnt.registrations && known.bundle == learnt.bundle {
                known.generation = learnt.generation;
                return false;
            }
        }
        *known = Some(learnt);
        true
    }

    /// Whether the service pushes what changes.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::SeqCst)
    }

    pub(crate) fn followed(&self, followed: bool) {
        self.followed.store(followed, Ordering::SeqCst);
    }
}

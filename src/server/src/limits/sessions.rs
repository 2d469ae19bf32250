//! How many sessions one host has open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Sessions of one host: the one in use, one that takes its place, and those that nobody has seen end yet.
const PER_HOST: usize = 4;

/// Counts sessions by host.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, usize>>);

/// A session that counts until it is dropped.
pub(crate) struct Counted {
    sessions: Arc<Sessions>,
    host: String,
}

impl Sessions {
    /// One more session of a host; `None` if it has its share.
    pub(crate) fn admit(self: &Arc<Self>, host: &str) -> Option<Counted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(host.to_owned()).or_default();
        if *count >= PER_HOST {
            return None;
        }
        *count += 1;
        Some(Counted {
            sessions: Arc::clone(self),
            host: host.to_owned(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_share_and_no_other_pays_for_it() {
        let sessions = Arc::new(Sessions::default());
        let mut held: Vec<_> = (0..PER_HOST).map(|_| sessions.admit("a").unwrap()).collect();
        assert!(sessions.admit("a").is_none());
        assert!(sessions.admit("b").is_some());
        held.pop();
        assert!(sessions.admit("a").is_some());
        held.clear();
        assert!(sessions.0.lock().unwrap().is_empty());
    }
}

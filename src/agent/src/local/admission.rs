//! Counts what each user holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;

/// Counts connections, overall and per user.
pub(super) struct Admission {
    limits: Limits,
    users: Mutex<HashMap<u32, User>>,
}

struct User {
    connections: usize,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Overall,
    User,
}

/// A place for one connection; given back when dropped.
pub(super) struct Place {
    admission: Arc<Admission>,
    uid: u32,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            users: Mutex::new(HashMap::new()),
        }
    }

    /// A place for one more connection of this user.
    pub(super) fn admit(self: &Arc<Self>, uid: u32) -> Result<Place, Full> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.values().map(|user| user.connections).sum::<usize>() >= self.limits.connections {
            return Err(Full::Overall);
        }
        let user = users.entry(uid).or_insert_with(|| User {
            connections: 0,
            requests: Arc::new(Semaphore::new(self.limits.requests_per_user)),
            watches: Arc::new(Semaphore::new(self.limits.watches_per_user)),
        });
        if user.connections >= self.limits.connections_per_user {
            return Err(Full::User);
        }
        user.connections += 1;
        Ok(Place {
            admission: Arc::clone(self),
            uid,
            requests: Arc::clone(&user.requests),
            watches: Arc::clone(&user.watches),
        })
    }
}

impl Place {
    /// A permit for one request of the connection's user; `None` if it has too many.
    pub(super) fn request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }

    /// A permit for one listener of the connection's user; `None` if it has too many.
    pub(super) fn watch(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watches).try_acquire_owned().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self
            .admission
            .users
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.get_mut(&self.uid) {
            user.connections -= 1;
            if user.connections == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(
        connections: usize,
        connections_per_user: usize,
        requests_per_user: usize,
    ) -> Arc<Admission> {
        Arc::new(Admission::new(Limits {
            connections,
            connections_per_user,
            requests_per_user,
            ..Limits::default()
        }))
    }

    #[test]
    fn a_full_user_leaves_room_for_others() {
        let admission = admission(3, 2, 1);
        let first = admission.admit(1).ok().unwrap();
        let _second = admission.admit(1).ok().unwrap();
        assert_eq!(admission.admit(1).err(), Some(Full::User));
        let _other = admission.admit(2).ok().unwrap();
        assert_eq!(admission.admit(3).err(), Some(Full::Overall));
        drop(first);
        assert!(admission.admit(1).is_ok());
    }

    #[test]
    fn requests_are_counted_over_all_connections_of_a_user() {
        let admission = admission(9, 9, 1);
        let (one, two) = (admission.admit(1).ok().unwrap(), admission.admit(1).ok().unwrap());
        let other = admission.admit(2).ok().unwrap();
        let held = one.request().unwrap();
        assert!(two.request().is_none());
        assert!(other.request().is_some());
        drop(held);
        assert!(two.request().is_some());
    }

    #[test]
    fn the_defaults_are_as_documented() {
        let limits = Limits::default();
        assert_eq!((limits.connections, limits.connections_per_user), (1024, 64));
        assert_eq!(
            (limits.requests_per_user, limits.streams_per_connection),
            (32, 16)
        );
        assert_eq!(limits.header_bytes, 8192);
        assert_eq!(
            (limits.first_request.as_secs(), limits.request.as_secs()),
            (10, 60)
        );
        assert_eq!((limits.idle.as_secs(), limits.farewell.as_secs()), (300, 5));
    }
}

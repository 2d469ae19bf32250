//! Who may open one more connection.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Rates;
use crate::config::Limits;

/// Connections of one listener: so many at once overall and per source, and so many new ones a second per source, since
/// each handshake takes a signature of the service's device.
pub(crate) struct Gate {
    overall: Arc<Semaphore>,
    per_source: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    new: Rates<IpAddr>,
}

/// Room for one connection. Dropping it makes room for another.
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// A connection that was let in.
pub(crate) struct Admitted {
    _room: Room,
    source: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Gate {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            overall: Arc::new(Semaphore::new(limits.connections)),
            per_source: limits.connections_per_source,
            open: Arc::default(),
            new: Rates::new(limits.handshakes_per_source, limits.overall, now),
        }
    }

    /// Waits until there is room for one more; until then they wait in the system's backlog.
    pub(crate) async fn room(&self) -> Option<Room> {
        let permit = Arc::clone(&self.overall).acquire_owned().await.ok()?;
        Some(Room { _permit: permit })
    }

    /// Lets a connection in, unless its source has too many, or opens them too fast.
    pub(crate) fn admit(&self, room: Room, source: IpAddr, now: Instant) -> Option<Admitted> {
        let source = party(source);
        if !self.new.admit(source, now) {
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_insert(0);
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Admitted {
            _room: room,
            source,
            open: Arc::clone(&self.open),
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

/// Whom a rate is counted for: an address, or for IPv6 the network that one party is usually given.
pub(crate) fn party(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections_per_source: usize, handshakes_per_source: u32) -> Limits {
        Limits {
            connections_per_source,
            handshakes_per_source,
            ..Limits::default()
        }
    }

    #[tokio::test]
    async fn one_source_takes_its_share_and_gets_it_back() {
        let now = Instant::now();
        let gate = Gate::new(&limits(2, 100), now);
        let enter =
            async |last: u8| gate.admit(gate.room().await.unwrap(), IpAddr::from([192, 0, 2, last]), now);
        let (one, two) = (enter(1).await, enter(1).await);
        assert!(one.is_some() && two.is_some());
        assert!(enter(1).await.is_none());
        assert!(enter(2).await.is_some());
        drop(one);
        assert!(enter(1).await.is_some());
        assert!(gate.open.lock().unwrap().len() <= 2);
    }

    #[tokio::test]
    async fn one_source_does_not_open_connections_as_fast_as_it_likes() {
        let now = Instant::now();
        let gate = Gate::new(&limits(1_000, 1), now);
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut entered = 0;
        for _ in 0..50 {
            entered += usize::from(gate.admit(gate.room().await.unwrap(), source, now).is_some());
        }
        assert_eq!(entered, 10);
    }

    #[test]
    fn a_network_of_one_party_counts_as_one() {
        let address = |text: &str| party(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}

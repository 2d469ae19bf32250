//! Request rates at the listener for strangers: per source and overall, never per host, which strangers could exhaust.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Most sources remembered; when there are more, the fullest buckets are forgotten first, which costs nobody anything.
const MAX_SOURCES: usize = 65_536;

/// Token buckets.
pub(crate) struct Rates {
    per_source: Rate,
    overall: Rate,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct State {
    sources: HashMap<IpAddr, Bucket>,
    overall: Bucket,
}

impl Rates {
    pub(crate) fn new(per_source: u32, overall: u32, now: Instant) -> Self {
        let per_source = Rate {
            per_second: per_source.into(),
            burst: f64::from(per_source) * 10.0,
        };
        let overall = Rate {
            per_second: overall.into(),
            burst: f64::from(overall) * 2.0,
        };
        let state = State {
            sources: HashMap::new(),
            overall: Bucket {
                tokens: overall.burst,
                at: now,
            },
        };
        Self {
            per_source,
            overall,
            state: Mutex::new(state),
        }
    }

    /// Whether a request from this source may go on.
    pub(crate) fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let source = party(source);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.sources.len() >= MAX_SOURCES && !state.sources.contains_key(&source) {
            let rate = self.per_source;
            state
                .sources
                .retain(|_, bucket| bucket.level(rate, now) < rate.burst);
            if state.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let fresh = Bucket {
            tokens: self.per_source.burst,
            at: now,
        };
        let bucket = state.sources.entry(source).or_insert(fresh);
        // The source's own bucket first: one that is over its rate takes nothing from the others.
        bucket.take(self.per_source, now) && state.overall.take(self.overall, now)
    }
}

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

/// Whom a rate is counted for: an address, or for IPv6 the network that one party is usually given.
fn party(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
    }
}

impl Bucket {
    fn level(&self, rate: Rate, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + elapsed * rate.per_second).min(rate.burst)
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.tokens = self.level(rate, now);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_source_exhausts_only_itself_and_recovers() {
        let start = Instant::now();
        let rates = Rates::new(1, 100, start);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!((0..20).filter(|_| rates.admit(one, start)).count(), 10);
        assert!(rates.admit(other, start));
        assert!(rates.admit(one, start + Duration::from_secs(1)));
        assert!(!rates.admit(one, start + Duration::from_secs(1)));
    }

    #[test]
    fn the_overall_rate_bounds_many_sources() {
        let start = Instant::now();
        let rates = Rates::new(10, 5, start);
        let admitted = (0..=u8::MAX)
            .filter(|n| rates.admit(IpAddr::from([192, 0, 2, *n]), start))
            .count();
        assert_eq!(admitted, 10);
    }
}

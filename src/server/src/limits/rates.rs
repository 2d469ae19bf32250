//! Token buckets: requests and connections per source and overall, requests of an attested host per host. Never per
//! endorsement key, which strangers could exhaust.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Most sources remembered; when there are more, the fullest buckets are forgotten first, which costs nobody anything.
const MAX_SOURCES: usize = 65_536;

/// Token buckets for keys of one kind.
pub(crate) struct Rates<K> {
    each: Rate,
    overall: Rate,
    state: Mutex<State<K>>,
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

struct State<K> {
    sources: HashMap<K, Bucket>,
    overall: Bucket,
}

impl<K: Eq + Hash> Rates<K> {
    /// Per second for each key after a burst of ten times as many, and for all together after a burst of twice as many.
    pub(crate) fn new(each: u32, overall: u32, now: Instant) -> Self {
        let each = Rate {
            per_second: each.into(),
            burst: f64::from(each) * 10.0,
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
            each,
            overall,
            state: Mutex::new(state),
        }
    }

    /// Whether one more of this key may go on.
    pub(crate) fn admit(&self, source: K, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.sources.len() >= MAX_SOURCES && !state.sources.contains_key(&source) {
            let rate = self.each;
            state
                .sources
                .retain(|_, bucket| bucket.level(rate, now) < rate.burst);
            if state.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let fresh = Bucket {
            tokens: self.each.burst,
            at: now,
        };
        let bucket = state.sources.entry(source).or_insert(fresh);
        // The source's own bucket first: one that is over its rate takes nothing from the others.
        bucket.take(self.each, now) && state.overall.take(self.overall, now)
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

    use std::net::IpAddr;

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

//! Requests waiting for the one thread that owns the device.
//!
//! The host's own attestation comes first, then what renews credentials, then workloads; but who waits behind others gets a
//! share, so that nothing is starved from above. Within one of these, callers take turns, and each may have a quota waiting:
//! whoever signs in a loop waits for himself. A request that nobody waits for any more is dropped when its time is over, not
//! when its turn would come.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use touchmark_api::device::{Op, Request, Urgency};

/// Most requests that wait; beyond it callers are told to come back.
const MAX_WAITING: usize = 4096;
/// Most requests of one caller that wait.
const QUOTA: usize = 64;
/// How many requests are served before one that is less urgent and waits as well.
const SHARE: u32 = 8;

/// A request in the queue.
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) op: Op,
    pub(crate) deadline: Instant,
}

/// Requests of one urgency: callers in the order of their turns, each with what it asked for.
#[derive(Default)]
struct Callers {
    turns: VecDeque<u64>,
    requests: HashMap<u64, VecDeque<Waiting>>,
}

#[derive(Default)]
struct State {
    lanes: BTreeMap<Urgency, Callers>,
    waiting: usize,
    /// Requests served since somebody less urgent began to wait.
    ahead: u32,
    closed: bool,
}

/// Closing it lets the owner finish what it is at, and no more.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Adds a request; `Err` with its number when the queue, or its caller's part of it, is full.
    pub(crate) fn push(&self, request: Request) -> Result<(), u64> {
        let mut state = self.lock();
        if state.waiting >= MAX_WAITING {
            return Err(request.id);
        }
        let deadline = Instant::now() + Duration::from_millis(request.patience_ms.into());
        let caller = request.turn.caller;
        let lane = state.lanes.entry(request.turn.urgency).or_default();
        let own = lane.requests.entry(caller).or_default();
        if own.len() >= QUOTA {
            return Err(request.id);
        }
        if own.is_empty() {
            lane.turns.push_back(caller);
        }
        own.push_back(Waiting {
            id: request.id,
            op: request.op,
            deadline,
        });
        state.waiting += 1;
        drop(state);
        // Both the owner and the clock wait for this.
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the next request; `None` once the queue is closed.
    pub(crate) fn next(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(request) = state.next() {
                return Some(request);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until requests are late, takes them out, and returns their numbers; `None` once the queue is closed.
    pub(crate) fn late(&self) -> Option<Vec<u64>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let (late, next) = state.expire(now);
            if !late.is_empty() {
                return Some(late);
            }
            let pause = next.map_or(Duration::from_secs(60), |next| next - now);
            state = self
                .changed
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
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

impl State {
    /// The first of the most urgent; or, after a while, of the least urgent that waits.
    fn next(&mut self) -> Option<Waiting> {
        let mut lanes = self.lanes.values_mut().filter(|lane| !lane.turns.is_empty());
        let first = lanes.next()?;
        let request = match lanes.next_back() {
            None => {
                self.ahead = 0;
                first.next()
            }
            Some(last) if self.ahead >= SHARE => {
                self.ahead = 0;
                last.next()
            }
            Some(_) => {
                self.ahead += 1;
                first.next()
            }
        };
        self.waiting -= 1;
        request
    }

    /// Takes out what is late; returns that and the next deadline.
    fn expire(&mut self, now: Instant) -> (Vec<u64>, Option<Instant>) {
        let (mut late, mut next) = (Vec::new(), None);
        for lane in self.lanes.values_mut() {
            for own in lane.requests.values_mut() {
                own.retain(|waiting| {
                    let in_time = waiting.deadline > now;
                    if in_time {
                        next =
                            Some(next.map_or(waiting.deadline, |next: Instant| next.min(waiting.deadline)));
                    } else {
                        late.push(waiting.id);
                    }
                    in_time
                });
            }
            let Callers { turns, requests } = lane;
            requests.retain(|_, own| !own.is_empty());
            turns.retain(|caller| requests.contains_key(caller));
        }
        self.waiting -= late.len();
        (late, next)
    }
}

impl Callers {
    /// The first request of the caller whose turn it is; its next turn comes after everybody else's.
    fn next(&mut self) -> Option<Waiting> {
        let caller = self.turns.pop_front()?;
        let own = self.requests.get_mut(&caller)?;
        let request = own.pop_front();
        if own.is_empty() {
            self.requests.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use touchmark_api::device::Turn;

    use super::*;

    fn ask(queue: &Queue, id: u64, urgency: Urgency, caller: u64) -> Result<(), u64> {
        queue.push(Request {
            id,
            patience_ms: 1_000,
            turn: Turn { urgency, caller },
            op: Op::BootLog,
        })
    }

    fn order(queue: &Queue, count: usize) -> Vec<u64> {
        (0..count).map(|_| queue.next().unwrap().id).collect()
    }

    #[test]
    fn attestation_comes_before_renewal_and_renewal_before_workloads() {
        let queue = Queue::default();
        for (id, urgency) in [
            (1, Urgency::Workload),
            (2, Urgency::Renewal),
            (3, Urgency::Quote),
            (4, Urgency::Workload),
            (5, Urgency::Quote),
        ] {
            ask(&queue, id, urgency, 0).unwrap();
        }
        assert_eq!(order(&queue, 5), [3, 5, 2, 1, 4]);
    }

    #[test]
    fn a_caller_in_a_loop_waits_for_itself_and_has_a_quota() {
        let queue = Queue::default();
        let mut waiting = 0;
        while ask(&queue, waiting, Urgency::Workload, 7).is_ok() {
            waiting += 1;
        }
        assert_eq!(waiting, 64);
        ask(&queue, 100, Urgency::Workload, 8).unwrap();
        ask(&queue, 101, Urgency::Workload, 9).unwrap();
        assert_eq!(order(&queue, 5), [0, 100, 101, 1, 2]);
        // What was served makes room again.
        ask(&queue, 102, Urgency::Workload, 7).unwrap();
        // Its quota is its own: the host's attestation is not kept out by it.
        ask(&queue, 103, Urgency::Quote, 7).unwrap();
        assert_eq!(order(&queue, 1), [103]);
    }

    #[test]
    fn who_is_less_urgent_gets_a_share() {
        let queue = Queue::default();
        for id in 0..20 {
            ask(&queue, id, Urgency::Renewal, 0).unwrap();
        }
        ask(&queue, 100, Urgency::Workload, 0).unwrap();
        let served = order(&queue, 21);
        assert_eq!(served.iter().position(|id| *id == 100), Some(8), "{served:?}");
    }

    #[test]
    fn a_request_is_dropped_when_its_time_is_over_and_not_when_its_turn_comes() {
        let queue = Queue::default();
        let push = |id, patience_ms| {
            queue.push(Request {
                id,
                patience_ms,
                turn: Turn {
                    urgency: Urgency::Workload,
                    caller: id,
                },
                op: Op::BootLog,
            })
        };
        push(1, 20).unwrap();
        push(2, 60_000).unwrap();
        assert_eq!(queue.late(), Some(vec![1]));
        assert_eq!(order(&queue, 1), [2]);
    }

    #[test]
    fn many_callers_together_have_a_bound_too() {
        let queue = Queue::default();
        let accepted = (0..5_000)
            .filter(|id| ask(&queue, *id, Urgency::Workload, *id).is_ok())
            .count();
        assert_eq!(accepted, MAX_WAITING);
        queue.close();
        assert!(queue.next().is_none());
    }
}

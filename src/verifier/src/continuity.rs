//! Whether a device goes on from where it was last seen. A copy of its state that runs beside it does not.

use touchmark_rats::{BootCounters, Reason, Refusal, Retry};

/// What was last seen of a device's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// Resets.
    pub reset: u32,
    /// Its clock, in milliseconds.
    pub clock: u64,
}

/// How a device goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// In the boot it was last seen in.
    SameBoot,
    /// It was reset since.
    Reset,
}

/// How these counters go on from those.
///
/// # Errors
///
/// [`Reason::ClockRegressed`]: they go back. A count of resets never does, and a clock not within one boot, unless the
/// device was cleared: there are two of it, or it was rolled back.
pub fn continuity(last: LastSeen, seen: BootCounters) -> Result<Continuity, Refusal> {
    if seen.reset > last.reset {
        return Ok(Continuity::Reset);
    }
    if seen.reset == last.reset && seen.clock >= last.clock {
        return Ok(Continuity::SameBoot);
    }
    Err(Refusal {
        check: "host.clock",
        reason: Reason::ClockRegressed,
        expected: format!(
            "a clock after {} ms at {} resets, or more resets",
            last.clock, last.reset
        ),
        found: format!("{} ms at {} resets", seen.clock, seen.reset),
        remedy: "there may be two devices with this state, or it was rolled back or cleared: find out which, and replace or \
                 evict the host"
            .into(),
        retry: Retry::Never,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(reset: u32, clock: u64) -> BootCounters {
        BootCounters {
            reset,
            restart: 0,
            clock,
            safe: true,
        }
    }

    #[test]
    fn clocks_go_on_within_a_boot_and_begin_anew_after_a_reset() {
        let last = LastSeen {
            reset: 5,
            clock: 1_000,
        };
        assert_eq!(continuity(last, seen(5, 1_000)), Ok(Continuity::SameBoot));
        assert_eq!(continuity(last, seen(5, 1_001)), Ok(Continuity::SameBoot));
        assert_eq!(continuity(last, seen(6, 3)), Ok(Continuity::Reset));
        assert_eq!(continuity(last, seen(9, 2_000)), Ok(Continuity::Reset));
    }

    #[test]
    fn e21_counters_that_go_back_are_those_of_another_copy() {
        let last = LastSeen {
            reset: 5,
            clock: 1_000,
        };
        for counters in [seen(5, 999), seen(5, 0), seen(4, 5_000), seen(0, 0)] {
            let refusal = continuity(last, counters).unwrap_err();
            assert_eq!(refusal.reason, Reason::ClockRegressed, "{counters:?}");
        }
    }
}

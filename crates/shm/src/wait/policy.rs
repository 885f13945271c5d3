//! How long to spin before sleeping.

use crate::primitive::{AtomicU32, Ordering, spin_loop};
use crate::sys::process;

/// Spinning pays when another core runs the other side right now: a futex sleep and wake cost tens
/// of microseconds, the answer of a running peer comes within a few. It is waste when the peer is
/// computing, and harm when the peer needs this very core. Nobody can know which; so the time to
/// spin follows what spinning brought lately: doubled by success, halved by failure.
#[derive(Debug)]
pub(crate) struct SpinPolicy {
    /// Nanoseconds to spin next time; 0 on a single core.
    budget: AtomicU32,
}

const START_NS: u32 = 20_000;
/// More than a sleeper takes to wake up: two sides that have come to wake each other out of sleep
/// only find back to answering within microseconds if one of them waits for that long.
const MOST_NS: u32 = 100_000;
const LEAST_NS: u32 = 1_000;
/// A sleep shorter than this would have been worth spinning for: twice the time to wake up (the
/// other side's, and ours), with something to spare.
const SHORT_SLEEP_NS: u64 = 250_000;
const CHECK_CLOCK_EVERY: u32 = 32;

impl SpinPolicy {
    pub(crate) fn new() -> SpinPolicy {
        let budget = if process::usable_cores() > 1 { START_NS } else { 0 };
        SpinPolicy { budget: AtomicU32::new(budget) }
    }

    /// Spins until `ready` or until the budget is used up; tells which.
    pub(crate) fn spin(&self, mut ready: impl FnMut() -> bool) -> bool {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget == 0 {
            return ready();
        }
        let started = process::monotonic_ns();
        loop {
            for _ in 0..CHECK_CLOCK_EVERY {
                if ready() {
                    self.set(budget.saturating_mul(2));
                    return true;
                }
                spin_loop();
            }
            if process::monotonic_ns() - started > u64::from(budget) {
                self.set(budget / 2);
                return false;
            }
        }
    }

    /// Learns how long a sleep took that ended because the event came.
    pub(crate) fn slept(&self, nanoseconds: u64) {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget != 0 && nanoseconds < SHORT_SLEEP_NS {
            self.set(budget.saturating_mul(4));
        }
    }

    fn set(&self, budget: u32) {
        self.budget.store(budget.clamp(LEAST_NS, MOST_NS), Ordering::Relaxed);
    }
}

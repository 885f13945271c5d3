//! Death at the n-th store.
//!
//! Every store to shared memory that takes part in a protocol goes through [`store`] or one of its
//! siblings. In builds with the feature `crash-points` each of them may be the last thing that a
//! simulated process does: the n-th store is made, then the operation unwinds without running any
//! clean-up that touches shared memory (locks stay held by the dying thread, blocks stay owned).
//! In other builds, and in all builds without debug assertions (benchmarks are built with the
//! features of the tests), the functions are the plain store.

use crate::primitive::{AtomicU32, AtomicU64, Ordering};

#[cfg(all(feature = "crash-points", debug_assertions, not(breakeven_loom)))]
mod countdown {
    use std::cell::Cell;

    thread_local! {
        static REMAINING: Cell<Option<u64>> = const { Cell::new(None) };
        static PASSED: Cell<u64> = const { Cell::new(0) };
        static CRASHED: Cell<bool> = const { Cell::new(false) };
    }

    /// The payload of the unwinding that simulates death.
    #[derive(Debug)]
    pub struct Died;

    /// Runs `operation` on this thread and lets it die right after its `after`-th shared store
    /// (never, if `None`). Returns the result if it survived, and how many stores it made.
    ///
    /// The thread must end soon after a death: locks that it holds are handed on by the kernel
    /// only then.
    pub fn run<T>(after: Option<u64>, operation: impl FnOnce() -> T) -> (Option<T>, u64) {
        REMAINING.set(after);
        PASSED.set(0);
        CRASHED.set(false);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
        REMAINING.set(None);
        let passed = PASSED.get();
        match outcome {
            Ok(value) => (Some(value), passed),
            Err(payload) if payload.is::<Died>() => (None, passed),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    pub(crate) fn point() {
        PASSED.set(PASSED.get() + 1);
        if let Some(remaining) = REMAINING.get() {
            if remaining <= 1 {
                REMAINING.set(None);
                CRASHED.set(true);
                std::panic::resume_unwind(Box::new(Died));
            }
            REMAINING.set(Some(remaining - 1));
        }
    }

    pub(crate) fn crashed() -> bool {
        CRASHED.get()
    }
}

#[cfg(all(feature = "crash-points", debug_assertions, not(breakeven_loom)))]
pub use countdown::{Died, run};

#[cfg(all(feature = "crash-points", debug_assertions, not(breakeven_loom)))]
pub(crate) use countdown::crashed;

/// Whether this thread plays a dead process, whose destructors must not touch shared memory.
#[cfg(not(all(feature = "crash-points", debug_assertions, not(breakeven_loom))))]
#[inline(always)]
pub(crate) fn crashed() -> bool {
    false
}

/// The place right after a store of another kind.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(all(feature = "crash-points", debug_assertions, not(breakeven_loom)))]
    countdown::point();
}

/// Stores to a shared 32-bit word.
#[inline(always)]
pub(crate) fn store(word: &AtomicU32, value: u32, order: Ordering) {
    word.store(value, order);
    point();
}

/// Stores to a shared 64-bit word.
#[inline(always)]
pub(crate) fn store64(word: &AtomicU64, value: u64, order: Ordering) {
    word.store(value, order);
    point();
}

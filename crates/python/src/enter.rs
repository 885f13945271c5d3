//! The gate: every wait of this module passes here.
//!
//! A wait is made of slices. In a slice the interpreter is released, so that other threads run and a fork or the garbage
//! collector of a free-threaded interpreter is not held up; after it, the main thread looks for signals. Ctrl-C is thus
//! served within [`MAIN_SLICE`]. Other threads never see signals, so their slices are long: a slice that ends early only
//! makes up for a wake-up that died with the process it had been given to.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

use breakeven_shm::Wait;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;

const MAIN_SLICE: Duration = Duration::from_millis(50);
const OTHER_SLICE: Duration = Duration::from_secs(1);

/// Identifier of the thread that runs signal handlers.
static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);

/// Notes which thread is the main one.
pub(crate) fn initialise(py: Python<'_>) -> PyResult<()> {
    let main = py.import("threading")?.call_method0("main_thread")?.getattr("ident")?.extract::<u64>()?;
    MAIN_THREAD.store(main, Ordering::Relaxed);
    Ok(())
}

/// In a forked child, the thread that forked is the main one.
pub(crate) fn after_fork_in_child() {
    MAIN_THREAD.store(current_thread(), Ordering::Relaxed);
}

/// Identifier of the calling thread, never 0.
#[inline]
pub(crate) fn current_thread() -> u64 {
    // SAFETY: only asks the system for the calling thread's identifier.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// Until when to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// Not at all.
    Now,
    /// Until then.
    At(Instant),
    /// Without limit.
    Never,
}

impl Deadline {
    /// From the arguments of `put` and `get`: `timeout` in seconds, `None` for no limit. Negative is zero, as in the
    /// standard library's queues between processes.
    pub(crate) fn new(block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if !block {
            return Ok(Self::Now);
        }
        let Some(timeout) = timeout else { return Ok(Self::Never) };
        let seconds: f64 = timeout.extract()?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("timeout must not be NaN"));
        }
        if seconds <= 0.0 {
            return Ok(Self::Now);
        }
        // What is too long for the clock is as good as no limit.
        let until = Duration::try_from_secs_f64(seconds).ok().and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(until.map_or(Self::Never, Self::At))
    }

    /// How long is left, at most `longest`; `None` if it has passed.
    fn left(self, longest: Duration) -> Option<Duration> {
        match self {
            Self::Now => None,
            Self::Never => Some(longest),
            Self::At(until) => {
                let left = until.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(longest))
            }
        }
    }
}

/// Waits for one slice, detached; then runs signal handlers if this is the thread for it. `Ok(false)`: the deadline has
/// passed. `Ok(true)`: look again. An error: a signal handler raised.
pub(crate) fn wait_slice(
    py: Python<'_>,
    deadline: Deadline,
    wait: impl FnOnce(Duration) -> Wait + Send,
) -> PyResult<bool> {
    let main = current_thread() == MAIN_THREAD.load(Ordering::Relaxed);
    let Some(slice) = deadline.left(if main { MAIN_SLICE } else { OTHER_SLICE }) else { return Ok(false) };
    let outcome = py.detach(|| wait(slice));
    // A wait that ended because the thing is there goes on at once: under load the signals are seen to by the interpreter
    // itself, between two byte codes.
    if main && outcome != Wait::Ready {
        py.check_signals()?;
    }
    Ok(true)
}

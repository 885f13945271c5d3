//! How many items to send at once, decided by the planner.

use breakeven_plan::{ChunkConfig, ChunkPolicy as Policy};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Sizes of the chunks in which `total` items are given to `workers`, decided at once: large at first, small at the end.
#[pyfunction]
#[pyo3(signature = (total, workers, *, at_least=1, at_most=None))]
pub(crate) fn static_chunks(total: u64, workers: u32, at_least: u64, at_most: Option<u64>) -> Vec<u64> {
    let chunks = breakeven_plan::static_chunks(total, workers).at_least(at_least);
    match at_most {
        Some(most) => chunks.at_most(most).collect(),
        None => chunks.collect(),
    }
}

/// Decides chunk by chunk, from what was measured so far. Not for use by two threads at the same time: that raises
/// RuntimeError.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct ChunkPolicy {
    busy: AtomicBool,
    policy: UnsafeCell<Policy>,
}

// SAFETY: `policy` is only reached through `with`, by the one thread that has set `busy`.
unsafe impl Sync for ChunkPolicy {}

impl ChunkPolicy {
    fn with<T>(&self, act: impl FnOnce(&mut Policy) -> T) -> PyResult<T> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(PyRuntimeError::new_err("ChunkPolicy is in use by another thread"));
        }
        // SAFETY: `busy` was false and is now ours, so nobody else is here.
        let result = act(unsafe { &mut *self.policy.get() });
        self.busy.store(false, Ordering::Release);
        Ok(result)
    }
}

#[pymethods]
impl ChunkPolicy {
    /// `total`: number of items, None if unknown. Seconds, bytes and items that are not given have the planner's defaults.
    #[new]
    #[pyo3(signature = (
        total, workers, *, dispatch_seconds=None, overhead_share=None, max_seconds=None, max_bytes=None, max_items=None
    ))]
    fn new(
        total: Option<u64>,
        workers: u32,
        dispatch_seconds: Option<f64>,
        overhead_share: Option<f64>,
        max_seconds: Option<f64>,
        max_bytes: Option<f64>,
        max_items: Option<u64>,
    ) -> PyResult<Self> {
        if workers == 0 {
            return Err(PyValueError::new_err("workers must be at least 1"));
        }
        let mut config = ChunkConfig::default();
        let set = |field: &mut f64, value: Option<f64>, name: &str| match value {
            None => Ok(()),
            Some(value) if value.is_finite() && value > 0.0 => {
                *field = value;
                Ok(())
            }
            Some(value) => Err(PyValueError::new_err(format!("{name} must be positive and finite, not {value}"))),
        };
        set(&mut config.dispatch_seconds, dispatch_seconds, "dispatch_seconds")?;
        set(&mut config.overhead_share, overhead_share, "overhead_share")?;
        set(&mut config.max_seconds, max_seconds, "max_seconds")?;
        set(&mut config.max_bytes, max_bytes, "max_bytes")?;
        match max_items {
            Some(0) => return Err(PyValueError::new_err("max_items must be at least 1")),
            Some(most) => config.max_items = most,
            None => {}
        }
        Ok(ChunkPolicy { busy: AtomicBool::new(false), policy: UnsafeCell::new(Policy::new(total, workers, config)) })
    }

    /// How many items the next chunk shall have; 0 when all of a known total are given out.
    fn next_chunk(&self) -> PyResult<u64> {
        self.with(Policy::next_chunk)
    }

    /// What `next_chunk` would say now.
    fn peek(&self) -> PyResult<u64> {
        self.with(|policy| policy.peek())
    }

    /// So many items that were given out come back untouched, to be given out again.
    fn give_back(&self, items: u64) -> PyResult<()> {
        self.with(|policy| policy.give_back(items))
    }

    /// Mean seconds of an item, as far as is known; None before anything was observed.
    fn seconds_per_item(&self) -> PyResult<Option<f64>> {
        self.with(|policy| policy.seconds_per_item())
    }

    /// A chunk of `items` came back after `seconds` of work.
    fn observe(&self, items: u64, seconds: f64) -> PyResult<()> {
        self.with(|policy| policy.observe(items, seconds))
    }

    /// A chunk of `items` was encoded in `nbytes` bytes.
    fn observe_bytes(&self, items: u64, nbytes: u64) -> PyResult<()> {
        self.with(|policy| policy.observe_bytes(items, nbytes))
    }

    /// Items not yet given out; None if the total is unknown.
    fn remaining(&self) -> PyResult<Option<u64>> {
        self.with(|policy| policy.remaining())
    }
}

//! This process's arena, and functions about arenas.

use core::sync::atomic::{AtomicU64, Ordering};

use breakeven_shm::{Arena, ArenaConfig, Counter};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error;

/// The limit that `configure` set; 0 for none.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// The arena that new channels and blobs go to: the first that this process used. A forked child goes on with its
/// parent's; a spawned one with the one it attached first, so that a tree of processes has one.
///
/// There is no lock here for a fork to catch. Two threads that come first at the same time on a free-threaded
/// interpreter may make two arenas, of which both go on to use the first.
pub(crate) fn arena(py: Python<'_>) -> PyResult<Arena> {
    if let Some(arena) = Arena::all().next() {
        return Ok(arena);
    }
    let mut config = ArenaConfig::default();
    if let Some(limit) = limit_from_environment(py)? {
        config.limit = limit;
    }
    match LIMIT.load(Ordering::Relaxed) {
        0 => {}
        limit => config.limit = limit,
    }
    Arena::create(config).map_err(|e| error::create(&e))
}

/// `BREAKEVEN_MEMORY_LIMIT`, read through Python: std's access takes a lock that a forked child may find taken.
fn limit_from_environment(py: Python<'_>) -> PyResult<Option<u64>> {
    let value = py.import("os")?.getattr("environ")?.call_method1("get", ("BREAKEVEN_MEMORY_LIMIT",))?;
    let Some(text) = value.extract::<Option<String>>()? else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match parse_bytes(&text) {
        Some(limit) => Ok(Some(limit)),
        None => Err(PyValueError::new_err(format!(
            "BREAKEVEN_MEMORY_LIMIT must be a number of bytes, such as 2000000000 or 2G, not {text:?}"
        ))),
    }
}

/// Bytes, with an optional K, M, G or T (powers of 1024).
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches(['b', 'B']).trim_end_matches('i');
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * (1u64 << shift) as f64;
    (bytes >= 1.0 && bytes < (1u64 << 60) as f64).then_some(bytes as u64)
}

/// Sets the most bytes of shared memory that messages may take in this tree of processes. `None` leaves it as it is.
/// The default is half of what the control group, or the machine, allows.
#[pyfunction]
#[pyo3(signature = (memory_limit=None))]
pub(crate) fn configure(memory_limit: Option<u64>) -> PyResult<()> {
    if let Some(limit) = memory_limit {
        if limit == 0 {
            return Err(PyValueError::new_err("memory_limit must be at least 1 byte"));
        }
        LIMIT.store(limit, Ordering::Relaxed);
        if let Some(arena) = Arena::all().next() {
            arena.set_limit(limit);
        }
    }
    Ok(())
}

/// Figures about this process's arena, in bytes unless they are counts.
#[pyfunction]
pub(crate) fn arena_statistics(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let arena = arena(py)?;
    let figures = py.detach(|| arena.statistics());
    let dict = PyDict::new(py);
    dict.set_item("limit", figures.limit)?;
    dict.set_item("committed", figures.committed)?;
    dict.set_item("peak", figures.peak)?;
    dict.set_item("in_use", figures.in_use)?;
    dict.set_item("free", figures.free)?;
    dict.set_item("blocks_in_use", figures.blocks_in_use)?;
    dict.set_item("blocks", figures.blocks)?;
    dict.set_item("channels", figures.channels)?;
    dict.set_item("blobs", figures.blobs)?;
    dict.set_item("locks", figures.locks)?;
    dict.set_item("participants", figures.participants)?;
    dict.set_item("reserved", figures.reserved)?;
    dict.set_item("arenas", Arena::all().count())?;
    Ok(dict)
}

/// Looks for dead processes now and takes back what they held. Returns how many were found.
#[pyfunction]
pub(crate) fn reap(py: Python<'_>) -> usize {
    py.detach(|| Arena::all().map(|arena| arena.reap()).sum())
}

/// Gives unused memory back to the system, down to `keep` bytes. Returns how many bytes were given back.
#[pyfunction]
#[pyo3(signature = (keep=0))]
pub(crate) fn trim(py: Python<'_>, keep: u64) -> u64 {
    py.detach(|| Arena::all().map(|arena| arena.trim(keep)).sum())
}

const COUNTERS: [(&str, Counter); 10] = [
    ("messages", Counter::Messages),
    ("bytes_copied", Counter::BytesCopied),
    ("bytes_viewed", Counter::BytesViewed),
    ("sleeps", Counter::Sleeps),
    ("wakes", Counter::Wakes),
    ("tasks", Counter::Tasks),
    ("fresh_blocks", Counter::FreshBlocks),
    ("processes", Counter::Processes),
    ("published", Counter::Published),
    ("fetched", Counter::Fetched),
];

/// What was counted by all processes that use this process's arenas, living and dead.
#[pyfunction]
pub(crate) fn counters(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, counter) in COUNTERS {
        dict.set_item(name, Arena::all().map(|arena| arena.counter(counter)).sum::<u64>())?;
    }
    Ok(dict)
}

/// Adds `n` to the counter `name` (one of those that `counters` shows). Raises KeyError if there is none of that name.
#[pyfunction]
#[pyo3(signature = (name, n=1))]
pub(crate) fn count(py: Python<'_>, name: &str, n: u64) -> PyResult<()> {
    let Some((_, counter)) = COUNTERS.iter().find(|(known, _)| *known == name) else {
        return Err(pyo3::exceptions::PyKeyError::new_err(name.to_owned()));
    };
    arena(py)?.count(*counter, n);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn limits_with_and_without_unit() {
        assert_eq!(parse_bytes("123"), Some(123));
        assert_eq!(parse_bytes(" 2G "), Some(2 << 30));
        assert_eq!(parse_bytes("1.5m"), Some(3 << 19));
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        for wrong in ["", "G", "-1", "0", "1e30", "many", "1X"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}

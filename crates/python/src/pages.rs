//! Pages that a forked process copies when it writes to them; see `breakeven_shm::pages`.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::ops::Range;

/// Ranges of addresses whose pages of private writable memory this process shares with no other. Raises OSError where
/// the kernel does not tell.
#[pyfunction]
pub(crate) fn own_pages() -> PyResult<Vec<(usize, usize)>> {
    let ranges = breakeven_shm::pages::own_pages().map_err(PyOSError::new_err)?;
    Ok(ranges.into_iter().map(|range| (range.start, range.end)).collect())
}

/// Makes the pages in these ranges this process's own, as a write to each would; passes over what is not mapped. Raises
/// OSError where the kernel does not know how (before 5.14).
#[pyfunction]
pub(crate) fn make_own(ranges: Vec<(usize, usize)>) -> PyResult<()> {
    let ranges: Vec<Range<usize>> = ranges.into_iter().map(|(start, end)| start..end).collect();
    breakeven_shm::pages::make_own(&ranges).map_err(PyOSError::new_err)
}

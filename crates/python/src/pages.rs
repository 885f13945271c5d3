//! Pages that a forked process copies when it writes to them; see `breakeven_shm::pages`.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::ops::Range;

/// Ranges of addresses whose pages of private writable memory this process shares with no other. Raises OSError where
/// the kernel does not tell.
#[pyfunction]
pub(crate) fn own_pages() -> PyResult<Vec<(usize, usize)>> {
    let ranges = breakeven_shm::pages::own_pages().map_err(PyOSError::new_err)?;
    Ok(ranges.into_iter().map(|range| (range.start, range.end)).collect())
}

/// Makes the pages in these ranges this process's own, as a write to each would; passes over what is not mapped.
///
/// `ranges`: start and end of each as 8 bytes, the machine's byte order: objects would have to be copied first to be
/// read. Raises OSError where the kernel does not know how (before 5.14), and ValueError for half a range.
#[pyfunction]
pub(crate) fn make_own(ranges: &[u8]) -> PyResult<()> {
    let (pairs, rest) = ranges.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err("ranges are pairs of 8 bytes each"));
    }
    let ranges: Vec<Range<usize>> = pairs
        .iter()
        .map(|pair| {
            let [start, end] = [0, 8].map(|at| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&pair[at..at + 8]);
                u64::from_ne_bytes(bytes) as usize
            });
            start..end
        })
        .collect();
    breakeven_shm::pages::make_own(&ranges).map_err(PyOSError::new_err)
}

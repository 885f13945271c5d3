//! On which CPU a process wakes up; see `breakeven_shm::keep_apart`.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Keeps the sleeping process `pid` off this thread's CPU, if nothing else runs on this machine; says whether it did.
/// The process then has to give itself back the CPUs that it had. Raises OSError if there is no such process.
#[pyfunction]
pub(crate) fn keep_apart(pid: u32) -> PyResult<bool> {
    breakeven_shm::keep_apart(pid)
        .map_err(|error| PyOSError::new_err((error.raw_os_error(), std::io::Error::from(error).to_string())))
}

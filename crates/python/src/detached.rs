//! Starting a program that is nobody's child; see `breakeven_shm::start_detached`.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// Starts the program at `path` so that `wait` and SIGCHLD do not show it to this process; returns its pid.
///
/// It gets `descriptors[i]` as descriptor `i` and no other, and starts with all signals blocked. Raises OSError, also
/// where the program cannot be executed, and ValueError for a string with a null byte.
#[pyfunction]
pub(crate) fn start_detached(
    py: Python<'_>,
    path: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    descriptors: Vec<RawFd>,
) -> PyResult<u32> {
    let strings = |values: Vec<Vec<u8>>| -> PyResult<Vec<CString>> { values.into_iter().map(string).collect() };
    let path = string(path)?;
    let (arguments, environment) = (strings(arguments)?, strings(environment)?);
    let started = py.detach(|| {
        let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
        let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
        breakeven_shm::start_detached(&path, &arguments, &environment, &descriptors)
    });
    started.map_err(|error| {
        PyOSError::new_err((error.raw_os_error(), std::io::Error::from(error).to_string(), path.to_bytes().to_vec()))
    })
}

fn string(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes)
        .map_err(|_| PyValueError::new_err("a program's path, arguments and environment hold no null byte"))
}

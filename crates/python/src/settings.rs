//! Settings of this process.

use core::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const AUTO: u8 = 0;
const NEVER: u8 = 1;
const ALWAYS: u8 = 2;

static MAIN_BY_VALUE: AtomicU8 = AtomicU8::new(AUTO);

/// Says when functions and classes of `__main__` are pickled by value (with cloudpickle) although pickle could name them.
///
/// `"auto"`: in an interactive interpreter or notebook, whose `__main__` no other process can import. `"never"`, `"always"`.
/// What pickle cannot name at all (lambdas, closures, local classes) goes by value in every mode.
#[pyfunction]
pub(crate) fn set_pickle_mode(main_by_value: &str) -> PyResult<()> {
    let mode = match main_by_value {
        "auto" => AUTO,
        "never" => NEVER,
        "always" => ALWAYS,
        other => {
            return Err(PyValueError::new_err(format!(
                "main_by_value must be 'auto', 'never' or 'always', not {other:?}"
            )));
        }
    };
    MAIN_BY_VALUE.store(mode, Ordering::Relaxed);
    Ok(())
}

/// Whether a pickle that names something of `__main__` is to be made again, by value.
pub(crate) fn main_by_value(_py: Python<'_>) -> bool {
    match MAIN_BY_VALUE.load(Ordering::Relaxed) {
        NEVER => false,
        ALWAYS => true,
        // `sys.ps1` exists exactly in interactive interpreters, IPython and Jupyter included.
        // SAFETY: attached (witnessed by the argument); the result is borrowed or null, and only compared.
        _ => !unsafe { pyo3::ffi::PySys_GetObject(c"ps1".as_ptr()) }.is_null(),
    }
}

//! The analysis of a recording, for the commands and the notebook.

use breakeven_trace::Recording;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Explains a recording: the report as JSON. ValueError for bytes that are no recording.
#[pyfunction]
pub(crate) fn analyze(py: Python<'_>, recording: &[u8]) -> PyResult<String> {
    let recording = Recording::from_bytes(recording).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(py.detach(|| breakeven_trace::export::json::write(&breakeven_trace::analyze(&recording))))
}

//! The analysis of a recording, for the commands and the notebook.

use breakeven_trace::report::FixKind;
use breakeven_trace::{Cause, Recording, words};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// Explains a recording: the report as JSON. ValueError for bytes that are no recording.
#[pyfunction]
pub(crate) fn analyze(py: Python<'_>, recording: &[u8]) -> PyResult<String> {
    let recording = Recording::from_bytes(recording).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(py.detach(|| breakeven_trace::export::json::write(&breakeven_trace::analyze(&recording))))
}

/// What causes and kinds of change are called: two dicts from their names.
#[pyfunction]
pub(crate) fn report_words(py: Python<'_>) -> PyResult<(Bound<'_, PyDict>, Bound<'_, PyDict>)> {
    let causes = Cause::ALL.iter().map(|cause| (cause.name(), words::cause(*cause)));
    let fixes = FixKind::ALL.iter().map(|kind| (kind.name(), words::fix(*kind)));
    Ok((causes.into_py_dict(py)?, fixes.into_py_dict(py)?))
}

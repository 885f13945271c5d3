//! What `breakeven why` shows, made of a report or a recording by crates/trace.

use breakeven_trace::export::{html, json, perfetto as trace_events};
use breakeven_trace::{Recording, Report};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn report_of(text: &str) -> PyResult<Report> {
    json::read(text).map_err(PyValueError::new_err)
}

fn recording_of(bytes: &[u8]) -> PyResult<Recording> {
    Recording::from_bytes(bytes).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The report (JSON) as one HTML page. `recording`: bytes of a recording, whose tasks then stand in the timeline.
#[pyfunction]
#[pyo3(signature = (report, recording=None))]
pub(crate) fn render_html(py: Python<'_>, report: &str, recording: Option<&[u8]>) -> PyResult<String> {
    let report = report_of(report)?;
    py.detach(|| {
        let recording = recording.map(recording_of).transpose()?;
        Ok(html::render(&report, recording.as_ref()))
    })
}

/// The recording as trace events in JSON, for ui.perfetto.dev.
#[pyfunction]
pub(crate) fn perfetto(py: Python<'_>, recording: &[u8]) -> PyResult<String> {
    py.detach(|| Ok(trace_events::write(&recording_of(recording)?)))
}

/// The JSON form of a report, checked: what is missing or of the wrong type raises ValueError; unknown fields are dropped.
#[pyfunction]
pub(crate) fn read_report(text: &str) -> PyResult<String> {
    Ok(json::write(&report_of(text)?))
}

//! Requests to a manager, as its server gets them.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use breakeven_shm::trace;
use breakeven_trace::{Record, RecordKind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::call::{call, call1};
use super::hook::quiet;
use super::{cost, intern as intern_string, open_record};

thread_local! {
    /// The request that the thread carries out: its begin (0: none), its method's name and its number.
    static REQUEST: Cell<(u64, u32, u64)> = const { Cell::new((0, 0, 0)) };
}

/// Stands in the place of the connection by which a manager's server talks to a proxy. What lies between a request that was
/// received and the answer that is sent is the carrying out.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct ServedConnection {
    connection: Py<PyAny>,
    object: u64,
    /// The number of the last request, as the client counts it.
    requests: AtomicU64,
}

#[pymethods]
impl ServedConnection {
    #[new]
    fn new(connection: Py<PyAny>, object: u64, client: u64) -> Self {
        ServedConnection { connection, object, requests: AtomicU64::new(client) }
    }

    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let request = call(&self.connection.bind(py).getattr(intern!(py, "recv"))?, &PyTuple::empty(py), None)?;
        if let Some(writer) = trace::writer() {
            let entered = trace::monotonic_ns();
            let link = self.requests.fetch_add(1, Relaxed) + 1;
            let named = || {
                let request = request.cast::<PyTuple>()?;
                intern_string(writer, request.get_item(1)?.cast::<PyString>()?)
            };
            let name = quiet(py, writer, named())?.unwrap_or(0);
            let begin = trace::monotonic_ns();
            writer.open(&open_record(writer, RecordKind::Serve, begin, self.object, link, 0, name).to_words());
            REQUEST.set((begin, name, link));
            cost(RecordKind::Serve.code(), entered, begin, begin, false);
        }
        Ok(request)
    }

    fn send<'py>(&self, py: Python<'py>, answer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (begin, name, link) = REQUEST.take();
        let outcome = call1(&self.connection.bind(py).getattr(intern!(py, "send"))?, [answer.clone()]);
        if begin != 0
            && let Some(writer) = trace::writer()
        {
            let record = open_record(writer, RecordKind::Serve, begin, self.object, link, 0, name);
            writer.push(&Record { end: trace::monotonic_ns(), ..record }.to_words());
            writer.close();
        }
        outcome
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.connection.bind(py).getattr(name)
    }
}

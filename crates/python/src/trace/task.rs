//! Tasks, as workers get them.

use breakeven_shm::trace;
use breakeven_trace::{Flags, Record, RecordKind};
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::call::call;
use super::hook::{context, enter_program, executor_link, failure, job_link, leave_program, quiet};
use super::{WORTH_A_RECORD, cost, intern as intern_string, open_record, type_name};

/// Stands in the place of the queue that a worker takes its tasks from; each comes with a function that records it.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct TaskSource {
    queue: Py<PyAny>,
    get: Py<PyAny>,
    object: u64,
    /// The pool's helper that is recognised by identity, and must stay what it is.
    untouched: Option<Py<PyAny>>,
}

#[pymethods]
impl TaskSource {
    #[new]
    #[pyo3(signature = (queue, object, untouched=None))]
    fn new(py: Python<'_>, queue: Py<PyAny>, object: u64, untouched: Option<Py<PyAny>>) -> PyResult<Self> {
        let get = queue.bind(py).getattr("get")?.unbind();
        Ok(TaskSource { queue, get, object, untouched })
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let task = call(self.get.bind(py), args, kwargs)?;
        let Some(writer) = trace::writer() else { return Ok(task) };
        let got = trace::monotonic_ns();
        let wrapped = self.wrap(py, &task);
        let task = quiet(py, writer, wrapped)?.flatten().unwrap_or(task);
        cost(0, got, got, got, false);
        Ok(task)
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.queue.bind(py).getattr(name)
    }
}

impl TaskSource {
    /// The task to give to the worker instead; `None`: this very one.
    fn wrap<'py>(&self, py: Python<'py>, task: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Ok(tuple) = task.cast_exact::<PyTuple>() {
            if tuple.len() != 5 {
                return Ok(None);
            }
            let function = tuple.get_item(2)?;
            let Some(link) = job_link(&tuple.get_item(0)?, &tuple.get_item(1)?) else { return Ok(None) };
            if self.untouched.as_ref().is_some_and(|untouched| function.is(untouched)) {
                return Ok(None);
            }
            let call = Bound::new(py, TaskCall { function: function.unbind(), object: self.object, link })?;
            let items =
                [tuple.get_item(0)?, tuple.get_item(1)?, call.into_any(), tuple.get_item(3)?, tuple.get_item(4)?];
            return Ok(Some(PyTuple::new(py, items)?.into_any()));
        }
        if !task.is_none()
            && let Some(function) = task.getattr_opt(intern!(py, "fn"))?
        {
            let link = executor_link(&task.getattr(intern!(py, "work_id"))?);
            let call = Bound::new(py, TaskCall { function: function.unbind(), object: self.object, link })?;
            task.setattr(intern!(py, "fn"), call)?;
        }
        Ok(None)
    }
}

/// A task's function.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct TaskCall {
    function: Py<PyAny>,
    object: u64,
    link: u64,
}

#[pymethods]
impl TaskCall {
    #[new]
    fn new(function: Py<PyAny>, object: u64, link: u64) -> Self {
        TaskCall::of(function, object, link)
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.function.bind(py).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.function.bind(py).repr()?.to_string_lossy().into_owned())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // Sent on, it is the program's function.
        let identity = py.import("breakeven._why.hooks")?.getattr("identity")?;
        Ok(PyTuple::new(py, [identity, PyTuple::new(py, [&self.function])?.into_any()])?.into_any())
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        let Some(writer) = trace::writer() else { return call(function, args, kwargs) };
        let entered = trace::monotonic_ns();
        let described = describe(function, args).and_then(|(name, items)| Ok((intern_string(writer, &name)?, items)));
        let (name, items) = quiet(py, writer, described)?.unwrap_or((0, 1));
        let object = if self.object == 0 { context() } else { self.object };
        let cpu = trace::proc::thread_cpu_ns();
        let begin = trace::monotonic_ns();
        let mut record = open_record(writer, RecordKind::Task, begin, object, self.link, 0, name);
        writer.open(&record.to_words());
        let placed = enter_program();
        let outcome = call(function, args, kwargs);
        leave_program(placed);
        record.end = trace::monotonic_ns();
        record.cpu = trace::proc::thread_cpu_ns().saturating_sub(cpu);
        record.value = items;
        if let Err(error) = &outcome {
            record.flags = match failure(py, error) {
                Flags::TIMED_OUT => Flags::FAILED, // the task's own business
                flags => flags,
            };
        }
        if let Some(writer) = trace::writer() {
            record.thread = writer.thread();
            if record.thread != 0 {
                writer.push(&record.to_words());
            }
            writer.close();
        }
        cost(RecordKind::Task.code(), entered, begin, record.end, false);
        outcome
    }
}

impl TaskCall {
    pub(super) fn of(function: Py<PyAny>, object: u64, link: u64) -> Self {
        TaskCall { function, object, link }
    }
}

/// The name of what a task runs, and how many items are in it.
fn describe<'py>(function: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<(Bound<'py, PyString>, u64)> {
    let py = function.py();
    let own = plain_name_of(function)?;
    let text = own.to_string_lossy();
    match text.as_ref() {
        "mapstar" | "starmapstar" if args.len() == 1 => {
            let pair = args.get_item(0)?;
            let pair = pair.cast::<PyTuple>()?;
            Ok((name_of(&pair.get_item(0)?)?, pair.get_item(1)?.len()? as u64))
        }
        "_process_chunk" => {
            let mapped = match function.getattr_opt(intern!(py, "args"))? {
                Some(bound) => bound.cast_into::<PyTuple>()?.get_item(0)?,
                None => args.get_item(0)?,
            };
            let chunk = args.get_item(args.len().saturating_sub(1))?;
            Ok((name_of(&mapped)?, chunk.len()? as u64))
        }
        // joblib's, which holds a list of calls.
        "BatchedCalls" | "_TracebackCapturingWrapper" => {
            let items = function.getattr_opt(intern!(py, "items"))?;
            match items.and_then(|items| items.cast_into::<PyList>().ok()) {
                Some(items) if !items.is_empty() => {
                    let first = items.get_item(0)?;
                    let called = first.get_item(0)?;
                    Ok((name_of(&called)?, items.len() as u64))
                }
                _ => Ok((own.clone(), 1)),
            }
        }
        _ => Ok((own.clone(), 1)),
    }
}

/// A function's name as its author would say it.
pub(super) fn name_of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let py = function.py();
    let name = plain_name_of(function)?;
    // An executor's map wraps the program's function twice: its own helper is given it.
    if name == "_process_chunk"
        && let Some(args) = function.getattr_opt(intern!(py, "args"))?
        && let Ok(given) = args.get_item(0)
    {
        return plain_name_of(&given);
    }
    Ok(name)
}

/// The name of a function, or of what a partial calls.
fn plain_name_of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let py = function.py();
    let mut function = function.clone();
    let mut partial = 0;
    while partial < 8
        && function.getattr_opt(intern!(py, "__qualname__"))?.is_none()
        && let Some(inner) = function.getattr_opt(intern!(py, "func"))?
    {
        function = inner;
        partial += 1;
    }
    match function.getattr_opt(intern!(py, "__qualname__"))? {
        Some(name) => Ok(name.cast_into()?),
        None => Ok(function.get_type().qualname()?),
    }
}

/// The program's own iterator, as a pool gets it: each item that takes long to make is recorded.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct ProducedItems {
    iterator: Py<PyAny>,
    next: Py<PyAny>,
    object: u64,
}

#[pymethods]
impl ProducedItems {
    #[new]
    fn new(iterator: Py<PyAny>, object: u64) -> PyResult<Self> {
        let next = Python::attach(|py| iterator.bind(py).getattr(intern!(py, "__next__")).map(Bound::unbind))?;
        Ok(ProducedItems { iterator, next, object })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = self.next.bind(py);
        let none = PyTuple::empty(py);
        let begin = trace::monotonic_ns();
        if let Some(writer) = trace::writer() {
            writer.open(&open_record(writer, RecordKind::Produce, begin, self.object, 0, 0, 0).to_words());
        }
        let outcome = call(next, &none, None);
        if let Some(writer) = trace::writer() {
            let end = trace::monotonic_ns();
            if end - begin >= WORTH_A_RECORD {
                let kind = self.iterator.bind(py).get_type();
                let name = quiet(py, writer, type_name(writer, &kind))?.unwrap_or(0);
                let record = open_record(writer, RecordKind::Produce, begin, self.object, 0, 0, name);
                writer.push(&Record { end, ..record }.to_words());
            }
            writer.close();
        }
        match outcome {
            Ok(item) => Ok(Some(item)),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

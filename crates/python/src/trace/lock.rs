//! Locks of `multiprocessing`.
//!
//! A lock is first tried without waiting: a wait is recorded only if there was one, and a lock that was free is only
//! counted. How long it was held is recorded if that was long, or somebody had waited for it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use breakeven_shm::trace;
use breakeven_trace::{Flags, Record, RecordKind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::call;
use super::{WORTH_A_RECORD, open_record};

/// Stands between a lock of `multiprocessing.synchronize` and its semaphore.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct TracedLock {
    acquire: Py<PyAny>,
    release: Py<PyAny>,
    object: u64,
    name: u32,
    /// Whether one thread holds it at a time, so that holding it means something.
    exclusive: bool,
    /// When it was taken by the thread of this process that has it now; 0: not, or not worth knowing.
    since: AtomicU64,
    /// Set if that thread had to wait.
    waited: AtomicU64,
}

#[pymethods]
impl TracedLock {
    /// `semaphore`: the standard library's `_multiprocessing.SemLock`. `name`: the number of the class's name.
    #[new]
    fn new(semaphore: &Bound<'_, PyAny>, object: u64, name: u32, exclusive: bool) -> PyResult<Self> {
        Ok(TracedLock {
            acquire: semaphore.getattr("acquire")?.unbind(),
            release: semaphore.getattr("release")?.unbind(),
            object,
            name,
            exclusive,
            since: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        })
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn acquire<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let acquire = self.acquire.bind(py);
        let Some(writer) = trace::writer() else { return call(acquire, args, kwargs) };
        if super::hook::is_inside() {
            // Part of a longer wait, which is recorded as such.
            let outcome = call(acquire, args, kwargs);
            if let Ok(taken) = &outcome
                && taken.is_truthy()?
            {
                self.note(false);
            }
            return outcome;
        }
        let waits = match args.len() {
            0 => kwargs.is_none_or(|kwargs| kwargs.is_empty()),
            _ => true,
        };
        if waits {
            // What raises for a wrong argument raises below.
            let taken = acquire.call1((false,))?;
            if taken.is_truthy()? {
                writer.count_free_lock();
                self.note(false);
                return Ok(taken);
            }
        }
        let begin = trace::monotonic_ns();
        let mut record = open_record(writer, RecordKind::LockWait, begin, self.object, 0, 0, self.name);
        writer.open(&record.to_words());
        let outcome = call(acquire, args, kwargs);
        let Some(writer) = trace::writer() else { return outcome };
        record.end = trace::monotonic_ns();
        match &outcome {
            Ok(taken) if taken.is_truthy()? => self.note(true),
            Ok(_) => record.flags = Flags::TIMED_OUT,
            Err(_) => record.flags = Flags::FAILED,
        }
        if record.end - begin > 1000 || record.flags != Flags::default() {
            writer.push(&record.to_words());
        } else {
            writer.count_free_lock();
        }
        writer.close();
        outcome
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn release<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let since = self.since.swap(0, Relaxed);
        if since != 0
            && let Some(writer) = trace::writer()
        {
            let now = trace::monotonic_ns();
            let waited = self.waited.swap(0, Relaxed) != 0;
            if now > since && (waited || now - since >= WORTH_A_RECORD) {
                let record = Record {
                    end: now,
                    ..open_record(writer, RecordKind::LockHold, since, self.object, 0, 0, self.name)
                };
                writer.push(&record.to_words());
            }
        }
        call(self.release.bind(py), args, kwargs)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.acquire(py, &PyTuple::empty(py), None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py, &PyTuple::empty(py), None).map(|_| ())
    }
}

impl TracedLock {
    fn note(&self, waited: bool) {
        if self.exclusive {
            self.since.store(trace::monotonic_ns(), Relaxed);
            self.waited.store(u64::from(waited), Relaxed);
        }
    }
}

/// `SemLock.__enter__` and `__exit__`, which look past the instance's `acquire` and `release`.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct LockMethod {
    original: Py<PyAny>,
    exit: bool,
}

#[pymethods]
impl LockMethod {
    #[new]
    fn new(original: Py<PyAny>, exit: bool) -> Self {
        LockMethod { original, exit }
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let Some(instance) = instance else { return Ok(slf.clone().into_any()) };
        let name = if this.exit { intern!(py, "__exit__") } else { intern!(py, "__enter__") };
        match instance.getattr_opt(intern!(py, "_breakeven_lock"))? {
            Some(lock) => lock.getattr(name),
            // Made before the recording began.
            None => this.original.bind(py).call_method1(intern!(py, "__get__"), (instance,)),
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(self.original.bind(py), args, kwargs)
    }
}

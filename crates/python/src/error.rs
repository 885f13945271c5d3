//! Errors of the layers below, as Python exceptions. All classes are Python's own or defined in `breakeven._errors`, so
//! that each can be pickled and sent from a worker to its parent.

use breakeven_shm::{AllocError, AttachError, CreateError, OpenError};
use breakeven_wire::WireError;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::statics::statics;

fn raise(class: &Py<PyAny>, py: Python<'_>, message: String) -> PyErr {
    match class.bind(py).call1((message,)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// `queue.Full`.
pub(crate) fn full(py: Python<'_>) -> PyErr {
    match statics(py).queue_full.bind(py).call0() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// `queue.Empty`.
pub(crate) fn empty(py: Python<'_>) -> PyErr {
    match statics(py).queue_empty.bind(py).call0() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A message that cannot be read.
#[cold]
pub(crate) fn corrupt(py: Python<'_>, error: WireError) -> PyErr {
    raise(&statics(py).corrupt_message, py, error.to_string())
}

/// No memory for a message.
#[cold]
pub(crate) fn memory(py: Python<'_>, error: &AllocError) -> PyErr {
    raise(&statics(py).memory_limit_error, py, error.to_string())
}

/// The publisher has freed the object.
#[cold]
pub(crate) fn stale(py: Python<'_>) -> PyErr {
    raise(
        &statics(py).stale_blob,
        py,
        "the published object is gone: the process that published it has dropped it or has ended".to_owned(),
    )
}

/// The channel was closed here.
#[cold]
pub(crate) fn closed() -> PyErr {
    PyValueError::new_err("Queue is closed")
}

/// Shared memory could not be set up.
#[cold]
pub(crate) fn create(error: &CreateError) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// A descriptor could not be used.
#[cold]
pub(crate) fn attach(error: &AttachError) -> PyErr {
    match error {
        AttachError::NotAnArena => PyValueError::new_err(error.to_string()),
        AttachError::Create(error) => create(error),
    }
}

/// A channel or blob could not be opened.
#[cold]
pub(crate) fn open(error: &OpenError) -> PyErr {
    match error {
        OpenError::Gone => PyValueError::new_err(error.to_string()),
        OpenError::Create(error) => create(error),
    }
}

//! What must be done around a fork. `breakeven/__init__.py` registers these with `os.register_at_fork`, once.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::enter;

/// Before a fork, in the parent: keeps a place for the child, so that what it inherits stays alive until it has
/// registered itself.
#[pyfunction]
pub(crate) fn fork_before() {
    breakeven_shm::before_fork();
}

/// After a fork, in the parent.
#[pyfunction]
pub(crate) fn fork_parent() {
    breakeven_shm::after_fork_in_parent();
}

/// After a fork, in the child.
#[pyfunction]
pub(crate) fn fork_child() {
    enter::after_fork_in_child();
    breakeven_shm::after_fork_in_child();
}

/// Right after a fork, in the parent, by the thread that forked: the child's process number. A child that is killed before
/// it could register itself is then noticed at once.
#[pyfunction]
pub(crate) fn note_child(pid: u32) {
    breakeven_shm::note_child(pid);
}

/// From now on this process ends, with exit code 1 and without any clean-up, within moments after its parent has ended in
/// whatever way; at once if that has happened already. Also in the midst of native code that holds the interpreter's lock.
/// To be called by the main thread. It takes the highest real-time signal that nobody has a handler for; children do not
/// inherit the watch, and neither does another program that is executed.
///
/// `parent`: process number of the parent. `pipe`: descriptor of a pipe whose other end only that process holds; needed
/// where somebody else (a fork server) started this process on its behalf, without effect otherwise.
///
/// Raises ValueError if the parent did not start this process and there is no pipe, OSError if the kernel refuses or all
/// signals are taken.
#[pyfunction]
#[pyo3(signature = (parent, pipe=None))]
pub(crate) fn end_with_parent(parent: u32, pipe: Option<i32>) -> PyResult<()> {
    breakeven_shm::end_with_parent(parent, pipe).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        _ => PyOSError::new_err(error),
    })
}

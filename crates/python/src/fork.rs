//! What must be done around a fork. `breakeven/__init__.py` registers these with `os.register_at_fork`, once.

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

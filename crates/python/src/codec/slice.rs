//! A part of a list that travels as if it were a list of its own.

use pyo3::exceptions::{PyIndexError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PySlice};
use pyo3::{PyTraverseError, PyVisit};

/// `list[start:stop]` without the copy, for messages: a copy of a long list touches every object in it, which in a
/// process that has forked costs a page fault for each page of them.
///
/// It has a fixed length; if its list becomes shorter, using it raises RuntimeError. What arrives at the other end of a
/// channel is a list (or, with `get_lazily`, `Items`). Channels take it as an item of a tuple, or as the whole message; it cannot be pickled.
///
/// Tracked by the garbage collector, which breaks a cycle through it by clearing the list; hence `__traverse__` without
/// `__clear__`.
#[pyclass(frozen, sequence, module = "breakeven._native")]
pub(crate) struct Slice {
    list: Py<PyList>,
    start: usize,
    stop: usize,
}

#[pymethods]
impl Slice {
    /// All of `list`.
    #[new]
    fn new(list: Bound<'_, PyList>) -> PyResult<Self> {
        if !list.is_exact_instance_of::<PyList>() {
            return Err(PyTypeError::new_err("a Slice is made of a list, not of a subclass"));
        }
        let stop = list.len();
        Ok(Slice { list: list.unbind(), start: 0, stop })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.list)
    }

    fn __len__(&self) -> usize {
        self.stop - self.start
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let part = slice.indices(self.__len__() as isize)?;
            if part.step != 1 {
                return self.items(py)?.as_any().get_item(index);
            }
            let start = self.start + part.start as usize;
            let part = Slice { list: self.list.clone_ref(py), start, stop: start + part.slicelength };
            return Ok(Bound::new(py, part)?.into_any());
        }
        let index: isize = index.extract()?;
        let len = self.__len__() as isize;
        let index = if index < 0 { index + len } else { index };
        if index < 0 || index >= len {
            return Err(PyIndexError::new_err("Slice index out of range"));
        }
        self.list.bind(py).get_item(self.start + index as usize)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.items(py)?.try_iter()
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.Slice of {} items>", self.__len__())
    }
}

impl Slice {
    /// The list and the range of its items; an error if it has become too short for it.
    pub(super) fn parts<'py>(&self, py: Python<'py>) -> PyResult<(&Bound<'py, PyList>, core::ops::Range<usize>)> {
        let list = self.list.bind(py);
        if list.len() < self.stop {
            return Err(PyRuntimeError::new_err("the list became shorter while its items were being sent"));
        }
        Ok((list, self.start..self.stop))
    }

    /// The items as a list.
    pub(super) fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let (list, range) = self.parts(py)?;
        Ok(list.get_slice(range.start, range.end))
    }
}

//! Views on blocks: where received buffers live.

use std::sync::Arc;

use core::ffi::c_int;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::memory::Storage;

/// Some bytes of a block that this process received. Supports the buffer protocol, writable: the bytes are the
/// receiver's own. The block is given back when the last view of it dies, in whatever order they go.
///
/// It holds no Python object, hence no `__traverse__`: it cannot be part of a cycle.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct BlockView {
    storage: Arc<Storage>,
    offset: usize,
    len: usize,
}

impl BlockView {
    /// A view of `bytes`, which must be part of `storage`.
    pub(crate) fn part<'py>(py: Python<'py>, storage: &Arc<Storage>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let all = storage.bytes().as_ptr_range();
        let (start, end) = (bytes.as_ptr(), bytes.as_ptr_range().end);
        if bytes.is_empty() || start < all.start || end > all.end {
            if bytes.is_empty() {
                return Ok(Bound::new(py, BlockView { storage: storage.clone(), offset: 0, len: 0 })?.into_any());
            }
            return Err(PyBufferError::new_err("a view must lie inside its block"));
        }
        let offset = start as usize - all.start as usize;
        Ok(Bound::new(py, BlockView { storage: storage.clone(), offset, len: bytes.len() })?.into_any())
    }
}

#[pymethods]
impl BlockView {
    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.BlockView of {} bytes>", self.len)
    }

    // SAFETY (of the method): called by the interpreter with a view to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: offset and length were checked against the storage when the view was made, and storage neither moves
        // nor shrinks. `PyBuffer_FillInfo` makes the buffer hold `slf`, which holds the storage, so the memory outlives
        // the export; that is also why there is nothing to do in `__releasebuffer__`. Writes through the buffer are the
        // only access to these bytes from now on: the codec has read what it needs, and pieces do not overlap.
        let result = unsafe {
            let start = this.storage.start().add(this.offset);
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), this.len as isize, 0, flags)
        };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

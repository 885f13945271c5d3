//! The items of a long list, made while somebody iterates.

use core::ops::Range;
use std::sync::Arc;

use breakeven_wire::{Packed, Rows};
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use super::decode;
use super::memory::Storage;
use crate::error;
use crate::statics::statics;

/// How many items are made at a time: few enough to stay in the nearest cache, and below the number of new containers
/// that starts the garbage collector.
const PART: usize = 256;

/// What the columns of an [`Items`] mean.
#[derive(Clone, Copy)]
pub(super) enum Header {
    Packed(Packed),
    Rows(Rows),
}

/// A long list of numbers or rows as it came: its items are made in small parts while somebody iterates, and may die
/// before the next part is made. So a worker that goes through a hundred thousand lists needs memory for some hundred.
///
/// It holds no Python object, hence no `__traverse__`: it cannot be part of a cycle.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Items {
    storage: Arc<Storage>,
    /// Where the columns are in the storage.
    range: Range<usize>,
    header: Header,
    len: usize,
}

#[pymethods]
impl Items {
    fn __len__(&self) -> usize {
        self.len
    }

    /// Each iteration makes the items anew.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyIterator>> {
        let py = slf.py();
        let parts = Bound::new(py, Parts { items: slf.clone().unbind(), item: 0, element: 0 })?;
        // The interpreter's own iterators go through a part much faster than calls into this module would.
        statics(py).chain.bind(py).call1((parts,))?.try_iter()
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.Items: {}>", self.len)
    }
}

impl Items {
    /// Items whose columns are the `len` bytes from the start of `first` on, if these are part of one of the `blocks`.
    pub(super) fn over<'py>(
        py: Python<'py>,
        blocks: &[Arc<Storage>],
        header: Header,
        first: &[u8],
        len: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let count = match header {
            Header::Packed(packed) => packed.count,
            Header::Rows(rows) => rows.rows,
        };
        for storage in blocks {
            let all = storage.bytes();
            let Some(start) = (first.as_ptr() as usize).checked_sub(all.as_ptr() as usize) else { continue };
            if let Some(end) = start.checked_add(len).filter(|&end| end <= all.len()) {
                let len = usize::try_from(count).unwrap_or(usize::MAX);
                let items = Items { storage: storage.clone(), range: start..end, header, len };
                return Ok(Some(Bound::new(py, items)?.into_any()));
            }
        }
        Ok(None)
    }
}

/// The items of an [`Items`], part by part.
#[pyclass(module = "breakeven._native")]
struct Parts {
    items: Py<Items>,
    /// The first item of the next part.
    item: usize,
    /// The first element of its first row.
    element: usize,
}

#[pymethods]
impl Parts {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let items = self.items.get();
        if self.item >= items.len {
            return Ok(None);
        }
        let corrupt = |e| error::corrupt(py, e);
        let data = &items.storage.bytes()[items.range.clone()];
        let part = match items.header {
            Header::Packed(packed) => {
                let part = packed.items(data).map_err(corrupt)?.part(self.item, PART);
                decode::unpack(py, packed.sequence, part)?
            }
            Header::Rows(rows) => {
                let (lengths, elements) = rows.columns(data).map_err(corrupt)?;
                let lengths = lengths.part(self.item, PART);
                let elements = elements.part(self.element, usize::MAX);
                let last = self.item + lengths.rows() >= items.len;
                let (part, used) = decode::rows(py, rows, lengths, elements, last)?;
                self.element += used;
                part
            }
        };
        self.item += PART;
        Ok(Some(part))
    }
}

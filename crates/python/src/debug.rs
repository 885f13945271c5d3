//! The codec without shared memory, for tests.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::codec::{self, FillError, Heap, INLINE, Storage};

/// Encodes `obj`: tag, payload, blocks.
#[pyfunction]
pub(crate) fn _encode<'py>(obj: &Bound<'py, PyAny>) -> PyResult<(u16, Bound<'py, PyBytes>, Bound<'py, PyList>)> {
    let py = obj.py();
    let mut space = [0; INLINE];
    let mut outgoing = codec::encode(obj, &mut space, true)?;
    let mut blocks = outgoing.fill(py, &Heap);
    if matches!(blocks, Err(FillError::Changed)) {
        outgoing = codec::encode(obj, &mut space, false)?;
        blocks = outgoing.fill(py, &Heap);
    }
    let blocks = match blocks {
        Ok(blocks) => blocks,
        Err(FillError::Changed) => return Err(pyo3::exceptions::PyRuntimeError::new_err("changed while encoded")),
        Err(FillError::Alloc(error)) => return Err(pyo3::exceptions::PyMemoryError::new_err(error.to_string())),
    };
    let blocks = PyList::new(py, blocks.iter().map(|block| PyBytes::new(py, block)))?;
    Ok((outgoing.tag, PyBytes::new(py, &space[..outgoing.payload]), blocks))
}

/// Decodes what `_encode` made, or anything else: garbage raises `CorruptMessage`.
#[pyfunction]
pub(crate) fn _decode<'py>(
    py: Python<'py>,
    tag: u16,
    payload: &[u8],
    blocks: Vec<Vec<u8>>,
) -> PyResult<Bound<'py, PyAny>> {
    codec::decode(py, tag, payload, blocks.into_iter().map(Storage::Heap).collect())
}

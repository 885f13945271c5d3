//! Published objects: encoded once, read by many.

use std::sync::Arc;

use breakeven_shm::{Arena, Blob as SharedBlob, OpenError, RootId};
use pyo3::prelude::*;

use crate::channel::fill;
use crate::codec::{self, INLINE, Storage};
use crate::{arena, error};

/// Device and inode of the arena's memory file, and the blob's name in it.
type Key = (u64, u64, u64);

/// An object that this process has published. It is freed when this handle dies and nobody reads it any more.
///
/// It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Blob {
    blob: Arc<SharedBlob>,
}

#[pymethods]
impl Blob {
    /// What `fetch` takes, in any process that shares this one's arena. Small: travels inside a message.
    #[getter]
    fn key(&self) -> Key {
        let (device, inode) = self.blob.arena().identity();
        (device, inode, self.blob.id().to_bits())
    }

    /// Bytes in shared memory.
    #[getter]
    fn nbytes(&self) -> usize {
        self.blob.total_len()
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.Blob of {} bytes>", self.blob.total_len())
    }
}

/// Encodes `obj` once into shared memory, for any number of readers. Raises what `Channel.put` raises, but `queue.Full`.
#[pyfunction]
pub(crate) fn publish(py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<Blob> {
    let arena = arena::arena(py)?;
    let mut space = [0; INLINE];
    let (tag, payload, blocks) = fill(py, &arena, obj, &mut space, None)??;
    let blob = SharedBlob::publish(&arena, tag, &space[..payload], blocks).map_err(|e| error::memory(py, &e))?;
    Ok(Blob { blob: Arc::new(blob) })
}

/// Decodes a published object, afresh at each call. Big buffers are copy-on-write views: writable, and what is written is
/// seen by nobody else. Raises `StaleBlob` if it is gone.
#[pyfunction]
pub(crate) fn fetch<'py>(py: Python<'py>, key: Key) -> PyResult<Bound<'py, PyAny>> {
    let (device, inode, id) = key;
    let arena = Arena::all().find(|arena| arena.identity() == (device, inode)).ok_or_else(|| error::stale(py))?;
    let or_stale = |e: OpenError| match e {
        OpenError::Gone => error::stale(py),
        OpenError::Create(_) => error::open(&e),
    };
    let blob = Arc::new(SharedBlob::open(&arena, RootId::from_bits(id)).map_err(or_stale)?);
    let blocks = (0..blob.block_count())
        .map(|nth| blob.view(nth).map(Storage::Private).map_err(or_stale))
        .collect::<PyResult<Vec<_>>>()?;
    codec::decode(py, blob.tag(), blob.payload(), blocks)
}

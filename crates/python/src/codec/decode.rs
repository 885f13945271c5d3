//! Message -> Python object.

use std::sync::Arc;

use breakeven_wire::{
    Blocks, Element, Kind, Message, Packed, PackedItems, PickleMessage, Reader, SPILLED, Sequence, Token, WireError,
};
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::anchor;
use super::memory::Storage;
use super::view::BlockView;
use crate::error;
use crate::statics::statics;

/// Lists from this length on keep the interpreter's memory warm: they take half a megabyte and more.
const ANCHOR_FROM: usize = 16 << 10;

/// Bytes from this length on are copied detached.
const COPY_DETACHED_FROM: usize = 256 << 10;

/// No blocks, as most messages have.
pub(crate) struct NoBlocks;

impl Blocks for NoBlocks {
    fn bytes(&self, _: u32) -> Option<&[u8]> {
        None
    }
}

/// The object in a message whose payload is all of it.
#[inline]
pub(crate) fn decode_inline<'py>(py: Python<'py>, tag: u16, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match Message::read(tag, payload, &NoBlocks).map_err(|e| error::corrupt(py, e))? {
        Message::Value(reader) => value(py, reader),
        Message::Raw(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Message::Pickle(pickle) => unpickle(py, &PyBytes::new(py, pickle.stream), None),
    }
}

/// How a value begins; None if the message is no value, or not all here.
#[inline]
pub(crate) fn first_token(tag: u16, payload: &[u8]) -> Option<Token<'_>> {
    match Message::read(tag, payload, &NoBlocks) {
        Ok(Message::Value(mut reader)) => reader.token().ok(),
        _ => None,
    }
}

/// The object in a message with blocks, which become the storage of its buffers or are given back.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    tag: u16,
    payload: &[u8],
    blocks: Vec<Storage>,
) -> PyResult<Bound<'py, PyAny>> {
    if blocks.is_empty() {
        return decode_inline(py, tag, payload);
    }
    // Shared by the views; with none, the last of this function's references gives the blocks back.
    let pickled = tag & !SPILLED == Kind::Pickle.tag();
    let keep = |block: Storage| Arc::new(if pickled { block.viewed() } else { block });
    let blocks: Vec<Arc<Storage>> = blocks.into_iter().map(keep).collect();
    let spans = Spans(&blocks);
    match Message::read(tag, payload, &spans).map_err(|e| error::corrupt(py, e))? {
        Message::Value(reader) => value(py, reader),
        Message::Raw(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Message::Pickle(pickle) => {
            let views = views(py, &pickle, &blocks)?;
            // A short stream came in the ring, whose record is gone when this returns: copy. A long one is in block 0:
            // a view of it keeps the block as long as anybody looks.
            let inside = payload.as_ptr_range().contains(&pickle.stream.as_ptr());
            if inside || pickle.stream.is_empty() {
                return unpickle(py, &PyBytes::new(py, pickle.stream), Some(views));
            }
            let stream = BlockView::part(py, &blocks[0], pickle.stream)?;
            unpickle(py, &stream, Some(views))
        }
    }
}

struct Spans<'a>(&'a [Arc<Storage>]);

impl Blocks for Spans<'_> {
    fn bytes(&self, index: u32) -> Option<&[u8]> {
        self.0.get(index as usize).map(|block| block.bytes())
    }
}

/// One view for each out-of-band buffer.
fn views<'py>(py: Python<'py>, pickle: &PickleMessage<'_>, blocks: &[Arc<Storage>]) -> PyResult<Bound<'py, PyTuple>> {
    let spans = Spans(blocks);
    let views = pickle
        .buffers()
        .map(|range| {
            let bytes = range.resolve(&spans).map_err(|e| error::corrupt(py, e))?;
            BlockView::part(py, &blocks[range.block as usize], bytes)
        })
        .collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, views)
}

/// Pickles of at least so many bytes are read with the cyclic garbage collector paused.
const PAUSE_FROM: usize = 64 << 10;

/// The cyclic garbage collector, switched off until this is dropped.
///
/// A long pickle makes containers by the ten thousand, none of which can be garbage yet; the collector, which is started
/// by their number, would look through all of them again and again. For half a million short lists that takes twice as
/// long as reading the pickle.
struct CollectorPause<'py> {
    was_enabled: bool,
    _attached: Python<'py>,
}

impl<'py> CollectorPause<'py> {
    fn new(py: Python<'py>) -> Self {
        // SAFETY: attached, as `py` says; only changes a flag.
        let was_enabled = unsafe { ffi::PyGC_Disable() } != 0;
        CollectorPause { was_enabled, _attached: py }
    }
}

impl Drop for CollectorPause<'_> {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: as in `new`.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Unpickles a stream that has no buffers beside it.
pub(crate) fn loads<'py>(py: Python<'py>, stream: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    unpickle(py, stream, None)
}

fn unpickle<'py>(
    py: Python<'py>,
    stream: &Bound<'py, PyAny>,
    views: Option<Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let statics = statics(py);
    let loads = statics.pickle_loads.as_ptr();
    let _pause = (stream.len()? >= PAUSE_FROM).then(|| CollectorPause::new(py));
    // SAFETY: a call with borrowed arguments that live until it returns; the keyword tuple names the last one.
    unsafe {
        let result = match views.filter(|views| !views.is_empty()) {
            None => {
                let arguments = [stream.as_ptr()];
                ffi::PyObject_Vectorcall(loads, arguments.as_ptr(), 1, core::ptr::null_mut())
            }
            Some(views) => {
                let arguments = [stream.as_ptr(), views.as_ptr()];
                ffi::PyObject_Vectorcall(loads, arguments.as_ptr(), 1, statics.buffers_keyword.as_ptr())
            }
        };
        Bound::from_owned_ptr_or_err(py, result)
    }
}

#[inline]
fn value<'py, B: Blocks + ?Sized>(py: Python<'py>, mut reader: Reader<'_, B>) -> PyResult<Bound<'py, PyAny>> {
    let object = item(py, &mut reader)?;
    reader.finish().map_err(|e| error::corrupt(py, e))?;
    Ok(object)
}

fn item<'py, B: Blocks + ?Sized>(py: Python<'py>, reader: &mut Reader<'_, B>) -> PyResult<Bound<'py, PyAny>> {
    let corrupt = |e: WireError| error::corrupt(py, e);
    let token = reader.token().map_err(corrupt)?;
    // SAFETY: in all arms, each call makes a new reference or returns null with an exception set; the pointers given to
    // the interpreter come from slices, with their lengths.
    let new = unsafe {
        match token {
            Token::Int(value) => new_int(value),
            Token::Str(text) => ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize),
            Token::Float(value) => ffi::PyFloat_FromDouble(value),
            Token::None => ffi::Py_NewRef(ffi::Py_None()),
            Token::Bool(value) => ffi::Py_NewRef(if value { ffi::Py_True() } else { ffi::Py_False() }),
            Token::Bytes(bytes) if bytes.len() >= COPY_DETACHED_FROM => return long_bytes(py, bytes),
            Token::Bytes(bytes) => ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize),
            Token::Tuple(len) => return sequence(py, reader, len, Sequence::Tuple),
            Token::List(len) => return sequence(py, reader, len, Sequence::List),
            Token::Dict(len) => {
                let dict = pyo3::types::PyDict::new(py);
                reader.enter().map_err(corrupt)?;
                for _ in 0..len {
                    let key = item(py, reader)?;
                    let value = item(py, reader)?;
                    dict.set_item(key, value)?;
                }
                reader.leave();
                return Ok(dict.into_any());
            }
            Token::WideInt(value) => return Ok(value.into_pyobject(py)?.into_any()),
            Token::Range(start, stop, step) => return statics(py).range.bind(py).call1((start, stop, step)),
            Token::Packed(packed, items) => return unpack(py, packed, items),
        }
    };
    // SAFETY: a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, new) }
}

/// Bytes that are copied without the interpreter's lock: into fresh memory that can take long.
fn long_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a new bytes object of that length, whose content the interpreter leaves to us.
    let object = unsafe {
        let new = ffi::PyBytes_FromStringAndSize(core::ptr::null(), bytes.len() as isize);
        Bound::from_owned_ptr_or_err(py, new)?
    };
    // SAFETY: an exact bytes object.
    let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) } as usize; // a number, since pointers do not pass `detach`
    py.detach(|| {
        // SAFETY: as many bytes as were asked for; nobody else knows the object yet, and `object` keeps it alive.
        unsafe { (start as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    });
    Ok(object)
}

/// A list or tuple that is being filled. The interpreter's own containers free whatever part was filled if it is dropped.
struct Filling<'py> {
    object: Bound<'py, PyAny>,
    slots: *mut *mut ffi::PyObject,
}

impl<'py> Filling<'py> {
    fn new(py: Python<'py>, len: usize, kind: Sequence) -> PyResult<Self> {
        let len = isize::try_from(len).map_err(|_| PyMemoryError::new_err(()))?;
        // SAFETY: new containers of `len` empty slots; the slot arrays of both stay where they are until the container
        // is handed out, which nobody does before `finish`.
        unsafe {
            let object = match kind {
                Sequence::List => ffi::PyList_New(len),
                Sequence::Tuple => ffi::PyTuple_New(len),
            };
            let object = Bound::from_owned_ptr_or_err(py, object)?;
            let slots = match kind {
                Sequence::List => (*object.as_ptr().cast::<ffi::PyListObject>()).ob_item,
                Sequence::Tuple => (&raw mut (*object.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast(),
            };
            Ok(Filling { object, slots })
        }
    }

    /// # Safety
    /// `index` is less than the length and is set for the first time; `item` is a new reference.
    #[inline]
    unsafe fn set(&mut self, index: usize, item: *mut ffi::PyObject) {
        // SAFETY: promised by the caller; the slot is empty, so nothing is overwritten.
        unsafe { *self.slots.add(index) = item };
    }
}

fn sequence<'py, B: Blocks + ?Sized>(
    py: Python<'py>,
    reader: &mut Reader<'_, B>,
    len: usize,
    kind: Sequence,
) -> PyResult<Bound<'py, PyAny>> {
    reader.enter().map_err(|e| error::corrupt(py, e))?;
    if kind == Sequence::Tuple && len == 0 {
        // The empty tuple is one object, and must not be written to.
        reader.leave();
        return Ok(PyTuple::empty(py).into_any());
    }
    let mut filling = Filling::new(py, len, kind)?;
    for index in 0..len {
        let item = item(py, reader)?;
        // SAFETY: each index once, below `len`.
        unsafe { filling.set(index, item.into_ptr()) };
    }
    reader.leave();
    Ok(filling.object)
}

fn unpack<'py>(py: Python<'py>, packed: Packed, items: PackedItems<'_>) -> PyResult<Bound<'py, PyAny>> {
    if items.is_empty() && packed.sequence == Sequence::Tuple {
        return Ok(PyTuple::empty(py).into_any());
    }
    let filling = Filling::new(py, items.len(), packed.sequence)?;
    match items {
        PackedItems::I8(items) => unpack_ints(py, filling, items),
        PackedItems::I16(items) => unpack_ints(py, filling, items),
        PackedItems::I32(items) => unpack_ints(py, filling, items),
        PackedItems::I64(items) => unpack_ints(py, filling, items),
        PackedItems::F64(items) => fill(py, filling, items, |item| {
            // SAFETY: a new reference or null with an exception.
            unsafe { ffi::PyFloat_FromDouble(f64::from_le_bytes(item)) }
        }),
    }
}

#[inline]
fn unpack_ints<'py, E: Element>(py: Python<'py>, filling: Filling<'py>, items: &[E]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a new reference or null with an exception.
    fill(py, filling, items, |item| unsafe { new_int(item.widen()) })
}

/// A new int, or null with an exception.
///
/// # Safety
/// The caller is attached.
#[inline]
unsafe fn new_int(value: i64) -> *mut ffi::PyObject {
    // SAFETY: promised by the caller.
    unsafe {
        match core::ffi::c_long::try_from(value) {
            Ok(value) => ffi::PyLong_FromLong(value), // the quicker one, up to 3.11
            Err(_) => ffi::PyLong_FromLongLong(value),
        }
    }
}

#[inline]
fn fill<'py, T: Copy>(
    py: Python<'py>,
    mut filling: Filling<'py>,
    items: &[T],
    make: impl Fn(T) -> *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    for (index, &item) in items.iter().enumerate() {
        let object = make(item);
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: each index once; the container was made with `items.len()` slots.
        unsafe { filling.set(index, object) };
    }
    if items.len() >= ANCHOR_FROM {
        // SAFETY: all slots were filled just now.
        unsafe { anchor::anchor(py, filling.slots, items.len()) };
    }
    Ok(filling.object)
}

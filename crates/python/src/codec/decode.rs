//! Message -> Python object.

use std::sync::Arc;

use breakeven_wire::{
    Blocks, Element, Kind, Message, PackedItems, PickleMessage, Reader, RowKind, RowLengths, Rows, SPILLED, Sequence,
    Token, WireError, flag_from_byte,
};
use pyo3::exceptions::{PyMemoryError, PyUnicodeDecodeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::anchor;
use super::items::{Header, Items};
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

/// Lists from this length on may come as [`Items`].
const LAZY_FROM: usize = 512;

/// As [`decode`], but long slices of numbers or rows that are items of a tuple come as [`Items`].
pub(crate) fn decode_lazily<'py>(
    py: Python<'py>,
    tag: u16,
    payload: &[u8],
    blocks: Vec<Storage>,
) -> PyResult<Bound<'py, PyAny>> {
    if blocks.is_empty() || tag != Kind::Value.tag() {
        return decode(py, tag, payload, blocks);
    }
    let corrupt = |e: WireError| error::corrupt(py, e);
    let blocks: Vec<Arc<Storage>> = blocks.into_iter().map(|block| Arc::new(block.viewed())).collect();
    let spans = Spans(&blocks);
    let Message::Value(mut reader) = Message::read(tag, payload, &spans).map_err(corrupt)? else {
        return Err(corrupt(WireError::UnknownKind(tag)));
    };
    let object = match reader.token().map_err(corrupt)? {
        Token::Tuple(len) if len > 0 => {
            reader.enter().map_err(corrupt)?;
            let mut filling = Filling::new(py, len, Sequence::Tuple)?;
            for index in 0..len {
                let token = reader.token().map_err(corrupt)?;
                let item = match lazy(py, &blocks, &token)? {
                    Some(items) => items,
                    None => from_token(py, &mut reader, token)?,
                };
                // SAFETY: each index once, below `len`.
                unsafe { filling.set(index, item.into_ptr()) };
            }
            reader.leave();
            filling.object
        }
        token => from_token(py, &mut reader, token)?,
    };
    reader.finish().map_err(corrupt)?;
    Ok(object)
}

/// What stands for a long slice, if the token is one.
fn lazy<'py>(py: Python<'py>, blocks: &[Arc<Storage>], token: &Token<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match *token {
        Token::Packed(packed, items) if packed.lazy && items.len() >= LAZY_FROM => {
            let bytes = items.bytes();
            Items::over(py, blocks, Header::Packed(packed), bytes, bytes.len())
        }
        Token::Rows(rows, lengths, elements) if rows.lazy && lengths.rows() >= LAZY_FROM => {
            let (lengths, elements) = (lengths.bytes(), elements.bytes());
            let first = if lengths.is_empty() { elements } else { lengths };
            Items::over(py, blocks, Header::Rows(rows), first, lengths.len() + elements.len())
        }
        _ => Ok(None),
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

/// So many rows are made with the collector paused.
const PAUSE_FROM_ROWS: usize = 512;

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
    let token = reader.token().map_err(|e| error::corrupt(py, e))?;
    from_token(py, reader, token)
}

#[inline]
fn from_token<'py, B: Blocks + ?Sized>(
    py: Python<'py>,
    reader: &mut Reader<'_, B>,
    token: Token<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let corrupt = |e: WireError| error::corrupt(py, e);
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
            Token::Packed(packed, items) => return unpack(py, packed.sequence, items),
            Token::Rows(header, lengths, elements) => {
                return rows(py, header, lengths, elements, true).map(|(object, _)| object);
            }
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

/// A list or tuple of numbers.
pub(super) fn unpack<'py>(py: Python<'py>, sequence: Sequence, items: PackedItems<'_>) -> PyResult<Bound<'py, PyAny>> {
    if items.is_empty() && sequence == Sequence::Tuple {
        return Ok(PyTuple::empty(py).into_any());
    }
    let filling = Filling::new(py, items.len(), sequence)?;
    match items {
        PackedItems::I8(items) => unpack_ints(py, filling, items),
        PackedItems::I16(items) => unpack_ints(py, filling, items),
        PackedItems::I32(items) => unpack_ints(py, filling, items),
        PackedItems::I64(items) => unpack_ints(py, filling, items),
        PackedItems::F64(items) => fill(py, filling, items, |item| {
            // SAFETY: a new reference or null with an exception.
            unsafe { ffi::PyFloat_FromDouble(f64::from_le_bytes(item)) }
        }),
        // SAFETY: attached.
        PackedItems::Flags(items) => fill(py, filling, items, |item| unsafe { new_flag(item) }),
    }
}

/// A list or tuple of rows, and how many elements they took; with `all`, these have to be all there are.
pub(super) fn rows<'py>(
    py: Python<'py>,
    header: Rows,
    lengths: RowLengths<'_>,
    elements: PackedItems<'_>,
    all: bool,
) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let _pause = (lengths.rows() >= PAUSE_FROM_ROWS).then(|| CollectorPause::new(py));
    // SAFETY: attached, in all arms; the pointers given to the interpreter come from slices, with their lengths.
    let (object, used) = unsafe {
        match (header.row, elements) {
            (RowKind::Str, PackedItems::I8(bytes)) => each_row(py, header.sequence, lengths, bytes, |row| {
                ffi::PyUnicode_DecodeUTF8(row.as_ptr().cast(), row.len() as isize, core::ptr::null())
            }),
            (RowKind::Bytes, PackedItems::I8(bytes)) => each_row(py, header.sequence, lengths, bytes, |row| {
                ffi::PyBytes_FromStringAndSize(row.as_ptr().cast(), row.len() as isize)
            }),
            (RowKind::Items(kind), PackedItems::I8(items)) => {
                each_row(py, header.sequence, lengths, items, |row| new_row(kind, row, |e: u8| new_int(e.widen())))
            }
            (RowKind::Items(kind), PackedItems::I16(items)) => {
                each_row(py, header.sequence, lengths, items, |row| new_row(kind, row, |e| new_int(e.widen())))
            }
            (RowKind::Items(kind), PackedItems::I32(items)) => {
                each_row(py, header.sequence, lengths, items, |row| new_row(kind, row, |e| new_int(e.widen())))
            }
            (RowKind::Items(kind), PackedItems::I64(items)) => {
                each_row(py, header.sequence, lengths, items, |row| new_row(kind, row, |e| new_int(e.widen())))
            }
            (RowKind::Items(kind), PackedItems::F64(items)) => each_row(py, header.sequence, lengths, items, |row| {
                new_row(kind, row, |e| ffi::PyFloat_FromDouble(f64::from_le_bytes(e)))
            }),
            (RowKind::Items(kind), PackedItems::Flags(items)) => {
                each_row(py, header.sequence, lengths, items, |row| new_row(kind, row, |e| new_flag(e)))
            }
            // The reader lets no text of other elements through.
            _ => Err(error::corrupt(py, WireError::BadPacked)),
        }
    }?;
    match elements.len() - used {
        left @ 1.. if all => Err(error::corrupt(py, WireError::TrailingBytes(left as u64))),
        _ => Ok((object, used)),
    }
}

/// Makes each row with `make`, which returns a new reference or null. Each length is read once, and checked against the
/// elements that are left.
#[inline]
fn each_row<'py, T>(
    py: Python<'py>,
    sequence: Sequence,
    lengths: RowLengths<'_>,
    elements: &[T],
    make: impl Fn(&[T]) -> *mut ffi::PyObject,
) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let count = lengths.rows();
    if count == 0 && sequence == Sequence::Tuple {
        return Ok((PyTuple::empty(py).into_any(), 0));
    }
    let mut filling = Filling::new(py, count, sequence)?;
    let mut rest = elements;
    for index in 0..count {
        let len = lengths.get(index);
        let Some((row, left)) = rest.split_at_checked(len) else {
            let error = WireError::Truncated { needed: len as u64, left: rest.len() as u64 };
            return Err(error::corrupt(py, error));
        };
        rest = left;
        let object = make(row);
        if object.is_null() {
            return Err(unmade(py));
        }
        // SAFETY: each index once; the container was made with `count` slots.
        unsafe { filling.set(index, object) };
    }
    Ok((filling.object, elements.len() - rest.len()))
}

/// Why an element could not be made: the interpreter's reason, or none, which means that its bytes are damaged.
#[cold]
fn unmade(py: Python<'_>) -> PyErr {
    match PyErr::take(py) {
        None => error::corrupt(py, WireError::BadPacked),
        Some(error) if error.is_instance_of::<PyUnicodeDecodeError>(py) => error::corrupt(py, WireError::NotUtf8),
        Some(error) => error,
    }
}

/// A new list or tuple, or null as [`unmade`] explains.
///
/// # Safety
/// The caller is attached; `make` returns new references or null.
#[inline]
unsafe fn new_row<T: Copy>(kind: Sequence, row: &[T], make: impl Fn(T) -> *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: promised by the caller. The container has as many empty slots as there are elements, and nobody else sees
    // it before they are filled (an empty tuple, which is one object for all, has none).
    unsafe {
        let (object, slots): (_, *mut *mut ffi::PyObject) = match kind {
            Sequence::List => {
                let list = ffi::PyList_New(row.len() as isize);
                if list.is_null() {
                    return list;
                }
                (list, (*list.cast::<ffi::PyListObject>()).ob_item)
            }
            Sequence::Tuple => {
                let tuple = ffi::PyTuple_New(row.len() as isize);
                if tuple.is_null() {
                    return tuple;
                }
                (tuple, (&raw mut (*tuple.cast::<ffi::PyTupleObject>()).ob_item).cast())
            }
        };
        for (index, &element) in row.iter().enumerate() {
            let item = make(element);
            if item.is_null() {
                ffi::Py_DecRef(object);
                return item;
            }
            *slots.add(index) = item;
        }
        object
    }
}

/// None or a truth value, or null, without an exception, for a byte that stands for neither.
///
/// # Safety
/// The caller is attached.
#[inline]
unsafe fn new_flag(byte: u8) -> *mut ffi::PyObject {
    // SAFETY: promised by the caller.
    unsafe {
        match flag_from_byte(byte) {
            Ok(None) => ffi::Py_NewRef(ffi::Py_None()),
            Ok(Some(false)) => ffi::Py_NewRef(ffi::Py_False()),
            Ok(Some(true)) => ffi::Py_NewRef(ffi::Py_True()),
            Err(_) => core::ptr::null_mut(),
        }
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
            return Err(unmade(py));
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

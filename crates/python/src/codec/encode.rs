//! Python object -> message, in two steps.
//!
//! [`encode`] looks at the object, runs whatever Python code pickling needs, and lays the message out; no big buffer is
//! copied yet. [`Outgoing::fill`] takes blocks and copies. Between the two the caller waits for room in a full channel:
//! a producer that is ahead of its consumer must not fill the memory with messages that cannot be sent yet.

use core::ops::Range;

use breakeven_shm::AllocError;
use breakeven_wire::{
    BufferRange, Element, ElementKind, Kind, Packed, RowKind, Rows, SPILLED, Sequence, Width, WireError, Writer,
    align_piece, flag_to_byte, pickle_header, pickle_header_len, spilled_payload,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::exact::{self, Common};
use super::memory::Memory;
use super::pickler::{self, Held, Pickled};
use super::rows;
use super::slice::Slice;

/// Bytes of a message that travel in the ring itself.
pub(crate) const INLINE: usize = breakeven_shm::MAX_INLINE;
/// Space for a message's payload.
pub(crate) type Space = [u8; INLINE];
/// Space for the payload of a small value: clearing a whole [`Space`] takes longer than sending one.
pub(crate) type SmallSpace = [u8; 128];
/// Space for a payload that is one number.
pub(crate) type ScalarSpace = [u8; 16];

/// Sequences of fewer numbers are written item by item: a packed header takes 17 bytes.
const PACK_FROM: usize = 4;
/// Sequences of so many short sequences or texts are taken apart into columns.
const ROWS_FROM: usize = 8;
/// Sequences from this length on may be guessed at: their numbers go into a block for certain.
const GUESS_FROM: usize = 4096;
/// Copies of at least so many bytes are made without the interpreter's lock.
const DETACH_FROM: usize = 256 << 10;
/// Messages of at least so many bytes go by shared memory and not by the pipe.
pub(crate) const PIPED_FROM: usize = pickler::OUT_OF_BAND_FROM as usize;
/// Mutable containers in one message that are remembered to find one that occurs twice.
const SEEN: usize = 16;

/// Why the fast formats do not take an object.
enum Unfit {
    /// It is for pickle.
    Pickle,
    /// The interpreter failed (out of memory).
    Python(PyErr),
}

impl From<WireError> for Unfit {
    fn from(_: WireError) -> Unfit {
        // The writer knows one error: no room left.
        Unfit::Pickle
    }
}

impl From<PyErr> for Unfit {
    fn from(error: PyErr) -> Unfit {
        Unfit::Python(error)
    }
}

/// Where a piece of a message goes.
#[derive(Clone, Copy)]
struct Place {
    block: usize,
    offset: usize,
}

/// Bytes to be copied. They are kept alive by one of `Outgoing::alive`, `held`, `head`, `columns`.
struct Copy {
    from: *const u8,
    len: usize,
    to: Place,
}

/// Numbers to be packed.
struct Pack<'py> {
    sequence: Bound<'py, PyAny>,
    /// Which of its items; `None`: all.
    part: Option<Range<usize>>,
    packed: Packed,
    to: Place,
}

/// A message that is laid out but whose blocks do not exist yet.
pub(crate) struct Outgoing<'py> {
    pub(crate) tag: u16,
    /// Bytes of the payload, which is in the space given to [`encode`].
    pub(crate) payload: usize,
    /// Lengths of the blocks.
    lengths: Vec<usize>,
    copies: Vec<Copy>,
    packs: Vec<Pack<'py>>,
    alive: Vec<Bound<'py, PyAny>>,
    held: Vec<Held<'py>>,
    head: Vec<u8>,
    /// Columns of rows.
    columns: Vec<Vec<u8>>,
    /// Rows that something beside their container refers to, and which may therefore occur twice.
    shared: Vec<*mut ffi::PyObject>,
}

/// Why blocks could not be filled.
pub(crate) enum FillError {
    /// No memory.
    Alloc(AllocError),
    /// A list is not (or no longer) what it seemed when it was looked at: encode again, without guessing.
    Changed,
}

impl<'py> Outgoing<'py> {
    fn new(tag: u16, payload: usize) -> Self {
        Outgoing {
            tag,
            payload,
            lengths: Vec::new(),
            copies: Vec::new(),
            packs: Vec::new(),
            alive: Vec::new(),
            held: Vec::new(),
            head: Vec::new(),
            columns: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// Whether the message needs memory beside the ring.
    #[inline]
    pub(crate) fn needs_blocks(&self) -> bool {
        !self.lengths.is_empty()
    }

    /// Bytes that [`fill`](Self::fill) copies.
    pub(crate) fn block_bytes(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Takes blocks and copies everything into them, once. Big copies are made detached.
    pub(crate) fn fill<M: Memory + Sync>(&self, py: Python<'_>, memory: &M) -> Result<Vec<M::Block>, FillError> {
        /// The part of the work that needs no Python.
        struct Job<'a> {
            lengths: &'a [usize],
            copies: &'a [Copy],
        }
        // SAFETY: the pointers lead to buffers that `Outgoing` keeps exported or alive (`held`, `alive`, `head`, `columns`) for
        // longer than the job runs; they are only read.
        unsafe impl Sync for Job<'_> {}
        // SAFETY: as above.
        unsafe impl Send for Job<'_> {}

        impl Job<'_> {
            fn run<M: Memory>(&self, memory: &M) -> Result<Vec<M::Block>, AllocError> {
                let mut turn = M::Turn::default(); // ends when everything is copied
                let blocks = self.lengths.iter().map(|&len| memory.alloc(len, &mut turn));
                let mut blocks = blocks.collect::<Result<Vec<_>, _>>()?;
                for copy in self.copies {
                    let start = M::start(&mut blocks[copy.to.block]);
                    // SAFETY: `encode` sized the block to hold every piece placed in it, and pieces do not overlap; the
                    // block is new, so it does not overlap the source. The source may be written by another thread
                    // meanwhile (as any buffer that is sent may be): then the bytes are some mixture, which is what the
                    // program asked for; nothing is interpreted here.
                    unsafe { start.add(copy.to.offset).copy_from_nonoverlapping(copy.from, copy.len) };
                }
                Ok(blocks)
            }
        }

        let job = Job { lengths: &self.lengths, copies: &self.copies };
        let copied: usize = self.copies.iter().map(|copy| copy.len).sum();
        // Fresh memory is slow to get (the kernel clears it), so that counts as copying too.
        let blocks =
            if copied.max(self.block_bytes()) >= DETACH_FROM { py.detach(|| job.run(memory)) } else { job.run(memory) };
        let mut blocks = blocks.map_err(FillError::Alloc)?;
        for pack in &self.packs {
            let len = pack.packed.data_len().expect("the sequence exists, so its length is sane") as usize;
            // SAFETY: the block was sized for this piece; it is new and ours alone.
            let space = unsafe {
                let start = M::start(&mut blocks[pack.to.block]).add(pack.to.offset);
                core::slice::from_raw_parts_mut(start, len)
            };
            pack_into(&pack.sequence, pack.part.clone(), pack.packed, space).ok_or(FillError::Changed)?;
        }
        Ok(blocks)
    }
}

/// Writes the elements of a packed sequence; `None` if it is not (or no longer) what the header says.
fn pack_into(sequence: &Bound<'_, PyAny>, part: Option<Range<usize>>, packed: Packed, space: &mut [u8]) -> Option<()> {
    // SAFETY: `sequence` was checked to be an exact list or tuple when it was put into the layout (types of exact
    // builtins do not change); no Python code runs below.
    let items = unsafe { exact::items(sequence.as_ptr()) };
    let items = match part {
        None => items,
        Some(part) => items.get(part)?,
    };
    if items.len() as u64 != packed.count {
        return None;
    }
    match packed.element {
        ElementKind::Int(Width::W1) => pack_ints(items, space.as_chunks_mut::<1>().0, |v| u8::narrow(v).map(|b| [b])),
        ElementKind::Int(Width::W2) => pack_ints(items, space.as_chunks_mut::<2>().0, <[u8; 2]>::narrow),
        ElementKind::Int(Width::W4) => pack_ints(items, space.as_chunks_mut::<4>().0, <[u8; 4]>::narrow),
        ElementKind::Int(Width::W8) => pack_ints(items, space.as_chunks_mut::<8>().0, <[u8; 8]>::narrow),
        ElementKind::Float => {
            for (&item, slot) in items.iter().zip(space.as_chunks_mut::<8>().0) {
                // SAFETY: items of a live sequence, no Python code in between; the type is checked first.
                unsafe {
                    if ffi::PyFloat_CheckExact(item) == 0 {
                        return None;
                    }
                    *slot = exact::float_value(item).to_le_bytes();
                }
            }
            Some(())
        }
        ElementKind::Flag => {
            for (&item, slot) in items.iter().zip(space) {
                // SAFETY: as above.
                *slot = flag_to_byte(unsafe { exact::flag(item) }?);
            }
            Some(())
        }
    }
}

#[inline]
fn pack_ints<const N: usize>(
    items: &[*mut ffi::PyObject],
    space: &mut [[u8; N]],
    narrow: impl Fn(i64) -> Option<[u8; N]>,
) -> Option<()> {
    for (&item, slot) in items.iter().zip(space) {
        // SAFETY: items of a live sequence, no Python code in between; the type is checked first.
        unsafe {
            if ffi::PyLong_CheckExact(item) == 0 {
                return None;
            }
            *slot = narrow(exact::long_value(item)?)?;
        }
    }
    Some(())
}

/// Writes None, a bool, an int or a float. The shortest way, for the messages that there are most of.
#[inline]
pub(crate) fn scalar(obj: &Bound<'_, PyAny>, space: &mut ScalarSpace) -> Option<usize> {
    let mut writer = Writer::new(space);
    let op = obj.as_ptr();
    // SAFETY: `obj` is valid and we are attached; each value is read only after its exact type has been checked.
    unsafe {
        if ffi::PyLong_CheckExact(op) != 0 {
            writer.int(exact::long_value(op)?).ok()?;
        } else if ffi::PyFloat_CheckExact(op) != 0 {
            writer.float(exact::float_value(op)).ok()?;
        } else if op == ffi::Py_None() {
            writer.none().ok()?;
        } else if op == ffi::Py_True() || op == ffi::Py_False() {
            writer.bool(op == ffi::Py_True()).ok()?;
        } else {
            return None;
        }
    }
    Some(writer.len())
}

/// Writes a value that needs neither pickle nor a block; `None` if `obj` is no such, or does not fit.
#[inline]
pub(crate) fn small(obj: &Bound<'_, PyAny>, space: &mut SmallSpace) -> Option<usize> {
    let mut values = Values::new(space, None);
    // An error here is one of `encode` too, which then raises it.
    values.value(obj, 0).ok()?;
    Some(values.writer.len())
}

/// Lays out the message for `obj`. Its payload goes into `space`.
///
/// With `guess`, the kind of a long list's items is guessed from some of them, which saves looking at each of them twice;
/// where the guess is wrong, [`Outgoing::fill`] says `Changed`, and the caller comes again without.
pub(crate) fn encode<'py>(obj: &Bound<'py, PyAny>, space: &mut Space, guess: bool) -> PyResult<Outgoing<'py>> {
    match encode_value(obj, space, guess)? {
        Some(out) => Ok(out),
        None => pickle(&without_slices(obj)?, space),
    }
}

/// As [`encode`], but `None` if the object is for pickle: what is encoded here is decoded without running any code of the
/// user's.
pub(crate) fn encode_value<'py>(
    obj: &Bound<'py, PyAny>,
    space: &mut Space,
    guess: bool,
) -> PyResult<Option<Outgoing<'py>>> {
    let mut out = Outgoing::new(Kind::Value.tag(), 0);
    let mut values = Values::new(space, Some(&mut out));
    values.guess = guess;
    match values.value(obj, 0) {
        Ok(()) if values.aliased() => Ok(None),
        Ok(()) => {
            let (payload, block) = (values.writer.len(), values.block);
            out.payload = payload;
            if block > 0 {
                out.lengths.push(block);
            }
            Ok(Some(out))
        }
        Err(Unfit::Python(error)) => Err(error),
        Err(Unfit::Pickle) => Ok(None),
    }
}

/// `obj` with lists in place of slices, where the latter may be.
fn without_slices<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let listed = |item: &Bound<'py, PyAny>| match item.cast_exact::<Slice>() {
        Ok(slice) => Ok(slice.get().items(slice.py())?.into_any()),
        Err(_) => PyResult::Ok(item.clone()),
    };
    match obj.cast_exact::<PyTuple>() {
        Ok(tuple) if tuple.iter_borrowed().any(|item| item.is_exact_instance_of::<Slice>()) => {
            let items = tuple.iter().map(|item| listed(&item)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyTuple::new(obj.py(), items)?.into_any())
        }
        _ => listed(obj),
    }
}

/// Writes values of exact built-in types. Everything else is left to pickle.
struct Values<'a, 'py> {
    writer: Writer<'a>,
    /// Takes note of long pieces; without it there may be none.
    out: Option<&'a mut Outgoing<'py>>,
    /// Whether to guess what the items of a long sequence are.
    guess: bool,
    /// Bytes of the one block that long pieces go to.
    block: usize,
    /// Lists and dicts met so far: one that occurs twice must still be one object at the other end, which only pickle
    /// does. (Immutable objects may be doubled: nobody can tell but by `is`.)
    seen: [*mut ffi::PyObject; SEEN],
    seen_count: usize,
}

impl<'a, 'py> Values<'a, 'py> {
    #[inline]
    fn new(space: &'a mut [u8], out: Option<&'a mut Outgoing<'py>>) -> Self {
        Values {
            writer: Writer::new(space),
            out,
            block: 0,
            guess: false,
            seen: [core::ptr::null_mut(); SEEN],
            seen_count: 0,
        }
    }

    fn value(&mut self, obj: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let op = obj.as_ptr();
        // SAFETY: `op` is valid and we are attached; every access follows a check of the exact type.
        unsafe {
            let kind = ffi::Py_TYPE(op);
            if kind == &raw mut ffi::PyLong_Type {
                match exact::long_value(op) {
                    Some(value) => self.writer.int(value)?,
                    None => self.writer.wide_int(obj.extract::<i128>().map_err(|_| Unfit::Pickle)?)?,
                }
            } else if kind == &raw mut ffi::PyUnicode_Type {
                self.text(obj)?;
            } else if kind == &raw mut ffi::PyFloat_Type {
                self.writer.float(exact::float_value(op))?;
            } else if op == ffi::Py_None() {
                self.writer.none()?;
            } else if op == ffi::Py_True() || op == ffi::Py_False() {
                self.writer.bool(op == ffi::Py_True())?;
            } else if kind == &raw mut ffi::PyTuple_Type || kind == &raw mut ffi::PyList_Type {
                self.sequence(obj, depth)?;
            } else if kind == &raw mut ffi::PyBytes_Type {
                self.bytes(obj)?;
            } else if kind == &raw mut ffi::PyDict_Type {
                self.dict(obj, depth)?;
            } else if kind == &raw mut ffi::PyRange_Type {
                self.range(obj)?;
            } else if let Ok(slice) = obj.cast_exact::<Slice>() {
                self.slice(slice, depth)?;
            } else {
                return Err(Unfit::Pickle);
            }
        }
        Ok(())
    }

    fn text(&mut self, obj: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        // SAFETY: `obj` is an exact str.
        let chars = unsafe { ffi::PyUnicode_GetLength(obj.as_ptr()) } as usize;
        if chars > self.writer.left() {
            return self.long_text(obj);
        }
        let mut len = 0;
        // SAFETY: `obj` is an exact str.
        let start = unsafe { ffi::PyUnicode_AsUTF8AndSize(obj.as_ptr(), &mut len) };
        if start.is_null() {
            // Lone surrogates, which pickle keeps.
            drop(PyErr::take(obj.py()));
            return Err(Unfit::Pickle);
        }
        // SAFETY: the interpreter says that so many bytes of UTF-8 are there; they live as long as the (immutable) str.
        let text = unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(start.cast(), len as usize)) };
        if text.len() + 3 <= self.writer.left() {
            return Ok(self.writer.str(text)?);
        }
        let range = self.far(obj, text.as_bytes())?;
        Ok(self.writer.str_far(range)?)
    }

    /// Text for a block. The interpreter keeps the UTF-8 form of a non-ASCII str with it for ever once it was asked for;
    /// of a long one a copy is encoded instead, which goes when the message is made.
    #[cold]
    fn long_text(&mut self, obj: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        if self.out.is_none() {
            return Err(Unfit::Pickle);
        }
        let range = if obj.call_method0("isascii")?.is_truthy()? {
            let text = obj.extract::<&str>()?;
            self.far(obj, text.as_bytes())?
        } else {
            // SAFETY: `obj` is an exact str; the result is a new bytes object or null with an exception.
            let encoded = unsafe {
                let encoded = ffi::PyUnicode_AsUTF8String(obj.as_ptr());
                Bound::from_owned_ptr_or_err(obj.py(), encoded).map_err(|_| Unfit::Pickle)? // lone surrogates
            };
            let bytes = encoded.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
            self.far(&encoded, bytes)?
        };
        Ok(self.writer.str_far(range)?)
    }

    fn bytes(&mut self, obj: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        // SAFETY: `obj` is an exact bytes object, which is immutable.
        let bytes = unsafe {
            let (start, len) = (ffi::PyBytes_AS_STRING(obj.as_ptr()), ffi::Py_SIZE(obj.as_ptr()));
            core::slice::from_raw_parts(start.cast::<u8>(), len as usize)
        };
        if bytes.len() + 3 <= self.writer.left() {
            return Ok(self.writer.bytes(bytes)?);
        }
        let range = self.far(obj, bytes)?;
        Ok(self.writer.bytes_far(range)?)
    }

    /// Gives a long piece its place in the block.
    fn far(&mut self, obj: &Bound<'py, PyAny>, bytes: &[u8]) -> Result<BufferRange, Unfit> {
        let Some(out) = &mut self.out else { return Err(Unfit::Pickle) };
        if out.copies.iter().any(|copy| core::ptr::eq(copy.from, bytes.as_ptr())) {
            // The same long object again: pickle sends it once.
            return Err(Unfit::Pickle);
        }
        let (range, to) = place(&mut self.block, bytes.len());
        out.copies.push(Copy { from: bytes.as_ptr(), len: bytes.len(), to });
        out.alive.push(obj.clone());
        Ok(range)
    }

    /// Remembers a mutable container; one that was there before is for pickle.
    fn see(&mut self, op: *mut ffi::PyObject) -> Result<(), Unfit> {
        if self.seen_count == SEEN || self.seen[..self.seen_count].contains(&op) {
            return Err(Unfit::Pickle);
        }
        self.seen[self.seen_count] = op;
        self.seen_count += 1;
        Ok(())
    }

    fn sequence(&mut self, obj: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let op = obj.as_ptr();
        // SAFETY: `obj` is an exact list or tuple.
        let (list, len) = unsafe { (ffi::PyList_CheckExact(op) != 0, ffi::Py_SIZE(op) as usize) };
        if self.out.is_none() && len > self.writer.left() {
            return Err(Unfit::Pickle); // before a long list is looked at in vain
        }
        if list {
            if cfg!(Py_GIL_DISABLED) {
                // Without the interpreter's lock another thread may change the list while it is read here.
                return Err(Unfit::Pickle);
            }
            self.see(op)?;
        }
        if self.columns(obj, None, len, if list { Sequence::List } else { Sequence::Tuple })? {
            return Ok(());
        }
        if depth == breakeven_wire::MAX_DEPTH || len >= self.writer.left() {
            return Err(Unfit::Pickle);
        }
        if list {
            self.writer.list(len)?
        } else {
            self.writer.tuple(len)?
        }
        for index in 0..len {
            // Read anew each time: encoding an item can, in the end, only allocate, but that is no reason to rely on it.
            // SAFETY: an exact list or tuple; the index is checked against the length it has now.
            let item = unsafe { exact::items(op) }.get(index).copied().ok_or(Unfit::Pickle)?;
            // SAFETY: an item of a live container, made a strong reference before anything else happens.
            let item = unsafe { Bound::from_borrowed_ptr(obj.py(), item) };
            self.value(&item, depth + 1)?;
        }
        Ok(())
    }

    /// A part of a list, as a list.
    fn slice(&mut self, slice: &Bound<'py, Slice>, depth: u32) -> Result<(), Unfit> {
        let (list, part) = slice.get().parts(slice.py())?;
        let len = part.len();
        if cfg!(Py_GIL_DISABLED) || (self.out.is_none() && len > self.writer.left()) {
            return Err(Unfit::Pickle);
        }
        self.see(list.as_ptr())?;
        if self.columns(list, Some(part.clone()), len, Sequence::List)? {
            return Ok(());
        }
        if depth == breakeven_wire::MAX_DEPTH || len >= self.writer.left() {
            return Err(Unfit::Pickle);
        }
        self.writer.list(len)?;
        for index in part {
            self.value(&list.get_item(index)?, depth + 1)?;
        }
        Ok(())
    }

    /// Writes a sequence whose items are all of one kind; false, and nothing written, if they are not.
    ///
    /// `obj` is an exact list or tuple, `part` says which of its items (`None`: all), and `len` how many these are.
    fn columns(
        &mut self,
        obj: &Bound<'py, PyAny>,
        part: Option<Range<usize>>,
        len: usize,
        sequence: Sequence,
    ) -> Result<bool, Unfit> {
        if len < PACK_FROM {
            return Ok(false);
        }
        // SAFETY: an exact list or tuple; nothing below runs Python code or releases the interpreter as long as this is
        // used.
        let items = unsafe { exact::items(obj.as_ptr()) };
        let items = match &part {
            None => items,
            Some(part) => items.get(part.clone()).ok_or(Unfit::Pickle)?,
        };
        // SAFETY: as above.
        let common =
            unsafe { if self.guess && len >= GUESS_FROM { exact::sample(items) } else { exact::common(items) } };
        if let Some(common) = common {
            self.packed(obj, part, common, len, sequence)?;
            return Ok(true);
        }
        let Some(out) = self.out.as_deref_mut().filter(|_| len >= ROWS_FROM && !cfg!(Py_GIL_DISABLED)) else {
            return Ok(false);
        };
        // SAFETY: as above.
        let Some(columns) = (unsafe { rows::columns(items, sequence, &mut out.shared) }) else { return Ok(false) };
        let header = Rows { lazy: part.is_some(), ..columns.header };
        if matches!(header.row, RowKind::Items(Sequence::List)) && sequence == Sequence::Tuple {
            // A tuple that occurs twice would double its lists.
            self.see(obj.as_ptr())?;
        }
        let (lengths, elements) = (columns.lengths, columns.elements);
        let data = lengths.len() + elements.len();
        if 1 + Rows::SIZE + data <= self.writer.left() {
            let (first, second) = self.writer.rows(header)?.split_at_mut(lengths.len());
            first.copy_from_slice(&lengths);
            second.copy_from_slice(&elements);
            return Ok(true);
        }
        let Some(out) = &mut self.out else { return Err(Unfit::Pickle) };
        let (range, mut to) = place(&mut self.block, data);
        for column in [lengths, elements] {
            out.copies.push(Copy { from: column.as_ptr(), len: column.len(), to });
            to.offset += column.len();
            out.columns.push(column);
        }
        self.writer.rows_far(header, range)?;
        Ok(true)
    }

    fn packed(
        &mut self,
        obj: &Bound<'py, PyAny>,
        part: Option<Range<usize>>,
        common: Common,
        len: usize,
        sequence: Sequence,
    ) -> Result<(), Unfit> {
        let element = match common {
            Common::Ints(min, max) => ElementKind::Int(Width::for_range(min, max)),
            Common::Floats => ElementKind::Float,
            Common::Flags => ElementKind::Flag,
        };
        let packed = Packed { element, sequence, count: len as u64, lazy: part.is_some() };
        let data = packed.data_len().and_then(|n| usize::try_from(n).ok()).ok_or(Unfit::Pickle)?;
        if 1 + Packed::SIZE + data <= self.writer.left() {
            return pack_into(obj, part, packed, self.writer.packed(packed)?).ok_or(Unfit::Pickle);
        }
        let Some(out) = &mut self.out else { return Err(Unfit::Pickle) };
        let (range, to) = place(&mut self.block, data);
        out.packs.push(Pack { sequence: obj.clone(), part, packed, to });
        Ok(self.writer.packed_far(packed, range)?)
    }

    /// Whether a list, or a container of lists, occurs twice.
    fn aliased(&mut self) -> bool {
        let Some(out) = &mut self.out else { return false };
        let shared = &mut out.shared;
        if shared.is_empty() {
            return false; // `see` has compared the others
        }
        shared.extend_from_slice(&self.seen[..self.seen_count]);
        shared.sort_unstable();
        let aliased = shared.windows(2).any(|pair| pair[0] == pair[1]);
        *shared = Vec::new();
        aliased
    }

    fn dict(&mut self, obj: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let op = obj.as_ptr();
        // SAFETY: `obj` is an exact dict.
        let len = unsafe { ffi::PyDict_Size(op) } as usize;
        if cfg!(Py_GIL_DISABLED) || depth == breakeven_wire::MAX_DEPTH || 2 * len >= self.writer.left() {
            return Err(Unfit::Pickle);
        }
        self.see(op)?;
        self.writer.dict(len)?;
        let (mut position, mut count) = (0, 0);
        let (mut key, mut value) = (core::ptr::null_mut(), core::ptr::null_mut());
        // SAFETY: an exact dict; key and value are borrowed and made strong before anything else happens. Values of
        // exact built-in types are encoded without running Python code, so the dict does not change under the loop; if
        // it did, the count would show it.
        while unsafe { ffi::PyDict_Next(op, &mut position, &mut key, &mut value) } != 0 {
            // SAFETY: as above.
            let (key, value) =
                unsafe { (Bound::from_borrowed_ptr(obj.py(), key), Bound::from_borrowed_ptr(obj.py(), value)) };
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
            count += 1;
        }
        if count == len { Ok(()) } else { Err(Unfit::Pickle) }
    }

    fn range(&mut self, obj: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let part = |name: &str| -> Result<i64, Unfit> {
            // A range of huge ints is legal, and rare.
            obj.getattr(name)?.extract().map_err(|_| Unfit::Pickle)
        };
        Ok(self.writer.range(part("start")?, part("stop")?, part("step")?)?)
    }
}

/// Gives a piece of `len` bytes its place at the end of the one block.
fn place(block: &mut usize, len: usize) -> (BufferRange, Place) {
    let offset = align_piece(*block as u64) as usize;
    *block = offset + len;
    (BufferRange { block: 0, offset: offset as u64, len: len as u64 }, Place { block: 0, offset })
}

/// What a pipe carries for an object.
pub(crate) enum Piped<'py> {
    /// A pickle of so many bytes, in pieces, for the pipe itself.
    Stream(Vec<Held<'py>>, usize),
    /// A message for shared memory.
    Blocks(Outgoing<'py>),
}

/// Pickles an object for a pipe, or lays it out for shared memory if it takes `PIPED_FROM` bytes and more. The payload of
/// the latter goes into `space`. `guess` as for [`encode`].
pub(crate) fn piped<'py>(obj: &Bound<'py, PyAny>, space: &mut Space, guess: bool) -> PyResult<Piped<'py>> {
    if is_long(obj) {
        let out = encode(obj, space, guess)?;
        if out.needs_blocks() {
            return Ok(Piped::Blocks(out));
        }
    }
    let pickled = pickler::pickle(obj)?;
    if pickled.buffers.is_empty() && pickled.stream_len < PIPED_FROM {
        return Ok(Piped::Stream(pickled.stream, pickled.stream_len));
    }
    Ok(Piped::Blocks(lay_out(pickled, space)?))
}

/// Whether an object is of an exact type for which there is a shorter way than pickle, and long.
fn is_long(obj: &Bound<'_, PyAny>) -> bool {
    let op = obj.as_ptr();
    // SAFETY: `op` is valid and we are attached; each length is asked for after a check of the type.
    unsafe {
        let kind = ffi::Py_TYPE(op);
        if kind == &raw mut ffi::PyBytes_Type {
            ffi::Py_SIZE(op) as usize >= PIPED_FROM
        } else if kind == &raw mut ffi::PyUnicode_Type {
            ffi::PyUnicode_GetLength(op) as usize >= PIPED_FROM
        } else if kind == &raw mut ffi::PyList_Type || kind == &raw mut ffi::PyTuple_Type {
            ffi::Py_SIZE(op) as usize >= GUESS_FROM
        } else {
            false
        }
    }
}

/// Lays out a pickle: the stream in the ring if it is short, else in block 0; each long buffer in a block of its own.
fn pickle<'py>(obj: &Bound<'py, PyAny>, space: &mut Space) -> PyResult<Outgoing<'py>> {
    lay_out(pickler::pickle(obj)?, space)
}

fn lay_out<'py>(pickled: Pickled<'py>, space: &mut Space) -> PyResult<Outgoing<'py>> {
    let mut out = Outgoing::new(Kind::Pickle.tag(), 0);
    let head = pickle_header_len(pickled.buffers.len());
    let body = head + pickled.stream_len;
    let spilled = body > INLINE;
    // Blocks for buffers: as many as a message may have; what is left over shares block 0 with the stream.
    let own = breakeven_shm::MAX_MESSAGE_BLOCKS - 1;
    let mut shared = if spilled { body } else { 0 };
    let share = pickled.buffers.len() > own;
    let first = usize::from(spilled || share);
    let mut ranges = Vec::with_capacity(pickled.buffers.len());
    for (index, buffer) in pickled.buffers.iter().enumerate() {
        let len = buffer.len();
        let to = if index < own {
            Place { block: first + index, offset: 0 }
        } else {
            let offset = align_piece(shared as u64) as usize;
            shared = offset + len;
            Place { block: 0, offset }
        };
        ranges.push(BufferRange { block: to.block as u32, offset: to.offset as u64, len: len as u64 });
        out.copies.push(Copy { from: buffer.start(), len, to });
    }
    if first == 1 {
        out.lengths.push(shared);
    }
    out.lengths.extend(pickled.buffers.iter().take(own).map(Held::len));

    let no_room = |error: WireError| pyo3::exceptions::PyOverflowError::new_err(error.to_string());
    if spilled {
        out.tag |= SPILLED;
        let payload = spilled_payload(body as u64);
        space[..payload.len()].copy_from_slice(&payload);
        out.payload = payload.len();
        out.head = vec![0; head];
        pickle_header(&mut out.head, &ranges).map_err(no_room)?;
        out.copies.push(Copy { from: out.head.as_ptr(), len: head, to: Place { block: 0, offset: 0 } });
        let mut offset = head;
        for chunk in &pickled.stream {
            out.copies.push(Copy { from: chunk.start(), len: chunk.len(), to: Place { block: 0, offset } });
            offset += chunk.len();
        }
        out.held.extend(pickled.stream);
    } else {
        pickle_header(space, &ranges).map_err(no_room)?;
        let mut rest = &mut space[head..];
        for chunk in &pickled.stream {
            let (slot, tail) = rest.split_at_mut(chunk.len());
            // SAFETY: the buffer is exported and `slot` is as long as it is.
            unsafe { slot.as_mut_ptr().copy_from_nonoverlapping(chunk.start(), chunk.len()) };
            rest = tail;
        }
        out.payload = body;
    }
    out.held.extend(pickled.buffers);
    Ok(out)
}

/// Lays out a message of plain bytes.
pub(crate) fn raw<'py>(data: &Bound<'py, PyAny>, space: &mut Space) -> PyResult<Outgoing<'py>> {
    let held = Held::new(data)?;
    if !held.contiguous() {
        return Err(pyo3::exceptions::PyBufferError::new_err("the buffer must be contiguous"));
    }
    let len = held.len();
    let mut out = Outgoing::new(Kind::Raw.tag(), len);
    if len <= INLINE {
        // SAFETY: the buffer is exported and has `len` bytes, which fit.
        unsafe { space.as_mut_ptr().copy_from_nonoverlapping(held.start(), len) };
    } else {
        out.tag |= SPILLED;
        let payload = spilled_payload(len as u64);
        space[..payload.len()].copy_from_slice(&payload);
        out.payload = payload.len();
        out.lengths.push(len);
        out.copies.push(Copy { from: held.start(), len, to: Place { block: 0, offset: 0 } });
        out.held.push(held);
    }
    Ok(out)
}

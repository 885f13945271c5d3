//! Rows to columns: a list of short lists, tuples or texts, taken apart in one pass.

use breakeven_wire::{Element, ElementKind, LengthWidth, RowKind, Rows, Sequence, Width, flag_to_byte};
use pyo3::ffi;

use super::exact;

/// Texts of more characters are not copied twice, as rows are.
const LONGEST_TEXT: usize = 1024;
/// Of a sequence of texts so many are looked at first.
const SAMPLES: usize = 128;
/// Most elements that room is made for before they have been counted.
const RESERVE: usize = 1 << 20;

/// Rows, taken apart.
pub(super) struct Columns {
    pub(super) header: Rows,
    /// The column of lengths; empty if there is none.
    pub(super) lengths: Vec<u8>,
    /// The elements.
    pub(super) elements: Vec<u8>,
}

/// Takes `items` apart if all are of one kind: lists or tuples of 64-bit ints, of floats, or of None and truth values;
/// texts; bytes. Rows that something else refers to as well are added to `shared`: they may occur twice.
///
/// # Safety
/// As for [`exact::items`].
pub(super) unsafe fn columns(
    items: &[*mut ffi::PyObject],
    sequence: Sequence,
    shared: &mut Vec<*mut ffi::PyObject>,
) -> Option<Columns> {
    let &first = items.first()?;
    let before = shared.len();
    // SAFETY: promised by the caller; the types of exact builtins are compared by address.
    let columns = unsafe {
        let kind = ffi::Py_TYPE(first);
        if kind == &raw mut ffi::PyList_Type || kind == &raw mut ffi::PyTuple_Type {
            let row = if kind == &raw mut ffi::PyList_Type { Sequence::List } else { Sequence::Tuple };
            Walk::new(items, kind, shared).numbers(RowKind::Items(row), sequence)
        } else if kind == &raw mut ffi::PyUnicode_Type && mostly_unshared(items) {
            Walk::new(items, kind, shared).texts(RowKind::Str, sequence, append_text)
        } else if kind == &raw mut ffi::PyBytes_Type && mostly_unshared(items) {
            Walk::new(items, kind, shared).texts(RowKind::Bytes, sequence, append_bytes)
        } else {
            None
        }
    };
    if columns.is_none() {
        shared.truncate(before);
    }
    columns
}

/// Whether few of the items are known elsewhere. A text that occurs again and again is sent, and made, once by pickle.
///
/// # Safety
/// As for [`exact::items`].
unsafe fn mostly_unshared(items: &[*mut ffi::PyObject]) -> bool {
    let step = (items.len() / SAMPLES).max(1);
    let (mut seen, mut shared) = (0, 0);
    for &item in items.iter().step_by(step) {
        seen += 1;
        // SAFETY: a valid object, promised by the caller.
        shared += usize::from(unsafe { ffi::Py_REFCNT(item) } > 1);
    }
    4 * shared <= seen
}

/// How long the rows are, as long as it takes to know whether all are equally long.
struct Lengths {
    first: Option<u32>,
    /// Empty as long as all are as long as the first.
    column: Vec<u32>,
    longest: u32,
}

impl Lengths {
    /// Takes note of row `index`, which is the next.
    #[inline]
    fn push(&mut self, index: usize, len: usize) -> Option<()> {
        let len = u32::try_from(len).ok()?;
        let first = *self.first.get_or_insert(len);
        if len != first && self.column.is_empty() {
            self.column.resize(index, first);
            self.longest = first;
        }
        if len != first || !self.column.is_empty() {
            self.column.push(len);
            self.longest = self.longest.max(len);
        }
        Some(())
    }

    fn finish(mut self, rows: usize) -> (LengthWidth, Vec<u8>) {
        if self.column.is_empty() {
            match self.first {
                Some(1..) => return (LengthWidth::Uniform, Vec::new()),
                // Rows without elements: only the column says how many.
                _ => self.column.resize(rows, 0),
            }
        }
        let width = LengthWidth::for_longest(self.longest);
        let column = match width {
            LengthWidth::Uniform | LengthWidth::W1 => self.column.iter().map(|&len| len as u8).collect(),
            LengthWidth::W2 => self.column.iter().flat_map(|&len| (len as u16).to_le_bytes()).collect(),
            LengthWidth::W4 => self.column.iter().flat_map(|&len| len.to_le_bytes()).collect(),
        };
        (width, column)
    }
}

/// Why a pass over the rows ended.
enum Stop {
    /// At the end.
    End,
    /// At an int that needs this width.
    Wider(Width),
    /// At something that is not of the kind.
    Unfit,
}

/// A pass over rows of type `kind`.
struct Walk<'a> {
    items: &'a [*mut ffi::PyObject],
    kind: *mut ffi::PyTypeObject,
    shared: &'a mut Vec<*mut ffi::PyObject>,
    lengths: Lengths,
    /// Rows done.
    done: usize,
}

impl<'a> Walk<'a> {
    /// # Safety
    /// As for [`exact::items`], for as long as the walk is used.
    unsafe fn new(
        items: &'a [*mut ffi::PyObject],
        kind: *mut ffi::PyTypeObject,
        shared: &'a mut Vec<*mut ffi::PyObject>,
    ) -> Self {
        Walk { items, kind, shared, lengths: Lengths { first: None, column: Vec::new(), longest: 0 }, done: 0 }
    }

    fn numbers(mut self, row: RowKind, sequence: Sequence) -> Option<Columns> {
        // SAFETY: promised to `new`: all items are valid; rows are checked for their type before they are looked into.
        let (each, example) = unsafe {
            let mut rows = self.items.iter().take_while(|&&row| ffi::Py_TYPE(row) == self.kind);
            let first = rows.find_map(|&row| exact::items(row).first().map(|&item| (exact::items(row).len(), item)));
            first.unwrap_or((0, ffi::Py_None()))
        };
        let room = self.items.len().saturating_mul(each).min(RESERVE);
        // SAFETY: a valid object.
        let example = unsafe { ffi::Py_TYPE(example) };
        let (element, elements) = if example == &raw mut ffi::PyLong_Type {
            self.ints(room)?
        } else if example == &raw mut ffi::PyFloat_Type {
            let mut cells = Vec::with_capacity(room);
            // SAFETY: the type is checked before the value is read.
            let read = |item| unsafe {
                (ffi::PyFloat_CheckExact(item) != 0).then(|| exact::float_value(item).to_le_bytes()).ok_or(Stop::Unfit)
            };
            self.pass(&mut cells, read).ended()?;
            (ElementKind::Float, cells.into_flattened())
        } else {
            let mut cells = Vec::with_capacity(room);
            // SAFETY: valid objects.
            let read = |item| unsafe { exact::flag(item).map(flag_to_byte).ok_or(Stop::Unfit) };
            self.pass(&mut cells, read).ended()?;
            (ElementKind::Flag, cells)
        };
        let count = elements.len() / element.bytes();
        Some(self.finish(element, row, sequence, count, elements))
    }

    /// Ints, in the narrowest width that holds all of them so far.
    fn ints(&mut self, room: usize) -> Option<(ElementKind, Vec<u8>)> {
        fn widen<A: Element, B: Element>(cells: Vec<A>) -> Vec<B> {
            cells.into_iter().filter_map(|cell| B::narrow(cell.widen())).collect()
        }
        #[inline]
        fn read<E: Element>(item: *mut ffi::PyObject) -> Result<E, Stop> {
            // SAFETY: an item of a live row; the type is checked before the value is read.
            let value = unsafe {
                if ffi::PyLong_CheckExact(item) == 0 {
                    return Err(Stop::Unfit);
                }
                exact::long_value(item).ok_or(Stop::Unfit)?
            };
            E::narrow(value).ok_or(Stop::Wider(Width::for_range(value, value)))
        }
        let mut narrow: Vec<u8> = Vec::with_capacity(room);
        let (mut half, mut word): (Vec<[u8; 2]>, Vec<[u8; 4]>) = (Vec::new(), Vec::new());
        let mut wide: Vec<[u8; 8]>;
        let mut width = match self.pass(&mut narrow, read) {
            Stop::End => return Some((ElementKind::BYTE, narrow)),
            Stop::Wider(width) => width,
            Stop::Unfit => return None,
        };
        if width == Width::W2 {
            half = widen(narrow);
            narrow = Vec::new();
            width = match self.pass(&mut half, read) {
                Stop::End => return Some((ElementKind::Int(Width::W2), half.into_flattened())),
                Stop::Wider(width) => width,
                Stop::Unfit => return None,
            };
        }
        // At most one of the narrower columns holds anything.
        if width == Width::W4 {
            word = if half.is_empty() { widen(narrow) } else { widen(half) };
            (narrow, half) = (Vec::new(), Vec::new());
            match self.pass(&mut word, read) {
                Stop::End => return Some((ElementKind::Int(Width::W4), word.into_flattened())),
                Stop::Wider(_) => {}
                Stop::Unfit => return None,
            }
        }
        wide = if !word.is_empty() {
            widen(word)
        } else if !half.is_empty() {
            widen(half)
        } else {
            widen(narrow)
        };
        self.pass(&mut wide, read).ended()?;
        Some((ElementKind::Int(Width::W8), wide.into_flattened()))
    }

    /// Goes on from the row where the last pass ended. A row that cannot be finished leaves nothing in `cells`.
    #[inline]
    fn pass<E: Copy>(&mut self, cells: &mut Vec<E>, read: impl Fn(*mut ffi::PyObject) -> Result<E, Stop>) -> Stop {
        for &row in &self.items[self.done..] {
            // SAFETY: promised to `new`; the type is checked before the row is looked into.
            let items = unsafe {
                if ffi::Py_TYPE(row) != self.kind {
                    return Stop::Unfit;
                }
                exact::items(row)
            };
            let start = cells.len();
            cells.reserve(items.len());
            for &item in items {
                match read(item) {
                    Ok(cell) => cells.push(cell),
                    Err(stop) => {
                        cells.truncate(start);
                        return stop;
                    }
                }
            }
            if self.finish_row(row, items.len()).is_none() {
                return Stop::Unfit;
            }
        }
        Stop::End
    }

    /// Texts, one after another; `append` adds one and says how many bytes it has.
    fn texts(
        mut self,
        row: RowKind,
        sequence: Sequence,
        append: unsafe fn(*mut ffi::PyObject, &mut Vec<u8>) -> Option<()>,
    ) -> Option<Columns> {
        let mut bytes = Vec::with_capacity(self.items.len().saturating_mul(8).min(RESERVE));
        for &item in self.items {
            let start = bytes.len();
            // SAFETY: promised to `new`; the type is checked first.
            unsafe {
                if ffi::Py_TYPE(item) != self.kind {
                    return None;
                }
                append(item, &mut bytes)?;
            }
            self.finish_row(item, bytes.len() - start)?;
        }
        let count = bytes.len();
        Some(self.finish(ElementKind::BYTE, row, sequence, count, bytes))
    }

    #[inline]
    fn finish_row(&mut self, row: *mut ffi::PyObject, len: usize) -> Option<()> {
        self.lengths.push(self.done, len)?;
        self.done += 1;
        // With one reference, which the container has, it can be nowhere else.
        // SAFETY: a valid object.
        if unsafe { ffi::Py_REFCNT(row) } > 1 {
            self.shared.push(row);
        }
        Some(())
    }

    fn finish(
        self,
        element: ElementKind,
        row: RowKind,
        sequence: Sequence,
        count: usize,
        elements: Vec<u8>,
    ) -> Columns {
        let rows = self.items.len();
        let (length, lengths) = self.lengths.finish(rows);
        let header = Rows { element, row, sequence, length, rows: rows as u64, elements: count as u64, lazy: false };
        Columns { header, lengths, elements }
    }
}

impl Stop {
    fn ended(self) -> Option<()> {
        matches!(self, Stop::End).then_some(())
    }
}

/// # Safety
/// `op` is an exact str.
unsafe fn append_text(op: *mut ffi::PyObject, bytes: &mut Vec<u8>) -> Option<()> {
    // SAFETY: promised by the caller; a str is immutable, and its data has as many units of its kind as its length says.
    unsafe {
        let len = ffi::PyUnicode_GET_LENGTH(op) as usize;
        if len > LONGEST_TEXT {
            return None;
        }
        let data = ffi::PyUnicode_DATA(op);
        // Not through the interpreter's UTF-8 form, which it would keep with the str for ever.
        match ffi::PyUnicode_KIND(op) {
            ffi::PyUnicode_1BYTE_KIND if ffi::PyUnicode_IS_ASCII(op) != 0 => {
                bytes.extend_from_slice(core::slice::from_raw_parts(data.cast::<u8>(), len));
                Some(())
            }
            ffi::PyUnicode_1BYTE_KIND => {
                append_chars(core::slice::from_raw_parts(data.cast::<u8>(), len).iter().map(|&c| c.into()), bytes)
            }
            ffi::PyUnicode_2BYTE_KIND => {
                append_chars(core::slice::from_raw_parts(data.cast::<u16>(), len).iter().map(|&c| c.into()), bytes)
            }
            _ => append_chars(core::slice::from_raw_parts(data.cast::<u32>(), len).iter().copied(), bytes),
        }
    }
}

/// `None` for lone surrogates, which only pickle keeps.
fn append_chars(chars: impl Iterator<Item = u32>, bytes: &mut Vec<u8>) -> Option<()> {
    for c in chars {
        bytes.extend_from_slice(char::from_u32(c)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(())
}

/// # Safety
/// `op` is an exact bytes object.
unsafe fn append_bytes(op: *mut ffi::PyObject, bytes: &mut Vec<u8>) -> Option<()> {
    // SAFETY: promised by the caller; bytes are immutable.
    let data = unsafe {
        let len = ffi::PyBytes_Size(op) as usize;
        if len > LONGEST_TEXT {
            return None;
        }
        core::slice::from_raw_parts(ffi::PyBytes_AsString(op).cast::<u8>(), len)
    };
    bytes.extend_from_slice(data);
    Some(())
}

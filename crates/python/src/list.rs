//! Lists of objects that live in shared memory. `breakeven/managers.py` makes them look like the standard library's proxies.
//!
//! Objects are encoded before and decoded after the list's lock is held: no Python code ever runs under it. What needs
//! both (sorting, searching) reads a version with the objects, and changes the list only if it still has that version.

use breakeven_shm::{Block, ContainerError, Item, Items, List, Piece};
use breakeven_wire::{Kind, Token};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice, PyTuple};

use crate::codec::{self, INLINE, ScalarSpace, SmallSpace, Space};
use crate::container::{self, Name, decode, decode_parts, equal, is_scalar};
use crate::{arena, error};

/// Operations on more elements are done without the interpreter's lock.
const DETACH_FROM: u64 = 2048;

/// A list in shared memory. A handle on it is inherited by a forked child; for others see `lend` and `attach`, and for
/// processes that have the arena already, `name` and `open`.
///
/// It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, weakref, module = "breakeven._native")]
pub(crate) struct SharedList {
    list: List,
}

#[pymethods]
impl SharedList {
    /// Makes an empty list in this process's arena. `patron` is what `patron()` says in the process that shall keep the
    /// list when it is pinned, `group` a number of that process's for `release_group`.
    #[new]
    #[pyo3(signature = (patron=0, group=0))]
    fn new(py: Python<'_>, patron: u32, group: u64) -> PyResult<Self> {
        let arena = arena::arena(py)?;
        let list = List::create(&arena, patron, group).map_err(|e| error::memory(py, &e))?;
        Ok(SharedList { list })
    }

    /// A number for this process, to be given to lists as their patron.
    #[staticmethod]
    fn patron(py: Python<'_>) -> PyResult<u32> {
        container::patron(py)
    }

    /// Opens the list of that name. Raises LookupError if this process has not got its arena, ValueError if it is gone.
    #[staticmethod]
    fn open(name: Name) -> PyResult<Self> {
        Ok(SharedList { list: container::open(name, List::open)? })
    }

    /// Opens the list that `lend` described. Takes ownership of the descriptor.
    #[staticmethod]
    fn attach(arena_fd: i32, ticket: u128) -> PyResult<Self> {
        Ok(SharedList { list: container::attach(arena_fd, ticket, List::open)? })
    }

    /// What `open` takes, in any process that has the arena.
    fn name(&self) -> Name {
        container::name(&self.list)
    }

    /// The descriptor of the arena. It stays this process's: duplicate it into the child.
    fn arena_fd(&self) -> PyResult<i32> {
        container::arena_fd(&self.list)
    }

    /// What one child process needs, with the descriptor, to open the list. To be asked for once per child, since the
    /// list is kept alive for a child that has been given it.
    fn lend(&self) -> PyResult<u128> {
        container::lend(&self.list)
    }

    /// From now on the list's patron keeps it, until it calls `release_group` or ends.
    fn pin(&self) -> PyResult<()> {
        self.list.pin().map_err(|e| container::gone(&e))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.list.len().map_err(|e| container::failed(py, &e, "list index out of range"))? as usize)
    }

    /// The element at an index, or the elements of a slice as a list.
    fn get<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match Index::new(index)? {
            Index::One(index) => self.get_one(py, index),
            Index::Slice(slice) => {
                let list = PyList::empty(py);
                self.read(py, slice, &list)?;
                Ok(list.into_any())
            }
        }
    }

    /// Assigns an element, or a slice (from any iterable).
    fn set(&self, py: Python<'_>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match Index::new(index)? {
            Index::One(index) => self.store(py, value, "list assignment index out of range", |tag, payload, blocks| {
                self.list.set(index, tag, payload, blocks)
            }),
            Index::Slice(slice) => {
                if value.try_iter().is_err() {
                    let message = if slice.step == 1 {
                        "can only assign an iterable"
                    } else {
                        "must assign iterable to extended slice"
                    };
                    return Err(PyTypeError::new_err(message));
                }
                let mut items = self.encode(value)?;
                let count = items.len() as u64;
                self.edit(py, &mut items, None, move |len| slice.assign(len, count))
            }
        }
    }

    /// Deletes an element or a slice.
    fn delete(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<()> {
        match Index::new(index)? {
            Index::One(index) => {
                let mut item = Item::new();
                self.list
                    .pop(index, None, &mut item)
                    .map_err(|e| container::failed(py, &e, "list assignment index out of range"))
            }
            Index::Slice(slice) => self.edit(py, &mut Items::new(), None, move |len| Ok(slice.delete(len))),
        }
    }

    /// Adds an element at the end.
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store(py, value, "", |tag, payload, blocks| self.list.append(tag, payload, blocks))
    }

    /// Adds an element before the one at `index`.
    fn insert(&self, py: Python<'_>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = number(index, true)?;
        self.store(py, value, "", |tag, payload, blocks| self.list.insert(index, tag, payload, blocks))
    }

    /// Adds all elements of an iterable at the end, in one step. With a version: only if the list still has it; returns
    /// whether that was so.
    #[pyo3(signature = (values, version=None))]
    fn extend(&self, py: Python<'_>, values: &Bound<'_, PyAny>, version: Option<u64>) -> PyResult<bool> {
        let mut items = self.encode(values)?;
        let outcome = if items.len() as u64 >= DETACH_FROM {
            py.detach(|| self.list.extend(&mut items, version))
        } else {
            self.list.extend(&mut items, version)
        };
        unless_changed(py, outcome)
    }

    /// Removes an element and returns it.
    #[pyo3(signature = (index=None))]
    fn pop<'py>(&self, py: Python<'py>, index: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let index = match index {
            Some(index) => number(index, false)?,
            None => -1,
        };
        let mut item = Item::new();
        match self.list.pop(index, None, &mut item) {
            Ok(()) => decode(py, &mut item),
            Err(ContainerError::Range) => {
                let empty = self.list.len() == Ok(0);
                Err(PyIndexError::new_err(if empty { "pop from empty list" } else { "pop index out of range" }))
            }
            Err(error) => Err(container::failed(py, &error, "")),
        }
    }

    /// All elements, as a list.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.versioned(py)?.1)
    }

    /// The list's version, and all elements as a list.
    fn versioned<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyList>)> {
        let list = PyList::empty(py);
        let version = self.read(py, Slice::ALL, &list)?;
        Ok((version, list))
    }

    /// Looks for `value` without decoding the elements: the list's version and the index of the first equal element, or -1.
    /// None if only Python can tell, because the value or an element that comes first is of a type that may be equal to
    /// anything.
    fn find(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<(u64, i64)>> {
        let (mut found, mut sure) = (-1, true);
        let version = self.compare(py, value, |index, equal| {
            match equal {
                Some(false) => return true,
                Some(true) => found = index as i64,
                None => sure = false,
            }
            false
        })?;
        Ok(version.filter(|_| sure).map(|version| (version, found)))
    }

    /// How many elements are equal to `value`; None if only Python can tell.
    fn count(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let (mut count, mut sure) = (0, true);
        let version = self.compare(py, value, |_, equal| {
            count += u64::from(equal == Some(true));
            sure = equal.is_some();
            sure
        })?;
        Ok(version.filter(|_| sure).map(|_| count))
    }

    /// Removes the element at `index` if the list still has that version; returns whether it had.
    fn remove_at(&self, py: Python<'_>, index: i64, version: u64) -> PyResult<bool> {
        let mut item = Item::new();
        unless_changed(py, self.list.pop(index, Some(version), &mut item))
    }

    /// Brings the elements into the order of the indices given, each exactly once, if the list still has that version;
    /// returns whether it had.
    fn reorder(&self, py: Python<'_>, version: u64, order: Vec<u64>) -> PyResult<bool> {
        let mut seen = vec![false; order.len()];
        for &nth in &order {
            match seen.get_mut(nth as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(PyValueError::new_err("an order must name each index once")),
            }
        }
        let pieces: Vec<Piece> = order.into_iter().map(|nth| Piece::Keep(nth, nth + 1)).collect();
        let size = pieces.len() as u64;
        let plan = |len| if len == size { Ok(pieces.clone()) } else { Err(ContainerError::Changed) };
        let outcome = py.detach(|| self.list.edit(&mut Items::new(), Some(version), plan));
        unless_changed(py, outcome)
    }

    /// Reverses the list.
    fn reverse(&self, py: Python<'_>) -> PyResult<()> {
        let plan = |len: u64| Ok((0..len).rev().map(|nth| Piece::Keep(nth, nth + 1)).collect());
        self.edit(py, &mut Items::new(), None, plan)
    }

    /// Removes all elements.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.edit(py, &mut Items::new(), None, |_| Ok(Vec::new()))
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.SharedList {:#x}>", self.list.id().to_bits())
    }
}

impl SharedList {
    #[inline]
    fn get_one<'py>(&self, py: Python<'py>, index: i64) -> PyResult<Bound<'py, PyAny>> {
        let mut item = Item::new();
        let range = "list index out of range";
        // An element with blocks is copied, which may take long.
        if !self.list.get(index, false, &mut item).map_err(|e| container::failed(py, &e, range))? {
            py.detach(|| self.list.get(index, true, &mut item)).map_err(|e| container::failed(py, &e, range))?;
        }
        decode(py, &mut item)
    }

    /// Encodes a value and hands it to an operation.
    #[inline]
    fn store(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        range: &'static str,
        mut operation: impl FnMut(u16, &[u8], &mut Vec<Block>) -> Result<(), ContainerError> + Send,
    ) -> PyResult<()> {
        let mut space: ScalarSpace = [0; 16];
        let Some(len) = codec::scalar(value, &mut space) else { return self.store_any(py, value, range, operation) };
        operation(Kind::Value.tag(), &space[..len], &mut Vec::new()).map_err(|e| container::failed(py, &e, range))
    }

    /// Not inlined, so that a number does not pay for this one's space on the stack.
    #[inline(never)]
    fn store_any(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        range: &'static str,
        mut operation: impl FnMut(u16, &[u8], &mut Vec<Block>) -> Result<(), ContainerError> + Send,
    ) -> PyResult<()> {
        let mut space: SmallSpace = [0; 128];
        if let Some(len) = codec::small(value, &mut space) {
            return operation(Kind::Value.tag(), &space[..len], &mut Vec::new())
                .map_err(|e| container::failed(py, &e, range));
        }
        let mut space: Space = [0; INLINE];
        let (tag, payload, mut blocks) = container::fill_stored(&self.list.arena(), value, &mut space)?;
        operation(tag, &space[..payload], &mut blocks).map_err(|e| container::failed(py, &e, range))
    }

    /// Encodes all that an iterable yields.
    fn encode(&self, values: &Bound<'_, PyAny>) -> PyResult<Items> {
        // A hint only: whatever is not a plain list may say anything.
        let expected = values.cast_exact::<PyList>().map_or(0, |list| list.len());
        let mut items = Items::with_capacity(expected);
        let arena = self.list.arena();
        let mut one = |value: &Bound<'_, PyAny>| container::push(&mut items, &arena, value);
        if let Ok(list) = values.cast_exact::<PyList>() {
            list.iter().try_for_each(|value| one(&value))?;
        } else if let Ok(tuple) = values.cast_exact::<PyTuple>() {
            tuple.iter().try_for_each(|value| one(&value))?;
        } else {
            values.try_iter()?.try_for_each(|value| one(&value?))?;
        }
        Ok(items)
    }

    fn read(&self, py: Python<'_>, slice: Slice, list: &Bound<'_, PyList>) -> PyResult<u64> {
        let mut items = Items::new();
        let outcome = py.detach(|| self.list.read(|len| slice.indices(len), &mut items));
        let version = outcome.map_err(|e| container::failed(py, &e, "list index out of range"))?;
        items.take_each(|tag, payload, blocks| list.append(decode_parts(py, tag, payload, blocks)?))?;
        Ok(version)
    }

    /// Tells `look` of each element whether it is equal to `value`, as far as that can be told from its bytes, until
    /// `look` has seen enough. Returns the list's version; None if it cannot be told for any element.
    fn compare(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        mut look: impl FnMut(u64, Option<bool>) -> bool,
    ) -> PyResult<Option<u64>> {
        let mut space: SmallSpace = [0; 128];
        let Some(len) = codec::small(value, &mut space) else { return Ok(None) };
        let payload = &space[..len];
        let tag = Kind::Value.tag();
        let Some(wanted) = codec::first_token(tag, payload).filter(is_scalar) else { return Ok(None) };
        let outcome = self.list.visit(|index, other_tag, other, blocks| {
            if other_tag == tag && other == payload {
                // Not a number is not even equal to itself.
                return look(index, Some(!matches!(wanted, Token::Float(value) if value.is_nan())));
            }
            let token = if blocks { None } else { codec::first_token(other_tag, other) };
            look(index, token.and_then(|token| equal(&wanted, &token)))
        });
        outcome.map(Some).map_err(|e| container::failed(py, &e, ""))
    }

    fn edit(
        &self,
        py: Python<'_>,
        items: &mut Items,
        version: Option<u64>,
        plan: impl Fn(u64) -> Result<Vec<Piece>, ContainerError> + Send,
    ) -> PyResult<()> {
        let count = items.len();
        let outcome = py.detach(|| self.list.edit(items, version, plan));
        outcome.map_err(|e| match e {
            ContainerError::Size(size) => PyValueError::new_err(format!(
                "attempt to assign sequence of size {count} to extended slice of size {size}"
            )),
            e => container::failed(py, &e, "list index out of range"),
        })
    }
}

/// What stands between the brackets.
enum Index {
    One(i64),
    Slice(Slice),
}

impl Index {
    #[inline]
    fn new(index: &Bound<'_, PyAny>) -> PyResult<Index> {
        match index.cast_exact::<PySlice>() {
            Err(_) => Ok(Index::One(number(index, false)?)),
            Ok(slice) => Ok(Index::Slice(Slice::new(slice)?)),
        }
    }
}

/// An index. One that is too large for the machine is out of range; as a position, it is an error.
#[inline]
fn number(index: &Bound<'_, PyAny>, position: bool) -> PyResult<i64> {
    // SAFETY: `index` is valid, and so is what `PyNumber_Index` returns, unless it is null with an exception set.
    let value = unsafe {
        if ffi::PyIndex_Check(index.as_ptr()) == 0 {
            let kind = index.get_type().name()?;
            return Err(PyTypeError::new_err(if position {
                format!("'{kind}' object cannot be interpreted as an integer")
            } else {
                format!("list indices must be integers or slices, not {kind}")
            }));
        }
        if position {
            let number = Bound::from_owned_ptr_or_err(index.py(), ffi::PyNumber_Index(index.as_ptr()))?;
            ffi::PyLong_AsSsize_t(number.as_ptr())
        } else {
            ffi::PyNumber_AsSsize_t(index.as_ptr(), ffi::PyExc_IndexError)
        }
    };
    if value == -1
        && let Some(error) = PyErr::take(index.py())
    {
        return Err(error);
    }
    Ok(value as i64)
}

/// A slice, whose meaning depends on the length that the list has when it is used.
#[derive(Clone, Copy)]
struct Slice {
    start: isize,
    stop: isize,
    step: isize,
}

impl Slice {
    const ALL: Slice = Slice { start: 0, stop: isize::MAX, step: 1 };

    fn new(slice: &Bound<'_, PySlice>) -> PyResult<Slice> {
        let (mut start, mut stop, mut step) = (0, 0, 0);
        // SAFETY: a valid slice object, and room for the three numbers.
        let outcome = unsafe { ffi::PySlice_Unpack(slice.as_ptr(), &mut start, &mut stop, &mut step) };
        if outcome < 0 { Err(PyErr::fetch(slice.py())) } else { Ok(Slice { start, stop, step }) }
    }

    /// First index, step, number of elements.
    fn indices(self, len: u64) -> (u64, i64, u64) {
        let (mut start, mut stop) = (self.start, self.stop);
        // SAFETY: arithmetic on three numbers: needs neither the interpreter nor its lock. The step is not zero.
        let count = unsafe { ffi::PySlice_AdjustIndices(len as isize, &mut start, &mut stop, self.step) };
        // An empty slice may start at -1 or at the end; nobody looks there.
        (start.max(0) as u64, self.step as i64, count.max(0) as u64)
    }

    fn assign(self, len: u64, new: u64) -> Result<Vec<Piece>, ContainerError> {
        let (start, step, count) = self.indices(len);
        if step == 1 {
            let (start, end) = (start.min(len), (start + count).min(len));
            return Ok(vec![Piece::Keep(0, start), Piece::New(0, new), Piece::Keep(end, len)]);
        }
        if new != count {
            return Err(ContainerError::Size(count));
        }
        let assigned =
            |nth: u64| if step > 0 { Piece::New(nth, nth + 1) } else { Piece::New(count - 1 - nth, count - nth) };
        Ok(self.gaps(len, assigned))
    }

    fn delete(self, len: u64) -> Vec<Piece> {
        self.gaps(len, |_| Piece::New(0, 0))
    }

    /// The list with each element of the slice, counted from the left, replaced by a piece.
    fn gaps(self, len: u64, piece: impl Fn(u64) -> Piece) -> Vec<Piece> {
        let (start, step, count) = self.indices(len);
        let stride = step.unsigned_abs();
        let leftmost = if step > 0 || count == 0 { start } else { start - (count - 1) * stride };
        let mut pieces = Vec::new();
        let mut kept = 0;
        for nth in 0..count {
            let at = leftmost + nth * stride;
            pieces.extend([Piece::Keep(kept, at), piece(nth)]);
            kept = at + 1;
        }
        pieces.push(Piece::Keep(kept, len));
        pieces
    }
}

fn unless_changed(py: Python<'_>, outcome: Result<(), ContainerError>) -> PyResult<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(ContainerError::Changed) => Ok(false),
        Err(error) => Err(container::failed(py, &error, "list index out of range")),
    }
}

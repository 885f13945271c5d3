//! What lists and dicts in shared memory have in common: names and handles, objects to elements and back.
//!
//! Objects are encoded before and decoded after a container's lock is held: no Python code ever runs under it.

use core::cell::Cell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use breakeven_shm::{Arena, Block, Container, ContainerError, Item, Items, OpenError, RootId, Ticket};
use breakeven_wire::{Kind, Token};
use pyo3::exceptions::{PyIndexError, PyLookupError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::channel::fill;
use crate::codec::{self, INLINE, ScalarSpace, Space, Storage};
use crate::{arena, error};

/// Device and inode of the arena's memory file, and the container's name in it.
pub(crate) type Name = (u64, u64, u64);

thread_local! {
    /// How many values this thread is encoding for a container at the moment.
    static STORING: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread is just pickling a value that is to be stored in a list or dict. What a pickled reference leads to
/// must then be kept alive by somebody: the container holds only the reference.
#[pyfunction]
pub(crate) fn storing() -> bool {
    STORING.get() > 0
}

struct Storing;

impl Storing {
    fn new() -> Self {
        STORING.set(STORING.get() + 1);
        Storing
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        STORING.set(STORING.get() - 1);
    }
}

/// Lets go of the pinned lists and dicts of which this process is the patron, under this `group`.
#[pyfunction]
pub(crate) fn release_group(group: u64) {
    Arena::all().for_each(|arena| Container::release_group(&arena, group));
}

pub(crate) fn patron(py: Python<'_>) -> PyResult<u32> {
    Container::patron(&arena::arena(py)?).map_err(|e| error::create(&e))
}

pub(crate) fn open<T>(name: Name, opened: impl FnOnce(&Arena, Ticket) -> Result<T, OpenError>) -> PyResult<T> {
    let (device, inode, id) = name;
    let arena = Arena::all()
        .find(|arena| arena.identity() == (device, inode))
        .ok_or_else(|| PyLookupError::new_err("this process has not got the memory that it lies in"))?;
    opened(&arena, Ticket { id: RootId::from_bits(id), lender: 0 }).map_err(|e| gone(&e))
}

pub(crate) fn attach<T>(
    arena_fd: i32,
    ticket: u128,
    opened: impl FnOnce(&Arena, Ticket) -> Result<T, OpenError>,
) -> PyResult<T> {
    if arena_fd < 0 {
        return Err(PyValueError::new_err("arena_fd must be an open file descriptor"));
    }
    // SAFETY: the caller gives the descriptor away, as documented; nothing else closes it.
    let arena_fd = unsafe { OwnedFd::from_raw_fd(arena_fd) };
    let arena = Arena::attach(arena_fd).map_err(|e| error::attach(&e))?;
    let ticket = Ticket { id: RootId::from_bits(ticket as u64), lender: (ticket >> 64) as u32 };
    opened(&arena, ticket).map_err(|e| gone(&e))
}

pub(crate) fn name(container: &Container) -> Name {
    let (device, inode) = container.arena().identity();
    (device, inode, container.id().to_bits())
}

pub(crate) fn arena_fd(container: &Container) -> PyResult<i32> {
    let fd = container.arena().fd().ok_or_else(|| PyOSError::new_err("the arena has no descriptor"))?;
    Ok(fd.as_raw_fd())
}

pub(crate) fn lend(container: &Container) -> PyResult<u128> {
    let ticket = container.lend().map_err(|e| gone(&e))?;
    Ok(u128::from(ticket.id.to_bits()) | u128::from(ticket.lender) << 64)
}

/// Encodes a value that is to be stored: tag, length of the payload in `space`, blocks.
pub(crate) fn fill_stored(
    arena: &Arena,
    value: &Bound<'_, PyAny>,
    space: &mut Space,
) -> PyResult<(u16, usize, Vec<Block>)> {
    let _storing = Storing::new();
    fill(value.py(), arena, value, space, None)?
}

/// Encodes a value and adds it to `items`.
pub(crate) fn push(items: &mut Items, arena: &Arena, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut scalar: ScalarSpace = [0; 16];
    if let Some(len) = codec::scalar(value, &mut scalar) {
        items.push(Kind::Value.tag(), &scalar[..len], Vec::new());
        return Ok(());
    }
    let mut space: Space = [0; INLINE];
    let (tag, payload, blocks) = fill_stored(arena, value, &mut space)?;
    items.push(tag, &space[..payload], blocks);
    Ok(())
}

#[inline]
pub(crate) fn decode<'py>(py: Python<'py>, item: &mut Item) -> PyResult<Bound<'py, PyAny>> {
    let blocks = core::mem::take(&mut item.blocks);
    decode_parts(py, item.tag, item.payload(), blocks)
}

#[inline]
pub(crate) fn decode_parts<'py>(
    py: Python<'py>,
    tag: u16,
    payload: &[u8],
    blocks: Vec<Block>,
) -> PyResult<Bound<'py, PyAny>> {
    if blocks.is_empty() {
        return codec::decode_inline(py, tag, payload);
    }
    codec::decode(py, tag, payload, blocks.into_iter().map(Storage::Arena).collect())
}

pub(crate) fn is_scalar(token: &Token<'_>) -> bool {
    matches!(token, Token::None | Token::Bool(_) | Token::Int(_) | Token::Float(_) | Token::Str(_) | Token::Bytes(_))
}

/// Whether a scalar is equal to another value, by Python's rules; None where that takes more than is done here.
pub(crate) fn equal(scalar: &Token<'_>, other: &Token<'_>) -> Option<bool> {
    /// Integers up to this size are doubles, exactly.
    const EXACT: u64 = 1 << 53;
    let number = |token: &Token<'_>| match *token {
        Token::Bool(value) => Some(i64::from(value)),
        Token::Int(value) => Some(value),
        _ => None,
    };
    Some(match (scalar, other) {
        (Token::Str(one), Token::Str(two)) => one == two,
        (Token::Bytes(one), Token::Bytes(two)) => one == two,
        (Token::None, Token::None) => true,
        (Token::Float(one), Token::Float(two)) => one == two,
        (Token::Float(float), token) | (token, Token::Float(float)) => match number(token) {
            Some(int) if int.unsigned_abs() <= EXACT => int as f64 == *float,
            Some(_) => return None,
            None if matches!(token, Token::WideInt(_)) => return None,
            None => false,
        },
        // Scalars of different kinds, integers of different size, containers.
        (one, two) => number(one).is_some() && number(one) == number(two),
    })
}

#[cold]
pub(crate) fn failed(py: Python<'_>, failure: &ContainerError, range: &'static str) -> PyErr {
    match failure {
        ContainerError::Range => PyIndexError::new_err(range),
        ContainerError::Memory(reason) => error::memory(py, reason),
        ContainerError::Register(reason) => error::create(reason),
        ContainerError::Corrupt => PyOSError::new_err(failure.to_string()),
        ContainerError::Gone => PyValueError::new_err(failure.to_string()),
        ContainerError::Changed | ContainerError::Size(_) | ContainerError::TooLong => {
            PyRuntimeError::new_err(failure.to_string())
        }
    }
}

#[cold]
pub(crate) fn gone(failure: &OpenError) -> PyErr {
    match failure {
        OpenError::Gone => PyValueError::new_err(
            "the shared list or dict is gone: no process used it any more (keep a reference to it, or put it into \
             another one)",
        ),
        OpenError::Create(reason) => error::create(reason),
    }
}

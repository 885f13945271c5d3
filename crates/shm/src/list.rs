//! Lists: sequences of small values, with blocks for large ones, that any number of processes
//! read and change in place.
//!
//! ```text
//!  root block (ListHeader, then handles)
//!  +0    state     u32   ALIVE, or 0 once it is being taken apart
//!  +4    patron    u32   participant that keeps it while it is pinned
//!  +8    group     u64   the patron's name for a set of lists that it lets go together
//!  +16   pinned    u32   1: the patron's handles include one for the pin
//!  +64   lock      64    guards everything below and the table
//!  +128  table     u64   index + 1 | generation << 32; THE STORE THAT COMMITS A REBUILD
//!  +136  version   u64   raised before every change
//!
//!  table block
//!  +0    span      u64   first cell in use | number of elements << 32; THE STORE THAT COMMITS
//!                        append, prepend, and removal at either end
//!  +8    capacity  u32   cells
//!  +16   used      u64   bytes of the heap that are used, whether or not anything refers to them
//!  +64   [Cell; capacity]
//!  +..   heap            to the end of the block, in grains of 16 bytes
//!
//!  Cell, 32 bytes
//!  +0    head      u64   bit 0: which half counts; bit 1: far; 16..32: tag; 32..64: length of the
//!                        payload; THE STORE THAT COMMITS AN ASSIGNMENT
//!  +8    half 0    12    near: a payload of up to 12 bytes; far: heap offset in grains (u32),
//!  +20   half 1    12    number of blocks (u32)
//!
//!  heap record: [BlockRef; blocks], payload
//! ```
//!
//! An assignment writes the half that does not count and then the head: numbers and short strings
//! change in place, without an allocation. What does not fit there goes to the heap behind the
//! cells, which is only ever appended to; when it is full, what is still referred to moves to a
//! new table. Everything that moves elements builds a new table as well. Blocks of elements belong
//! to the list from the commit on.
//!
//! | killed | leaves |
//! |---|---|
//! | while it writes a half, cells outside the span, the heap, a new table | nothing that anybody looks at; a new table and new blocks are the dead process's, and are taken back with it |
//! | after `version`, before the commit | the list as it was; who compares versions looks once more in vain |
//! | after it made blocks (or a table) that are about to leave the list its own, before the commit | the list as it was: reaping finds them reachable and leaves them to the list |
//! | after the commit, before it gave them back | the list as it is to be; they are reachable no more, and the dead process's |
//!
//! Hence nothing has to be repaired after an owner of the lock died. No operation waits for
//! anything but the lock, or runs foreign code while it holds it.
//!
//! A list lives while a process has a handle on it. One that is named inside another list's
//! element may have none for a while; it is *pinned*: its patron gets a handle, which it gives
//! back when it lets go of the whole group, or dies.

use crate::arena::{Arena, Block, BlockRef};
use crate::channel::{MAX_INLINE, MAX_MESSAGE_BLOCKS, Ticket};
use crate::crash::{point, store, store64};
use crate::error::{AllocError, CreateError, OpenError};
use crate::layout::{Descriptor, SharedRepr, kind};
use crate::lock::{Guard, lock};
use crate::participant::Reachable;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::root::{self, BODY_AT, RootId};
use crate::sys::robust::RobustMutex;
use std::fmt;
use std::mem::MaybeUninit;

const ALIVE: u32 = 1;
const CELLS_AT: u64 = 64;
const CELL: u64 = size_of::<Cell>() as u64;
const NEAR: usize = 12;
const GRAIN: u64 = 16;
const REFERENCE: usize = size_of::<BlockRef>();
/// Cells that a table has at least. With the header they fill the smallest block.
const FEWEST_CELLS: u64 = 6;

const HALF_BIT: u64 = 1;
const FAR_BIT: u64 = 2;

#[repr(C)]
pub(crate) struct ListHeader {
    state: AtomicU32,
    pub(crate) patron: AtomicU32,
    pub(crate) group: AtomicU64,
    pub(crate) pinned: AtomicU32,
    _pad: [AtomicU32; 11],
    lock: RobustMutex,
    table: AtomicU64,
    version: AtomicU64,
}

#[repr(C)]
struct TableHeader {
    span: AtomicU64,
    capacity: AtomicU32,
    _pad: AtomicU32,
    used: AtomicU64,
}

#[repr(C, align(32))]
struct Cell {
    head: AtomicU64,
    halves: [[AtomicU32; NEAR / 4]; 2],
}

// SAFETY: atomics and a lock only.
unsafe impl SharedRepr for ListHeader {}
// SAFETY: atomics only.
unsafe impl SharedRepr for TableHeader {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Cell {}

const _: () = {
    assert!(size_of::<ListHeader>() <= root::HANDLES_AT as usize);
    assert!(core::mem::offset_of!(ListHeader, group) == 8);
    assert!(core::mem::offset_of!(ListHeader, pinned) == 16);
    assert!(core::mem::offset_of!(ListHeader, lock) == 64);
    assert!(core::mem::offset_of!(ListHeader, table) == 128);
    assert!(core::mem::offset_of!(ListHeader, version) == 136);
    assert!(size_of::<TableHeader>() <= CELLS_AT as usize);
    assert!(core::mem::offset_of!(TableHeader, used) == 16);
    assert!(size_of::<Cell>() == 32);
    assert!(core::mem::offset_of!(Cell, halves) == 8);
    assert!(CELLS_AT + FEWEST_CELLS * CELL == 256);
    assert!(REFERENCE == GRAIN as usize);
    assert!(CELLS_AT.is_multiple_of(CELL) && CELL.is_multiple_of(GRAIN));
};

/// Why an operation on a list was not done. The list is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListError {
    /// There is no element of that index.
    Range,
    /// The list has changed since the version that was named.
    Changed,
    /// An extended slice of that many elements takes exactly as many.
    Size(u64),
    /// There is no memory for it.
    Memory(AllocError),
    /// A value is longer than an element can be, but for its blocks.
    TooLong,
    /// The list does not exist any more.
    Gone,
    /// The list holds something that no operation writes: some process wrote where it must not.
    Corrupt,
    /// This process could not be registered.
    Register(CreateError),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListError::Range => f.write_str("the index is out of range"),
            ListError::Changed => f.write_str("the list was changed meanwhile"),
            ListError::Size(size) => {
                write!(f, "an extended slice of {size} elements takes exactly as many")
            }
            ListError::Memory(error) => error.fmt(f),
            ListError::TooLong => f.write_str("the value is longer than an element; put it into a block"),
            ListError::Gone => f.write_str("the list does not exist any more"),
            ListError::Corrupt => f.write_str(
                "the list's shared memory was overwritten by something else; it cannot be used \
                 any more",
            ),
            ListError::Register(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ListError {}

impl From<AllocError> for ListError {
    fn from(error: AllocError) -> ListError {
        ListError::Memory(error)
    }
}

impl From<OpenError> for ListError {
    fn from(error: OpenError) -> ListError {
        match error {
            OpenError::Gone => ListError::Gone,
            OpenError::Create(error) => ListError::Register(error),
        }
    }
}

/// One element that was read: a copy, with blocks of this process's own.
#[derive(Debug)]
pub struct Item {
    /// The writer's tag.
    pub tag: u16,
    /// The element's blocks.
    pub blocks: Vec<Block>,
    len: usize,
    payload: [MaybeUninit<u8>; MAX_INLINE],
}

impl Item {
    /// A place to read an element into; reusable.
    #[allow(clippy::new_without_default, reason = "a kilobyte that one places deliberately")]
    #[inline]
    pub fn new() -> Item {
        Item { tag: 0, blocks: Vec::new(), len: 0, payload: [const { MaybeUninit::uninit() }; MAX_INLINE] }
    }

    /// The bytes that were written.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        // SAFETY: `set` initialised the first `len` bytes (0 before anything was read).
        unsafe { core::slice::from_raw_parts(self.payload.as_ptr().cast(), self.len) }
    }

    #[inline]
    fn set(&mut self, tag: u16, bytes: &[u8]) {
        assert!(bytes.len() <= MAX_INLINE);
        self.tag = tag;
        // SAFETY: the destination is `MAX_INLINE` bytes long, which was just checked; one side is
        // ours alone.
        unsafe {
            let to = self.payload.as_mut_ptr().cast();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.len = bytes.len();
    }
}

/// Several values, to be written or read together. Short ones are kept as in a cell.
#[derive(Debug, Default)]
pub struct Items {
    entries: Vec<Entry>,
    /// Payloads of the others.
    bytes: Vec<u8>,
    blocks: Vec<Vec<Block>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    len: u16,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Near([u8; NEAR]),
    /// Start in `bytes`, index in `blocks`.
    Far(usize, u32),
}

impl Items {
    /// None yet.
    pub fn new() -> Items {
        Items::default()
    }

    /// None yet, and room for so many short ones.
    pub fn with_capacity(count: usize) -> Items {
        Items { entries: Vec::with_capacity(count), ..Items::default() }
    }

    /// Adds a value. `payload` is at most [`MAX_INLINE`] bytes and `blocks` at most
    /// [`MAX_MESSAGE_BLOCKS`]; a longer one panics here rather than in shared memory.
    #[inline(always)]
    pub fn push(&mut self, tag: u16, payload: &[u8], blocks: Vec<Block>) {
        if payload.len() > NEAR || !blocks.is_empty() {
            return self.push_far(tag, payload, blocks);
        }
        let len = payload.len() as u16;
        self.entries.push(Entry { tag, len, place: Place::Near(pad(payload)) });
    }

    fn push_far(&mut self, tag: u16, payload: &[u8], blocks: Vec<Block>) {
        let len = payload.len() as u16;
        assert!(payload.len() <= MAX_INLINE && blocks.len() <= MAX_MESSAGE_BLOCKS);
        let place = Place::Far(self.bytes.len(), self.blocks.len() as u32);
        self.bytes.extend_from_slice(payload);
        self.blocks.push(blocks);
        self.entries.push(Entry { tag, len, place });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Hands each value to `take`, in order: tag, payload, blocks. Ends at the first error.
    pub fn take_each<E>(&mut self, mut take: impl FnMut(u16, &[u8], Vec<Block>) -> Result<(), E>) -> Result<(), E> {
        for entry in &self.entries {
            let len = usize::from(entry.len);
            match entry.place {
                Place::Near(near) => take(entry.tag, &near[..len], Vec::new())?,
                Place::Far(start, blocks) => {
                    let blocks = core::mem::take(&mut self.blocks[blocks as usize]);
                    take(entry.tag, &self.bytes[start..start + len], blocks)?;
                }
            }
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.blocks.clear();
    }

    #[inline]
    fn value(&self, nth: usize) -> Value<'_> {
        let entry = &self.entries[nth];
        let len = usize::from(entry.len);
        let body = match entry.place {
            Place::Near(near) => Body::Near(near),
            Place::Far(start, blocks) => Body::Far(&self.bytes[start..start + len], &self.blocks[blocks as usize]),
        };
        Value { tag: entry.tag, len: entry.len, body }
    }

    /// Bytes of heap that they need.
    fn heap(&self) -> u64 {
        if self.blocks.is_empty() {
            return 0;
        }
        (0..self.len()).map(|nth| self.value(nth).heap()).sum()
    }

    /// The blocks are the list's now.
    fn given(&mut self) {
        for blocks in &mut self.blocks {
            blocks.drain(..).for_each(core::mem::forget);
        }
        self.clear();
    }
}

/// Where an element of a list as it is to be comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Elements `from..to` of the list as it is. Each may be kept once.
    Keep(u64, u64),
    /// Values `from..to` of those given.
    New(u64, u64),
}

#[derive(Clone, Copy)]
struct Value<'a> {
    tag: u16,
    len: u16,
    body: Body<'a>,
}

#[derive(Clone, Copy)]
enum Body<'a> {
    Near([u8; NEAR]),
    Far(&'a [u8], &'a [Block]),
}

impl<'a> Value<'a> {
    #[inline]
    fn new(tag: u16, payload: &'a [u8], blocks: &'a [Block]) -> Value<'a> {
        let near = payload.len() <= NEAR && blocks.is_empty();
        let body = if near { Body::Near(pad(payload)) } else { Body::Far(payload, blocks) };
        Value { tag, len: payload.len() as u16, body }
    }

    #[inline]
    fn heap(&self) -> u64 {
        match self.body {
            Body::Near(_) => 0,
            Body::Far(payload, blocks) => record_len(blocks.len(), payload.len()),
        }
    }
}

/// A short payload in the length of a cell's half. Copies of fixed lengths that may overlap: a
/// call for a few bytes would cost more than the bytes.
#[inline(always)]
fn pad(payload: &[u8]) -> [u8; NEAR] {
    let mut near = [0; NEAR];
    match (payload.first_chunk::<8>(), payload.first_chunk::<4>(), payload.last_chunk::<4>()) {
        (Some(first), _, Some(last)) if payload.len() <= NEAR => {
            near[..8].copy_from_slice(first);
            near[payload.len() - 4..payload.len()].copy_from_slice(last);
        }
        (None, Some(first), Some(last)) => {
            near[..4].copy_from_slice(first);
            near[payload.len() - 4..payload.len()].copy_from_slice(last);
        }
        _ => {
            for (to, from) in near.iter_mut().zip(payload) {
                *to = *from;
            }
        }
    }
    near
}

fn record_len(blocks: usize, payload: usize) -> u64 {
    ((blocks * REFERENCE + payload) as u64).next_multiple_of(GRAIN)
}

/// A handle on a list. Usable from any thread.
#[derive(Debug)]
pub struct List {
    core: Core,
    id: RootId,
    /// The participant on whose account this handle is; after a fork, the parent (see `enter`).
    holder: AtomicU32,
}

impl List {
    /// Makes an empty list. `patron` is the participant that keeps it while it is pinned, 0 for
    /// this process; `group` is the patron's name for the lists that
    /// [`release_group`](Self::release_group) lets go together.
    pub fn create(arena: &Arena, patron: u32, group: u64) -> Result<List, AllocError> {
        let mut root = arena.alloc(BODY_AT as usize)?;
        root.as_mut_slice().fill(0);
        let me = root.owner();
        let descriptor = arena.descriptor(root.index()).expect("a block of ours");
        let (header_at, _) = arena.extent(descriptor).expect("a block of ours");
        let address = arena.inner.segment.address(header_at, size_of::<ListHeader>());
        let raw = address.cast::<ListHeader>().as_ptr();
        // SAFETY: the block is large enough, aligned, and nobody else's yet.
        unsafe { RobustMutex::init(&raw mut (*raw).lock) };
        let core = Core { arena: *arena, header_at };
        let header = core.header();
        let (block, table) = Table::create(arena, me, FEWEST_CELLS, 0)?;
        header.table.store(table.word(), Relaxed);
        header.patron.store(if patron == 0 { me } else { patron }, Relaxed);
        header.group.store(group, Relaxed);
        header.state.store(ALIVE, Relaxed);
        let id = root::commit(arena, root, kind::LIST);
        core::mem::forget(block); // the list's
        Ok(List { core, id, holder: AtomicU32::new(me) })
    }

    /// This process as a patron.
    pub fn patron(arena: &Arena) -> Result<u32, CreateError> {
        arena.me()
    }

    /// Opens a list that another process (or this one) made. What the ticket's lender keeps for us
    /// goes back.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<List, OpenError> {
        root::acquire(arena, ticket.id, kind::LIST)?;
        if ticket.lender != 0 {
            root::release(arena, ticket.id, ticket.lender);
        }
        let descriptor = arena.descriptor(ticket.id.index).ok_or(OpenError::Gone)?;
        let (header_at, _) = arena.extent(descriptor).ok_or(OpenError::Gone)?;
        let holder = AtomicU32::new(arena.inner.me.get());
        Ok(List { core: Core { arena: *arena, header_at }, id: ticket.id, holder })
    }

    /// A ticket for a child that is being started. The list stays alive until the child has opened
    /// it (or this process ends).
    pub fn lend(&self) -> Result<Ticket, OpenError> {
        self.enter()?;
        let lender = root::lend(&self.core.arena, self.id, kind::LIST)?;
        Ok(Ticket { id: self.id, lender })
    }

    /// From now on the list's patron keeps it, until it lets go of its group. Without effect if it
    /// is gone.
    pub fn pin(&self) -> Result<(), OpenError> {
        self.enter()?;
        root::pin(&self.core.arena, self.id, self.core.header());
        Ok(())
    }

    /// Takes the pins of all lists of a group of this process away. Lists that nobody has a handle
    /// on end.
    pub fn release_group(arena: &Arena, group: u64) {
        let me = arena.inner.me.get();
        if me == 0 {
            return;
        }
        root::unpin(arena, me, group);
    }

    /// The list's name.
    pub fn id(&self) -> RootId {
        self.id
    }

    /// The arena that it lies in.
    pub fn arena(&self) -> Arena {
        self.core.arena
    }

    /// This process's participant id, for which this handle is counted (see `Channel::enter`).
    #[inline]
    fn enter(&self) -> Result<u32, OpenError> {
        let me = self.core.arena.me().map_err(OpenError::Create)?;
        if me != self.holder.load(Relaxed) {
            self.adopt(me)?;
        }
        Ok(me)
    }

    /// First use of a handle that came through a fork (see `Channel::adopt`).
    #[cold]
    fn adopt(&self, me: u32) -> Result<(), OpenError> {
        let arena = &self.core.arena;
        let holder = self.holder.load(Relaxed);
        let inherited = arena.inherited(me);
        if !inherited {
            root::acquire(arena, self.id, kind::LIST)?;
        }
        let adopted = self.holder.compare_exchange(holder, me, Relaxed, Relaxed);
        if adopted.is_err() && !inherited {
            root::release(arena, self.id, me); // another thread was faster
        }
        Ok(())
    }

    /// Runs `operation` under the lock, and gives the blocks back afterwards that it left in
    /// `gone`, whose owner this process is by then. If there is no memory, dead processes are
    /// looked for and it runs once more.
    #[inline]
    fn locked<T>(
        &self,
        mut operation: impl FnMut(&Core, u32, &mut Vec<BlockRef>) -> Result<T, ListError>,
    ) -> Result<T, ListError> {
        let mut gone = Vec::new();
        let mut outcome = self.attempt(&mut operation, &mut gone);
        if let Err(ListError::Memory(_)) = outcome {
            self.core.arena.reap();
            outcome = self.attempt(&mut operation, &mut gone);
        }
        for reference in gone {
            self.core.arena.release(reference.index);
        }
        outcome
    }

    #[inline]
    fn attempt<T>(
        &self,
        operation: &mut impl FnMut(&Core, u32, &mut Vec<BlockRef>) -> Result<T, ListError>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<T, ListError> {
        let me = self.enter()?;
        let guard = self.core.lock();
        if self.core.header().state.load(Relaxed) != ALIVE {
            return Err(ListError::Gone);
        }
        let outcome = operation(&self.core, me, gone);
        drop(guard);
        outcome
    }

    /// How many elements there are.
    #[allow(clippy::len_without_is_empty, reason = "it can fail, and is out of date at once")]
    pub fn len(&self) -> Result<u64, ListError> {
        self.locked(|core, _, _| Ok(core.table()?.span()?.1))
    }

    /// Reads an element; negative indices count from the end. With `copy_blocks` unset an element
    /// that has blocks is not read, and the answer is false: copying them may take long.
    pub fn get(&self, index: i64, copy_blocks: bool, item: &mut Item) -> Result<bool, ListError> {
        item.blocks.clear();
        self.locked(|core, me, _| {
            let table = core.table()?;
            let (first, len) = table.span()?;
            let content = table.read(first + resolve(index, len)?)?;
            if content.blocks > 0 {
                if !copy_blocks {
                    return Ok(false);
                }
                item.blocks = table.copy_blocks(me, &content)?;
            }
            item.set(content.tag, table.payload(&content)?);
            Ok(true)
        })
    }

    /// Assigns an element. On success `blocks` is empty: they are the list's.
    pub fn set(&self, index: i64, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ListError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let mut table = core.table()?;
            let (mut first, len) = table.span()?;
            let nth = resolve(index, len)?;
            if value.heap() > table.heap_left() {
                let reserve = Reserve { heap: value.heap(), ..Reserve::default() };
                table = core.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
                first = table.span()?.0;
            }
            core.changing();
            let old = table.read(first + nth)?;
            table.own_blocks(me, &old, gone)?;
            table.assign(first + nth, value); // commits
            Ok(())
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds an element before the one at `index`, which is brought into range. On success `blocks`
    /// is empty.
    pub fn insert(&self, index: i64, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ListError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let table = core.table()?;
            let (_, len) = table.span()?;
            let nth = if index < 0 { index + len as i64 } else { index }.clamp(0, len as i64) as u64;
            if nth == len {
                return core.append(me, table, 1, value.heap(), |_| value, gone);
            }
            core.changing();
            if nth == 0 {
                return core.prepend(me, table, value, gone);
            }
            let pieces = [Piece::Keep(0, nth), Piece::New(0, 1), Piece::Keep(nth, len)];
            let reserve = Reserve { back: 1, ..Reserve::default() };
            core.rebuild(me, &table, &pieces, Some(&|_| value), reserve, gone).map(drop)
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds an element at the end. On success `blocks` is empty.
    #[inline]
    pub fn append(&self, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ListError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let table = core.table()?;
            core.append(me, table, 1, value.heap(), |_| value, gone)
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds elements at the end, all in one step; only if the list is still of version `expected`,
    /// where one is given. On success `items` is empty.
    pub fn extend(&self, items: &mut Items, expected: Option<u64>) -> Result<(), ListError> {
        for blocks in &items.blocks {
            self.check(&[], blocks)?;
        }
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            if items.is_empty() {
                return Ok(());
            }
            let count = items.len() as u64;
            core.append(me, core.table()?, count, items.heap(), |nth| items.value(nth), gone)
        })?;
        items.given();
        Ok(())
    }

    /// Takes an element out; its blocks come along, without a copy. Only if the list is still of
    /// version `expected`, where one is given.
    pub fn pop(&self, index: i64, expected: Option<u64>, item: &mut Item) -> Result<(), ListError> {
        item.blocks.clear();
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            let table = core.table()?;
            let (first, len) = table.span()?;
            let nth = resolve(index, len)?;
            let content = table.read(first + nth)?;
            item.set(content.tag, table.payload(&content)?);
            core.changing();
            let mut taken = Vec::new();
            if nth == 0 || nth == len - 1 {
                table.own_blocks(me, &content, &mut taken)?;
                table.set_span(if nth == 0 { first + 1 } else { first }, len - 1); // commits
            } else {
                let pieces = [Piece::Keep(0, nth), Piece::Keep(nth + 1, len)];
                core.rebuild(me, &table, &pieces, None, Reserve::default(), &mut taken)?;
                // The old table's block goes; what else left are this element's.
                let old = taken.iter().position(|reference| reference.index == table.index);
                if let Some(old) = old {
                    gone.push(taken.remove(old));
                }
            }
            let arena = core.arena;
            let block = |reference: &BlockRef| arena.block(reference.index, me, reference.len as usize);
            item.blocks = taken.iter().map(block).collect();
            Ok(())
        })
    }

    /// Copies the elements that `which` names into `items`: given the length, it says the first
    /// one, the step and how many. Returns the list's version.
    pub fn read(&self, which: impl Fn(u64) -> (u64, i64, u64), items: &mut Items) -> Result<u64, ListError> {
        self.locked(|core, me, _| {
            items.clear();
            let table = core.table()?;
            let (first, len) = table.span()?;
            let (start, step, count) = which(len);
            items.entries.reserve(count.min(len) as usize);
            let mut nth = start as i64;
            for _ in 0..count {
                if nth < 0 || nth as u64 >= len {
                    return Err(ListError::Range);
                }
                let content = table.read(first + nth as u64)?;
                let blocks = if content.blocks > 0 { table.copy_blocks(me, &content)? } else { Vec::new() };
                items.push(content.tag, table.payload(&content)?, blocks);
                nth += step;
            }
            Ok(core.header().version.load(Relaxed))
        })
    }

    /// Shows `look` each element where it lies, in order, until it says that it has seen enough:
    /// index, tag, payload, whether there are blocks too. Returns the list's version. `look` runs
    /// under the lock: it must be quick, and must not use the list.
    pub fn visit(&self, mut look: impl FnMut(u64, u16, &[u8], bool) -> bool) -> Result<u64, ListError> {
        self.locked(|core, _, _| {
            let table = core.table()?;
            let (first, len) = table.span()?;
            for nth in 0..len {
                let content = table.read(first + nth)?;
                if !look(nth, content.tag, table.payload(&content)?, content.blocks > 0) {
                    break;
                }
            }
            Ok(core.header().version.load(Relaxed))
        })
    }

    /// Puts the list together anew, in one step, from the pieces that `plan` names, given the
    /// length; only if it is still of version `expected`, where one is given. Each element can be
    /// kept once; those that are not are dropped. On success `items` is empty.
    pub fn edit(
        &self,
        items: &mut Items,
        expected: Option<u64>,
        plan: impl Fn(u64) -> Result<Vec<Piece>, ListError>,
    ) -> Result<(), ListError> {
        for blocks in &items.blocks {
            self.check(&[], blocks)?;
        }
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            let table = core.table()?;
            let (_, len) = table.span()?;
            let pieces = plan(len)?;
            core.changing();
            let new = |nth| items.value(nth);
            core.rebuild(me, &table, &pieces, Some(&new), Reserve::default(), gone).map(drop)
        })?;
        items.given();
        Ok(())
    }

    /// The list's version: another after every change.
    pub fn version(&self) -> Result<u64, ListError> {
        self.locked(|core, _, _| Ok(core.header().version.load(Relaxed)))
    }

    #[inline]
    fn check(&self, payload: &[u8], blocks: &[Block]) -> Result<(), ListError> {
        if payload.len() > MAX_INLINE || blocks.len() > MAX_MESSAGE_BLOCKS {
            return Err(ListError::TooLong);
        }
        let arena = self.core.arena;
        assert!(
            blocks.iter().all(|block| block.arena() == arena && block.owner() == arena.inner.me.get()),
            "an element's blocks are the writer's own and lie in the list's arena"
        );
        Ok(())
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if crate::crash::crashed() {
            return;
        }
        let arena = &self.core.arena;
        let me = arena.inner.me.get();
        if me == self.holder.load(Relaxed) || arena.inherited(me) {
            root::release(arena, self.id, me);
        }
    }
}

#[inline]
fn resolve(index: i64, len: u64) -> Result<u64, ListError> {
    let nth = if index < 0 { index.wrapping_add(len as i64) } else { index };
    if nth < 0 || nth as u64 >= len { Err(ListError::Range) } else { Ok(nth as u64) }
}

/// Room that a new table is to have beside what its elements need.
#[derive(Default, Clone, Copy)]
struct Reserve {
    front: u64,
    back: u64,
    heap: u64,
}

/// Where a list is.
#[derive(Debug, Clone, Copy)]
struct Core {
    arena: Arena,
    header_at: u64,
}

impl Core {
    #[inline]
    fn header(&self) -> &'static ListHeader {
        self.arena.inner.segment.at(self.header_at)
    }

    #[inline]
    fn lock(&self) -> Guard<'static> {
        let guard = lock(&self.header().lock);
        if guard.owner_died() {
            // Nothing to repair: see the table at the top.
            self.arena.header().reap_wanted.store(1, Relaxed);
        }
        guard
    }

    #[inline]
    fn table(&self) -> Result<Table, ListError> {
        Table::open(&self.arena, self.header().table.load(Acquire))
    }

    fn expect(&self, expected: Option<u64>) -> Result<(), ListError> {
        match expected {
            Some(version) if version != self.header().version.load(Relaxed) => Err(ListError::Changed),
            _ => Ok(()),
        }
    }

    /// To be called before each change.
    #[inline]
    fn changing(&self) {
        let version = &self.header().version;
        store64(version, version.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    fn append<'v>(
        &self,
        me: u32,
        mut table: Table,
        count: u64,
        heap: u64,
        value: impl Fn(usize) -> Value<'v>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(), ListError> {
        let (mut first, len) = table.span()?;
        if first + len + count > table.capacity || heap > table.heap_left() {
            let reserve = Reserve { back: count, heap, ..Reserve::default() };
            table = self.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
            first = table.span()?.0;
        }
        self.changing();
        for nth in 0..count {
            table.fill(first + len + nth, value(nth as usize));
        }
        table.set_span(first, len + count); // commits
        Ok(())
    }

    fn prepend(&self, me: u32, mut table: Table, value: Value<'_>, gone: &mut Vec<BlockRef>) -> Result<(), ListError> {
        let (mut first, len) = table.span()?;
        if first == 0 || value.heap() > table.heap_left() {
            let reserve = Reserve { front: 1, back: 0, heap: value.heap() };
            table = self.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
            first = table.span()?.0;
        }
        table.fill(first - 1, value);
        table.set_span(first - 1, len + 1); // commits
        Ok(())
    }

    /// Makes a table of `pieces` and puts it in the place of `table`. The lock is held. What leaves
    /// the list (the old table too) is made this process's and added to `gone`.
    fn rebuild<'v>(
        &self,
        me: u32,
        table: &Table,
        pieces: &[Piece],
        new: Option<&dyn Fn(usize) -> Value<'v>>,
        reserve: Reserve,
        gone: &mut Vec<BlockRef>,
    ) -> Result<Table, ListError> {
        let (first, len) = table.span()?;
        let simple = table.used() == 0; // no element has anything on the heap
        let mut kept = Vec::new();
        if !simple {
            kept.resize(len as usize, false);
        }
        let (mut count, mut heap) = (0, 0);
        for piece in pieces {
            match *piece {
                Piece::Keep(from, to) if from <= to && to <= len => {
                    count += to - from;
                    if simple {
                        continue;
                    }
                    for nth in from..to {
                        heap += table.read(first + nth)?.record_len();
                        kept[nth as usize] = true;
                    }
                }
                Piece::New(from, to) if from <= to => {
                    let new = new.ok_or(ListError::Range)?;
                    count += to - from;
                    heap += (from..to).map(|nth| new(nth as usize).heap()).sum::<u64>();
                }
                _ => return Err(ListError::Range),
            }
        }
        let front = if reserve.front > 0 { reserve.front + count / 2 } else { 0 };
        let back = reserve.back + count;
        let cells = (front + count + back).max(FEWEST_CELLS);
        let needed = heap + reserve.heap;
        // A full heap costs a new table, cells and all: it should take long to fill.
        let heap = if needed == 0 { 0 } else { needed + needed.max(256).max(cells * 8) };
        let (block, next) = Table::create(&self.arena, me, cells, heap)?;
        let mut at = front;
        for piece in pieces {
            match *piece {
                Piece::Keep(from, to) if simple => {
                    next.copy_cells(at, table, first + from, to - from);
                    at += to - from;
                }
                Piece::Keep(from, to) => {
                    for nth in from..to {
                        next.take_over(at, table, &table.read(first + nth)?)?;
                        at += 1;
                    }
                }
                Piece::New(from, to) => {
                    let new = new.ok_or(ListError::Range)?;
                    for nth in from..to {
                        next.fill(at, new(nth as usize));
                        at += 1;
                    }
                }
            }
        }
        next.set_span(front, count);
        let mut leaving = Vec::new();
        for nth in (0..len).filter(|nth| kept.get(*nth as usize) == Some(&false)) {
            table.own_blocks(me, &table.read(first + nth)?, &mut leaving)?;
        }
        leaving.push(table.own(me)?);
        core::mem::forget(block); // the list's, in a moment; ours until then in any case
        store64(&self.header().table, next.word(), Release); // commits
        gone.append(&mut leaving);
        Ok(next)
    }
}

/// One version of a list's cells and heap.
#[derive(Clone, Copy)]
struct Table {
    arena: Arena,
    index: u32,
    generation: u32,
    at: u64,
    /// Bytes in its block.
    size: u64,
    /// Cells, checked to lie within the block.
    capacity: u64,
}

/// What a cell says. Lengths are checked; where it leads to is checked when it is followed.
struct Content {
    tag: u16,
    far: bool,
    len: usize,
    blocks: usize,
    /// Far: offset in the heap.
    offset: u64,
    near: [u8; NEAR],
}

impl Content {
    fn record_len(&self) -> u64 {
        if self.far { record_len(self.blocks, self.len) } else { 0 }
    }
}

impl Table {
    /// A new, empty table with at least `cells` cells and `heap` bytes of heap, in a block of this
    /// process's.
    fn create(arena: &Arena, me: u32, cells: u64, heap: u64) -> Result<(Block, Table), AllocError> {
        let wanted = CELLS_AT.saturating_add(cells.saturating_mul(CELL)).saturating_add(heap);
        if cells > u64::from(u32::MAX) || heap > u64::from(u32::MAX) * GRAIN {
            return Err(AllocError::Exhausted { wanted });
        }
        let index = arena.alloc_index(wanted as usize, me, kind::DATA, false)?;
        let block = arena.block(index, me, wanted as usize);
        let descriptor = arena.descriptor(index).expect("a block of ours");
        let (at, size) = arena.extent(descriptor).expect("a block of ours");
        // What the block has more than was asked for is room for cells, where there is no heap.
        let most = u64::from(u32::MAX);
        let capacity = if heap == 0 { ((size - CELLS_AT) / CELL).min(most) } else { cells };
        let generation = descriptor.generation.load(Relaxed);
        let table = Table { arena: *arena, index, generation, at, size, capacity };
        let header = table.header();
        header.span.store(0, Relaxed);
        header.capacity.store(capacity as u32, Relaxed);
        header.used.store(0, Relaxed);
        point();
        Ok((block, table))
    }

    #[inline]
    fn open(arena: &Arena, word: u64) -> Result<Table, ListError> {
        let index = (word as u32).checked_sub(1).ok_or(ListError::Gone)?;
        let generation = (word >> 32) as u32;
        let descriptor = arena.descriptor(index).ok_or(ListError::Corrupt)?;
        if descriptor.generation.load(Relaxed) != generation {
            return Err(ListError::Corrupt);
        }
        let (at, size) = arena.extent(descriptor).ok_or(ListError::Corrupt)?;
        let mut table = Table { arena: *arena, index, generation, at, size, capacity: 0 };
        table.capacity = u64::from(table.header().capacity.load(Relaxed));
        if CELLS_AT + table.capacity * CELL > size {
            return Err(ListError::Corrupt);
        }
        Ok(table)
    }

    fn word(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index + 1)
    }

    #[inline]
    fn header(&self) -> &'static TableHeader {
        self.arena.inner.segment.at(self.at)
    }

    /// First cell and number of elements, within the capacity.
    #[inline]
    fn span(&self) -> Result<(u64, u64), ListError> {
        let span = self.header().span.load(Relaxed);
        let (first, len) = (span & 0xffff_ffff, span >> 32);
        if first + len > self.capacity { Err(ListError::Corrupt) } else { Ok((first, len)) }
    }

    #[inline]
    fn set_span(&self, first: u64, len: u64) {
        store64(&self.header().span, first | len << 32, Release);
    }

    #[inline]
    fn cell(&self, nth: u64) -> &'static Cell {
        // Within the block, as the capacity is; which `Segment::at` could not know.
        assert!(nth < self.capacity);
        self.arena.inner.segment.at(self.at + CELLS_AT + nth * CELL)
    }

    fn heap_at(&self) -> u64 {
        CELLS_AT + self.capacity * CELL
    }

    #[inline]
    fn used(&self) -> u64 {
        self.header().used.load(Relaxed)
    }

    #[inline]
    fn heap_left(&self) -> u64 {
        (self.size - self.heap_at()).saturating_sub(self.used())
    }

    #[inline]
    fn read(&self, nth: u64) -> Result<Content, ListError> {
        let cell = self.cell(nth);
        let head = cell.head.load(Acquire);
        let half = &cell.halves[(head & HALF_BIT) as usize];
        let words = [half[0].load(Relaxed), half[1].load(Relaxed), half[2].load(Relaxed)];
        let far = head & FAR_BIT != 0;
        let mut near = [0; NEAR];
        for (bytes, word) in near.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let content = Content {
            tag: (head >> 16) as u16,
            far,
            len: (head >> 32) as usize,
            blocks: if far { words[1] as usize } else { 0 },
            offset: if far { u64::from(words[0]) * GRAIN } else { 0 },
            near,
        };
        let longest = if far { MAX_INLINE } else { NEAR };
        if content.len > longest || content.blocks > MAX_MESSAGE_BLOCKS {
            return Err(ListError::Corrupt);
        }
        Ok(content)
    }

    /// The address of a far content's record, which lies within the block.
    fn record(&self, content: &Content) -> Result<*mut u8, ListError> {
        let at = self.heap_at() + content.offset;
        if at + content.record_len() > self.size {
            return Err(ListError::Corrupt);
        }
        let address = self.arena.inner.segment.address(self.at + at, content.record_len() as usize);
        Ok(address.as_ptr())
    }

    /// The payload. To be used while the lock is held.
    #[inline]
    fn payload<'a>(&self, content: &'a Content) -> Result<&'a [u8], ListError> {
        if !content.far {
            return Ok(&content.near[..content.len]);
        }
        let record = self.record(content)?;
        // SAFETY: `record` is that of a record of these lengths, within the block (just checked).
        // The heap is only appended to, and the lock keeps the table alive.
        unsafe {
            let payload = record.add(content.blocks * REFERENCE);
            Ok(core::slice::from_raw_parts(payload, content.len))
        }
    }

    /// The blocks of an element, with their descriptors, checked to be still there.
    fn blocks(&self, content: &Content) -> Result<Vec<(BlockRef, &'static Descriptor)>, ListError> {
        if content.blocks == 0 {
            return Ok(Vec::new());
        }
        let record = self.record(content)?;
        let mut blocks = Vec::with_capacity(content.blocks);
        for nth in 0..content.blocks {
            // SAFETY: within the record (see `record`); a `BlockRef` is plain numbers, every bit
            // pattern of which is one.
            let reference = unsafe { record.cast::<BlockRef>().add(nth).read_unaligned() };
            let descriptor = self.arena.descriptor(reference.index).ok_or(ListError::Corrupt)?;
            let (_, size) = self.arena.extent(descriptor).ok_or(ListError::Corrupt)?;
            if descriptor.generation.load(Relaxed) != reference.generation || reference.len > size {
                return Err(ListError::Corrupt);
            }
            blocks.push((reference, descriptor));
        }
        Ok(blocks)
    }

    /// Copies of an element's blocks.
    fn copy_blocks(&self, me: u32, content: &Content) -> Result<Vec<Block>, ListError> {
        let mut copies = Vec::with_capacity(content.blocks);
        for (reference, descriptor) in self.blocks(content)? {
            let len = reference.len as usize;
            let (at, _) = self.arena.extent(descriptor).ok_or(ListError::Corrupt)?;
            let index = self.arena.alloc_index(len, me, kind::DATA, false)?;
            let mut copy = self.arena.block(index, me, len);
            let from = self.arena.inner.segment.address(at, len);
            // SAFETY: `len` bytes of a block that the list keeps alive and nobody writes to while
            // it is in the list, to as many of a new one.
            unsafe {
                let to = copy.as_mut_slice().as_mut_ptr();
                core::ptr::copy_nonoverlapping(from.as_ptr(), to, len);
            }
            copies.push(copy);
        }
        Ok(copies)
    }

    /// Makes the blocks of an element that is about to leave this process's, and adds them to
    /// `leaving`.
    #[inline]
    fn own_blocks(&self, me: u32, content: &Content, leaving: &mut Vec<BlockRef>) -> Result<(), ListError> {
        if content.blocks == 0 {
            return Ok(());
        }
        for (reference, descriptor) in self.blocks(content)? {
            store(&descriptor.owner, me, Relaxed);
            leaving.push(reference);
        }
        Ok(())
    }

    /// The same with the table itself.
    fn own(&self, me: u32) -> Result<BlockRef, ListError> {
        let descriptor = self.arena.descriptor(self.index).ok_or(ListError::Corrupt)?;
        store(&descriptor.owner, me, Relaxed);
        Ok(BlockRef { index: self.index, generation: self.generation, len: self.size })
    }

    /// Writes what a half is to hold, and for a far value its record. There is room in the heap.
    #[inline]
    fn stage(&self, value: Value<'_>) -> ([u32; NEAR / 4], u64) {
        let head = u64::from(value.tag) << 16 | u64::from(value.len) << 32;
        match value.body {
            Body::Near(near) => {
                let word = |nth: usize| u32::from_ne_bytes([near[nth], near[nth + 1], near[nth + 2], near[nth + 3]]);
                ([word(0), word(4), word(8)], head)
            }
            Body::Far(payload, blocks) => (self.stage_far(payload, blocks), head | FAR_BIT),
        }
    }

    fn stage_far(&self, payload: &[u8], blocks: &[Block]) -> [u32; NEAR / 4] {
        let offset = self.used();
        let len = record_len(blocks.len(), payload.len());
        assert!(len <= self.heap_left(), "room was made for what is written");
        let at = self.at + self.heap_at() + offset;
        let record = self.arena.inner.segment.address(at, len as usize).as_ptr();
        for (nth, block) in blocks.iter().enumerate() {
            // SAFETY: within the record, for which there is room.
            unsafe { record.cast::<BlockRef>().add(nth).write_unaligned(block.reference()) };
        }
        // SAFETY: as above; the payload follows the references.
        unsafe {
            let to = record.add(blocks.len() * REFERENCE);
            core::ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len());
        }
        // Before anything can refer to it: what lies below `used` is never written again.
        store64(&self.header().used, offset + len, Release);
        [(offset / GRAIN) as u32, blocks.len() as u32, 0]
    }

    /// Writes a cell that is not in use.
    #[inline]
    fn fill(&self, nth: u64, value: Value<'_>) {
        let (words, head) = self.stage(value);
        let cell = self.cell(nth);
        for (to, word) in cell.halves[0].iter().zip(words) {
            to.store(word, Relaxed);
        }
        store64(&cell.head, head, Release);
    }

    /// Replaces an element.
    #[inline]
    fn assign(&self, nth: u64, value: Value<'_>) {
        let (words, head) = self.stage(value);
        let cell = self.cell(nth);
        let other = cell.head.load(Relaxed) & HALF_BIT ^ HALF_BIT;
        for (to, word) in cell.halves[other as usize].iter().zip(words) {
            to.store(word, Relaxed);
        }
        point();
        store64(&cell.head, head | other, Release); // commits
    }

    /// Copies cells of a table that has nothing on its heap.
    fn copy_cells(&self, at: u64, from: &Table, first: u64, count: u64) {
        assert!(at + count <= self.capacity && first + count <= from.capacity);
        let len = (count * CELL) as usize;
        let segment = &self.arena.inner.segment;
        let source = segment.address(from.at + CELLS_AT + first * CELL, len);
        let target = segment.address(self.at + CELLS_AT + at * CELL, len);
        // SAFETY: both ranges lie within their tables, which are different blocks; the lock is
        // held, and the new table is not known to anybody else.
        unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), target.as_ptr(), len) };
        point();
    }

    /// Writes an element of the table before.
    fn take_over(&self, nth: u64, from: &Table, content: &Content) -> Result<(), ListError> {
        let record = if content.far { from.record(content)? } else { core::ptr::null_mut() };
        let (mut words, mut head) = ([0; NEAR / 4], 0);
        if content.far {
            let len = content.record_len();
            let offset = self.used();
            if len > self.heap_left() {
                return Err(ListError::Corrupt); // the sizes changed under our hands
            }
            let at = self.at + self.heap_at() + offset;
            let to = self.arena.inner.segment.address(at, len as usize);
            // SAFETY: both are records of `len` bytes within different blocks.
            unsafe { core::ptr::copy_nonoverlapping(record, to.as_ptr(), len as usize) };
            self.header().used.store(offset + len, Relaxed);
            words = [(offset / GRAIN) as u32, content.blocks as u32, 0];
            head = FAR_BIT;
        } else {
            for (word, bytes) in words.iter_mut().zip(content.near.chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        let cell = self.cell(nth);
        for (to, word) in cell.halves[0].iter().zip(words) {
            to.store(word, Relaxed);
        }
        let head = head | u64::from(content.tag) << 16 | (content.len as u64) << 32;
        store64(&cell.head, head, Relaxed);
        Ok(())
    }
}

fn core_of(arena: &Arena, descriptor: &Descriptor) -> Option<Core> {
    let (header_at, size) = arena.extent(descriptor)?;
    (size >= BODY_AT).then_some(Core { arena: *arena, header_at })
}

/// The header of a root that is a list.
pub(crate) fn header_of(arena: &Arena, descriptor: &Descriptor) -> Option<&'static ListHeader> {
    if descriptor.kind.load(Acquire) != kind::LIST {
        return None;
    }
    core_of(arena, descriptor).map(|core| core.header())
}

/// Whether the handles of `participant` on a root include one for a pin.
pub(crate) fn is_pinned_by(arena: &Arena, descriptor: &Descriptor, participant: u32) -> bool {
    header_of(arena, descriptor)
        .is_some_and(|header| header.pinned.load(Relaxed) != 0 && header.patron.load(Relaxed) == participant)
}

/// Collects what a list keeps alive: its table and the blocks of its elements.
pub(crate) fn survey(arena: &Arena, descriptor: &Descriptor, reachable: &mut Reachable) {
    let Some(core) = core_of(arena, descriptor) else { return };
    let _guard = core.lock();
    let Ok(table) = core.table() else { return };
    reachable.insert(table.index);
    let Ok((first, len)) = table.span() else { return };
    if table.used() == 0 {
        return;
    }
    for nth in first..first + len {
        let Ok(content) = table.read(nth) else { continue };
        for (reference, _) in table.blocks(&content).unwrap_or_default() {
            reachable.insert(reference.index);
        }
    }
}

/// Gives back a list's table and the blocks of its elements. Repeatable at every step: until the
/// commit everything is found again; after it, it is this process's and nobody else's.
pub(crate) fn empty_for_destruction(arena: &Arena, descriptor: &Descriptor, me: u32) {
    let Some(core) = core_of(arena, descriptor) else { return };
    let guard = core.lock();
    let mut leaving = Vec::new();
    if let Ok(table) = core.table() {
        let (first, len) = table.span().unwrap_or((0, 0));
        let len = if table.used() == 0 { 0 } else { len };
        for nth in first..first + len {
            let Ok(content) = table.read(nth) else { continue };
            let _ = table.own_blocks(me, &content, &mut leaving);
        }
        leaving.extend(table.own(me));
        store64(&core.header().table, 0, Release); // commits
    }
    core.header().state.store(0, Relaxed);
    drop(guard);
    for reference in leaving {
        arena.release(reference.index);
    }
}

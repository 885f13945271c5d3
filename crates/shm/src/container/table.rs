//! Cells and what they refer to: one version of a container's elements, in one block.
//!
//! ```text
//!  table block
//!  +0    span      u64   first cell in use | number of cells << 32; THE STORE THAT COMMITS
//!                        append, prepend, insertion of a key, and removal at either end
//!  +8    capacity  u32   cells
//!  +12   slots     u32   of a dict: length of the index, a power of two; of a list: 0
//!  +16   used      u64   bytes of the heap that are used, whether or not anything refers to them
//!  +24   live      u64   of a dict: keys that are not dead
//!  +32   tail      u64   of a dict: no entry from this one on is alive
//!  +64   [Cell; capacity]
//!  +..   heap            to the end of the block, in grains of 16 bytes; a dict's begins with its
//!                        index
//!
//!  Cell, 32 bytes
//!  +0    head      u64   bit 0: which half counts; bit 1: far; bit 2: dead; 16..32: tag; 32..64:
//!                        length of the payload; THE STORE THAT COMMITS AN ASSIGNMENT, AND THE
//!                        REMOVAL OF A KEY
//!  +8    half 0    12    near: a payload of up to 12 bytes; far: heap offset in grains (u32),
//!  +20   half 1    12    number of blocks (u32). A key's half 1 is its hash
//!
//!  heap record: [BlockRef; blocks], payload
//!  index: [u32; slots]: entry + 1 (cells 2 * entry and 2 * entry + 1 are its key and value), or 0
//! ```

use super::ContainerError;
use crate::arena::{Arena, Block, BlockRef};
use crate::channel::{MAX_INLINE, MAX_MESSAGE_BLOCKS};
use crate::crash::{point, store, store64};
use crate::error::AllocError;
use crate::layout::{Descriptor, SharedRepr, kind};
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64};
use std::mem::MaybeUninit;

const CELLS_AT: u64 = 64;
const CELL: u64 = size_of::<Cell>() as u64;
const NEAR: usize = 12;
const GRAIN: u64 = 16;
const REFERENCE: usize = size_of::<BlockRef>();
/// Cells that a table has at least. With the header they fill the smallest block.
pub(super) const FEWEST_CELLS: u64 = 6;

const HALF_BIT: u64 = 1;
const FAR_BIT: u64 = 2;
const DEAD_BIT: u64 = 4;

const SLOT: u64 = size_of::<Slot>() as u64;
/// Entries that a dict's table has room for at least.
const FEWEST_ENTRIES: u64 = 4;

#[repr(C)]
struct TableHeader {
    span: AtomicU64,
    capacity: AtomicU32,
    slots: AtomicU32,
    used: AtomicU64,
    live: AtomicU64,
    tail: AtomicU64,
}

#[repr(C, align(32))]
struct Cell {
    head: AtomicU64,
    halves: [[AtomicU32; NEAR / 4]; 2],
}

/// A place in a dict's index.
#[repr(C)]
struct Slot(AtomicU32);

// SAFETY: atomics only.
unsafe impl SharedRepr for TableHeader {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Cell {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Slot {}

const _: () = {
    assert!(size_of::<TableHeader>() <= CELLS_AT as usize);
    assert!(core::mem::offset_of!(TableHeader, slots) == 12);
    assert!(core::mem::offset_of!(TableHeader, used) == 16);
    assert!(core::mem::offset_of!(TableHeader, live) == 24);
    assert!(core::mem::offset_of!(TableHeader, tail) == 32);
    assert!(size_of::<Cell>() == 32);
    assert!(core::mem::offset_of!(Cell, halves) == 8);
    assert!(CELLS_AT + FEWEST_CELLS * CELL == 256);
    assert!(REFERENCE == GRAIN as usize);
    assert!(CELLS_AT.is_multiple_of(CELL) && CELL.is_multiple_of(GRAIN));
};

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
    pub(super) fn set(&mut self, tag: u16, bytes: &[u8]) {
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
    pub(super) entries: Vec<Entry>,
    /// Payloads of the others.
    bytes: Vec<u8>,
    pub(super) blocks: Vec<Vec<Block>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    tag: u16,
    len: u16,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
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

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.blocks.clear();
    }

    #[inline]
    pub(super) fn value(&self, nth: usize) -> Value<'_> {
        let entry = &self.entries[nth];
        let len = usize::from(entry.len);
        let body = match entry.place {
            Place::Near(near) => Body::Near(near),
            Place::Far(start, blocks) => Body::Far(&self.bytes[start..start + len], &self.blocks[blocks as usize]),
        };
        Value { tag: entry.tag, len: entry.len, body }
    }

    /// Bytes of heap that they need.
    pub(super) fn heap(&self) -> u64 {
        if self.blocks.is_empty() {
            return 0;
        }
        (0..self.len()).map(|nth| self.value(nth).heap()).sum()
    }

    /// The blocks are the container's now, but for those of some values.
    pub(super) fn given_but(&mut self, kept: impl Iterator<Item = usize>) {
        for nth in kept {
            if let Place::Far(_, blocks) = self.entries[nth].place {
                self.blocks[blocks as usize].clear();
            }
        }
        self.given();
    }

    /// The blocks are the container's now.
    pub(super) fn given(&mut self) {
        for blocks in &mut self.blocks {
            blocks.drain(..).for_each(core::mem::forget);
        }
        self.clear();
    }
}

#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    tag: u16,
    len: u16,
    body: Body<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    Near([u8; NEAR]),
    Far(&'a [u8], &'a [Block]),
}

impl<'a> Value<'a> {
    #[inline]
    pub(super) fn new(tag: u16, payload: &'a [u8], blocks: &'a [Block]) -> Value<'a> {
        let near = payload.len() <= NEAR && blocks.is_empty();
        let body = if near { Body::Near(pad(payload)) } else { Body::Far(payload, blocks) };
        Value { tag, len: payload.len() as u16, body }
    }

    #[inline]
    pub(super) fn heap(&self) -> u64 {
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

/// One version of a container's cells and heap.
#[derive(Clone, Copy)]
pub(super) struct Table {
    arena: Arena,
    index: u32,
    generation: u32,
    at: u64,
    /// Bytes in its block.
    size: u64,
    /// Cells, checked to lie within the block.
    pub(super) capacity: u64,
    /// Length of the index, checked to lie within the block, and to be a power of two or 0.
    slots: u64,
}

/// What a cell says. Lengths are checked; where it leads to is checked when it is followed.
pub(super) struct Content {
    pub(super) tag: u16,
    pub(super) dead: bool,
    far: bool,
    len: usize,
    pub(super) blocks: usize,
    /// Far: offset in the heap.
    offset: u64,
    near: [u8; NEAR],
}

impl Content {
    pub(super) fn record_len(&self) -> u64 {
        if self.far { record_len(self.blocks, self.len) } else { 0 }
    }
}

impl Table {
    /// A new, empty table with at least `cells` cells and `heap` bytes of heap, in a block of this
    /// process's.
    pub(super) fn create(arena: &Arena, me: u32, cells: u64, heap: u64) -> Result<(Block, Table), AllocError> {
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
        let table = Table { arena: *arena, index, generation, at, size, capacity, slots: 0 };
        let header = table.header();
        header.span.store(0, Relaxed);
        header.capacity.store(capacity as u32, Relaxed);
        header.slots.store(0, Relaxed);
        header.used.store(0, Relaxed);
        header.live.store(0, Relaxed);
        header.tail.store(0, Relaxed);
        point();
        Ok((block, table))
    }

    #[inline]
    pub(super) fn open(arena: &Arena, word: u64) -> Result<Table, ContainerError> {
        let index = (word as u32).checked_sub(1).ok_or(ContainerError::Gone)?;
        let generation = (word >> 32) as u32;
        let descriptor = arena.descriptor(index).ok_or(ContainerError::Corrupt)?;
        if descriptor.generation.load(Relaxed) != generation {
            return Err(ContainerError::Corrupt);
        }
        let (at, size) = arena.extent(descriptor).ok_or(ContainerError::Corrupt)?;
        let mut table = Table { arena: *arena, index, generation, at, size, capacity: 0, slots: 0 };
        table.capacity = u64::from(table.header().capacity.load(Relaxed));
        table.slots = u64::from(table.header().slots.load(Relaxed));
        let fits = CELLS_AT + table.capacity * CELL + table.slots * SLOT <= size;
        if !fits || table.slots & table.slots.wrapping_sub(1) != 0 {
            return Err(ContainerError::Corrupt);
        }
        Ok(table)
    }

    /// A new table of a dict, with room for so many entries and `heap` bytes of heap beside its
    /// index.
    pub(super) fn create_indexed(
        arena: &Arena,
        me: u32,
        entries: u64,
        heap: u64,
    ) -> Result<(Block, Table), AllocError> {
        let entries = entries.max(FEWEST_ENTRIES);
        // At least a third of the slots stays empty: each entry writes one.
        let slots = (entries + entries / 2 + 1).next_power_of_two();
        let index = (slots * SLOT).next_multiple_of(GRAIN);
        if slots > u64::from(u32::MAX) {
            return Err(AllocError::Exhausted { wanted: slots * SLOT });
        }
        let (block, mut table) = Table::create(arena, me, entries * 2, heap.saturating_add(index))?;
        table.slots = slots;
        let address = arena.inner.segment.address(table.at + table.heap_at(), index as usize);
        // SAFETY: the index lies within the block, which is this process's and known to nobody else.
        unsafe { core::ptr::write_bytes(address.as_ptr(), 0, index as usize) };
        let header = table.header();
        header.slots.store(slots as u32, Relaxed);
        header.used.store(index, Relaxed);
        point();
        Ok((block, table))
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn word(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index + 1)
    }

    #[inline]
    fn header(&self) -> &'static TableHeader {
        self.arena.inner.segment.at(self.at)
    }

    /// First cell and number of elements, within the capacity.
    #[inline]
    pub(super) fn span(&self) -> Result<(u64, u64), ContainerError> {
        let span = self.header().span.load(Relaxed);
        let (first, len) = (span & 0xffff_ffff, span >> 32);
        if first + len > self.capacity { Err(ContainerError::Corrupt) } else { Ok((first, len)) }
    }

    #[inline]
    pub(super) fn set_span(&self, first: u64, len: u64) {
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
    pub(super) fn used(&self) -> u64 {
        self.header().used.load(Relaxed)
    }

    #[inline]
    pub(super) fn heap_left(&self) -> u64 {
        (self.size - self.heap_at()).saturating_sub(self.used())
    }

    #[inline]
    pub(super) fn read(&self, nth: u64) -> Result<Content, ContainerError> {
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
            dead: head & DEAD_BIT != 0,
            far,
            len: (head >> 32) as usize,
            blocks: if far { words[1] as usize } else { 0 },
            offset: if far { u64::from(words[0]) * GRAIN } else { 0 },
            near,
        };
        let longest = if far { MAX_INLINE } else { NEAR };
        if content.len > longest || content.blocks > MAX_MESSAGE_BLOCKS {
            return Err(ContainerError::Corrupt);
        }
        Ok(content)
    }

    /// The address of a far content's record, which lies within the block.
    fn record(&self, content: &Content) -> Result<*mut u8, ContainerError> {
        let at = self.heap_at() + content.offset;
        if at + content.record_len() > self.size {
            return Err(ContainerError::Corrupt);
        }
        let address = self.arena.inner.segment.address(self.at + at, content.record_len() as usize);
        Ok(address.as_ptr())
    }

    /// The payload. To be used while the lock is held.
    #[inline]
    pub(super) fn payload<'a>(&self, content: &'a Content) -> Result<&'a [u8], ContainerError> {
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
    pub(super) fn blocks(&self, content: &Content) -> Result<Vec<(BlockRef, &'static Descriptor)>, ContainerError> {
        if content.blocks == 0 {
            return Ok(Vec::new());
        }
        let record = self.record(content)?;
        let mut blocks = Vec::with_capacity(content.blocks);
        for nth in 0..content.blocks {
            // SAFETY: within the record (see `record`); a `BlockRef` is plain numbers, every bit
            // pattern of which is one.
            let reference = unsafe { record.cast::<BlockRef>().add(nth).read_unaligned() };
            let descriptor = self.arena.descriptor(reference.index).ok_or(ContainerError::Corrupt)?;
            let (_, size) = self.arena.extent(descriptor).ok_or(ContainerError::Corrupt)?;
            if descriptor.generation.load(Relaxed) != reference.generation || reference.len > size {
                return Err(ContainerError::Corrupt);
            }
            blocks.push((reference, descriptor));
        }
        Ok(blocks)
    }

    /// Copies of an element's blocks.
    pub(super) fn copy_blocks(&self, me: u32, content: &Content) -> Result<Vec<Block>, ContainerError> {
        let mut copies = Vec::with_capacity(content.blocks);
        for (reference, descriptor) in self.blocks(content)? {
            let len = reference.len as usize;
            let (at, _) = self.arena.extent(descriptor).ok_or(ContainerError::Corrupt)?;
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
    pub(super) fn own_blocks(
        &self,
        me: u32,
        content: &Content,
        leaving: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
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
    pub(super) fn own(&self, me: u32) -> Result<BlockRef, ContainerError> {
        let descriptor = self.arena.descriptor(self.index).ok_or(ContainerError::Corrupt)?;
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
    pub(super) fn fill(&self, nth: u64, value: Value<'_>) {
        let (words, head) = self.stage(value);
        let cell = self.cell(nth);
        for (to, word) in cell.halves[0].iter().zip(words) {
            to.store(word, Relaxed);
        }
        store64(&cell.head, head, Release);
    }

    /// Replaces an element.
    #[inline]
    pub(super) fn assign(&self, nth: u64, value: Value<'_>) {
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
    pub(super) fn copy_cells(&self, at: u64, from: &Table, first: u64, count: u64) {
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
    pub(super) fn take_over(&self, nth: u64, from: &Table, content: &Content) -> Result<(), ContainerError> {
        let record = if content.far { from.record(content)? } else { core::ptr::null_mut() };
        let (mut words, mut head) = ([0; NEAR / 4], 0);
        if content.far {
            let len = content.record_len();
            let offset = self.used();
            if len > self.heap_left() {
                return Err(ContainerError::Corrupt); // the sizes changed under our hands
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

    /// The elements that have blocks.
    pub(super) fn contents_with_blocks(&self) -> impl Iterator<Item = Content> {
        let (first, len) = if self.used() == 0 { (0, 0) } else { self.span().unwrap_or((0, 0)) };
        let pairs = self.slots > 0;
        let mut dead = false;
        (first..first + len).filter_map(move |nth| {
            let content = self.read(nth).ok()?;
            // A dead key's value is dead as well, and does not say so.
            dead = content.dead || pairs && nth % 2 == 1 && dead;
            (!dead && content.blocks > 0).then_some(content)
        })
    }

    // What only dicts do.

    /// How many entries there are, dead ones too.
    #[inline]
    pub(super) fn entries(&self) -> Result<u64, ContainerError> {
        let (first, len) = self.span()?;
        if first != 0 || len % 2 != 0 || self.slots == 0 { Err(ContainerError::Corrupt) } else { Ok(len / 2) }
    }

    /// The keys that are not dead.
    #[inline]
    pub(super) fn live(&self) -> u64 {
        self.header().live.load(Relaxed)
    }

    #[inline]
    pub(super) fn set_live(&self, live: u64) {
        store64(&self.header().live, live, Relaxed);
    }

    /// No entry from this one on is alive; there may be dead ones before it, too.
    #[inline]
    pub(super) fn tail(&self) -> u64 {
        self.header().tail.load(Relaxed)
    }

    #[inline]
    pub(super) fn set_tail(&self, tail: u64) {
        store64(&self.header().tail, tail, Relaxed);
    }

    /// Writes the index anew and counts the keys that are not dead: what a dead owner of the lock
    /// may have left undone. A list has none of this.
    pub(super) fn repair(&self) {
        let Ok(entries) = self.entries() else { return };
        for nth in 0..self.slots {
            self.slot_at(nth).0.store(0, Relaxed);
        }
        point();
        let mut live = 0;
        for entry in 0..entries {
            live += u64::from(self.read(entry * 2).is_ok_and(|key| !key.dead));
            if let Some(free) = self.probe(self.hash(entry)).find(|&slot| self.slot(slot).is_none()) {
                self.set_slot(free, entry);
            }
        }
        self.set_tail(entries);
        self.set_live(live);
    }

    /// The slots in the order in which a hash goes through them.
    #[inline]
    pub(super) fn probe(&self, hash: u64) -> impl Iterator<Item = u64> + use<> {
        let mask = self.slots.wrapping_sub(1);
        let start = hash ^ hash >> 32;
        (0..self.slots).map(move |step| start.wrapping_add(step) & mask)
    }

    /// The entry that a slot leads to; None if it is empty.
    #[inline]
    pub(super) fn slot(&self, nth: u64) -> Option<u64> {
        self.slot_at(nth).0.load(Relaxed).checked_sub(1).map(u64::from)
    }

    pub(super) fn set_slot(&self, nth: u64, entry: u64) {
        store(&self.slot_at(nth).0, entry as u32 + 1, Relaxed);
    }

    #[inline]
    fn slot_at(&self, nth: u64) -> &'static Slot {
        assert!(nth < self.slots);
        self.arena.inner.segment.at(self.at + self.heap_at() + nth * SLOT)
    }

    /// The hash of an entry's key.
    #[inline]
    pub(super) fn hash(&self, entry: u64) -> u64 {
        let half = &self.cell(entry * 2).halves[1];
        u64::from(half[0].load(Relaxed)) | u64::from(half[1].load(Relaxed)) << 32
    }

    pub(super) fn set_hash(&self, entry: u64, hash: u64) {
        let half = &self.cell(entry * 2).halves[1];
        half[0].store(hash as u32, Relaxed);
        half[1].store((hash >> 32) as u32, Relaxed);
    }

    /// Ends a key.
    pub(super) fn set_dead(&self, entry: u64) {
        let head = &self.cell(entry * 2).head;
        store64(head, head.load(Relaxed) | DEAD_BIT, Release); // commits
    }
}

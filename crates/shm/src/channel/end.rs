//! Rings as they lie in memory, and the records in them.
//!
//! ```text
//!  ring block
//!  +0      [`Marks`](super::marks::Marks): capacity, successor, and the two ends
//!  +192    cells      64 bytes each
//!
//!  record, in contiguous cells
//!  +0      len        u32   bytes of payload
//!  +4      blocks     u16   references that follow the payload
//!  +6      tag        u16   the sender's; SKIP for the unused cells at a ring's end
//!  +8      payload, padded to 8 bytes
//!  ..      [BlockRef; blocks], 16 bytes each
//! ```

use super::marks::Marks;
use super::ring::{CELL, Mark};
use super::{MAX_INLINE, MAX_MESSAGE_BLOCKS};
use crate::arena::size_class;
use crate::arena::{Arena, Block, BlockRef};
use crate::crash::store;
use crate::error::AllocError;
use crate::layout::{DATA_AT, kind};
use crate::primitive::Ordering::Relaxed;
use std::ptr::NonNull;

const HEADER: usize = 8;
const CELLS_AT: usize = 192;
/// Tag of the unused cells at a ring's end. Senders' tags are below.
pub(crate) const SKIP: u16 = u16::MAX;

const _: () = assert!(size_of::<Marks>() == CELLS_AT && size_of::<BlockRef>() == 16);

/// A message as it lies in a ring, or is about to.
pub(crate) struct Record<'a> {
    pub(crate) tag: u16,
    pub(crate) payload: &'a [u8],
    pub(crate) blocks: &'a [Block],
}

/// How a ring is named in shared memory: index + 1 of its block in the lower half, and in the upper
/// half where it lies, in pages, which saves every operation the way over the block's descriptor.
/// One word, so that one store commits both. Zero names none.
fn place_word(index: u32, offset: u64) -> u64 {
    assert!(offset.is_multiple_of(1 << PLACE_SHIFT) && offset >> (32 + PLACE_SHIFT) == 0);
    offset >> PLACE_SHIFT << 32 | u64::from(index + 1)
}

const PLACE_SHIFT: u32 = size_class::PAGE.trailing_zeros();

#[inline]
fn payload_end(len: usize) -> usize {
    HEADER + len.next_multiple_of(8)
}

#[inline]
fn cells_for(len: usize, blocks: usize) -> u32 {
    (payload_end(len) + blocks * size_of::<BlockRef>()).div_ceil(CELL) as u32
}

/// A ring, found and checked.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    /// See [`place_word`].
    word: u64,
    capacity: u32,
    marks: &'static Marks,
    cells: NonNull<u8>,
}

impl Ring {
    /// A new ring of `cells` cells whose first message will have the sequence of `start`.
    pub(crate) fn create(arena: &Arena, me: u32, cells: u32, start: Mark) -> Result<Ring, AllocError> {
        let len = CELLS_AT + cells as usize * CELL;
        let index = arena.alloc_index(len, me, kind::RING, false)?;
        let descriptor = arena.descriptor(index).expect("a block of ours");
        let (offset, _) = arena.extent(descriptor).expect("a block of ours");
        let marks: &'static Marks = arena.inner.segment.at(offset);
        marks.init(cells, start);
        Ok(Ring::at(arena, place_word(index, offset)).expect("a ring that was just made"))
    }

    /// The ring that a word in shared memory names, if it is one.
    #[inline]
    pub(crate) fn at(arena: &Arena, word: u64) -> Option<Ring> {
        let offset = word >> 32 << PLACE_SHIFT;
        let segment = &arena.inner.segment;
        if offset < DATA_AT || offset + CELLS_AT as u64 > segment.len() as u64 {
            return None;
        }
        let marks: &'static Marks = segment.at(offset);
        let capacity = marks.capacity();
        let (cells_at, bytes) = (offset + CELLS_AT as u64, capacity as usize * CELL);
        if !capacity.is_power_of_two() || cells_at + bytes as u64 > segment.len() as u64 {
            return None;
        }
        Some(Ring { word, capacity, marks, cells: segment.address(cells_at, bytes) })
    }

    pub(crate) fn index(&self) -> u32 {
        (self.word as u32).wrapping_sub(1)
    }

    pub(crate) fn word(&self) -> u64 {
        self.word
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline]
    pub(crate) fn marks(&self) -> &'static Marks {
        self.marks
    }

    /// The ring that follows.
    #[inline]
    pub(crate) fn next(&self, arena: &Arena) -> Option<Ring> {
        match self.marks.next() {
            0 => None,
            word => Ring::at(arena, word),
        }
    }

    /// Makes the ring's block `me`'s, so that it is not lost if `me` dies after unlinking it.
    pub(crate) fn own(&self, arena: &Arena, me: u32) {
        if let Some(descriptor) = arena.descriptor(self.index()) {
            store(&descriptor.owner, me, Relaxed);
        }
    }

    #[inline]
    fn cell(&self, cell: u32, bytes: usize) -> *mut u8 {
        assert!(cell as usize * CELL + bytes <= self.capacity as usize * CELL);
        // SAFETY: within the ring's cells, as just checked; the mapping lives for ever.
        unsafe { self.cells.as_ptr().add(cell as usize * CELL) }
    }

    /// Writes a record behind `tail` without publishing it. Returns the tail behind it, or `None`
    /// if there is no room. The send lock is held.
    #[inline]
    pub(crate) fn write(&self, tail: Mark, record: &Record<'_>) -> Option<Mark> {
        debug_assert!(record.payload.len() <= MAX_INLINE && record.blocks.len() <= MAX_MESSAGE_BLOCKS);
        let cells = cells_for(record.payload.len(), record.blocks.len());
        let place = self.marks.room(tail, cells)?;
        if place.skip > 0 {
            let at = self.cell(tail.position() & (self.capacity - 1), HEADER);
            let word = u64::from(place.skip) | u64::from(SKIP) << 48;
            // SAFETY: `HEADER` bytes within the ring (`cell` checked), in cells that no receiver
            // reads: they lie between tail and head, and only the holder of the send lock writes.
            unsafe { at.cast::<u64>().write(word) };
        }
        let at = self.cell(place.cell, cells as usize * CELL);
        let len = record.payload.len();
        let word = len as u64 | (record.blocks.len() as u64) << 32 | u64::from(record.tag) << 48;
        // SAFETY: the `cells` cells from `at` lie within the ring (`cell` checked) and are free
        // (`place` found them between tail and head); only the holder of the send lock writes.
        unsafe {
            at.cast::<u64>().write(word);
            core::ptr::copy_nonoverlapping(record.payload.as_ptr(), at.add(HEADER), len);
        }
        if !record.blocks.is_empty() {
            let mut to = payload_end(len);
            for block in record.blocks {
                // SAFETY: as above: `cells_for` counted these bytes; 8-aligned because cells are
                // and `payload_end` is.
                unsafe { at.add(to).cast::<BlockRef>().write(block.reference()) };
                to += size_of::<BlockRef>();
            }
        }
        Some(tail.advance(place.skip + cells, 1))
    }

    /// The record at `head`, its references, and the head behind it. `None` if what lies there is
    /// no record. The recv lock is held and there is a message at `head`.
    #[inline]
    pub(crate) fn read(&self, head: Mark) -> Option<(Record<'_>, &[BlockRef], Mark)> {
        let tail = self.marks.seen_tail();
        let mut position = head;
        // At most one skip precedes a record.
        for _ in 0..2 {
            let index = position.position() & (self.capacity - 1);
            let at = self.cell(index, HEADER);
            // SAFETY: `HEADER` bytes within the ring, written before the tail that we saw; senders
            // do not touch them before the head has passed. Read once into a local.
            let word = unsafe { at.cast::<u64>().read() };
            let len = word as u32;
            let blocks = (word >> 32) as u16 as usize;
            let tag = (word >> 48) as u16;
            let left = tail.cells_since(position);
            if tag == SKIP {
                if len == 0 || len > left || len > self.capacity {
                    return None;
                }
                position = position.advance(len, 0);
                continue;
            }
            let len = len as usize;
            if len > MAX_INLINE || blocks > MAX_MESSAGE_BLOCKS {
                return None;
            }
            let cells = cells_for(len, blocks);
            if cells > left || index + cells > self.capacity {
                return None;
            }
            // SAFETY: the record's cells lie within the ring and before the tail, as just checked
            // with local copies; they are not written before the head passes them.
            let payload = unsafe { core::slice::from_raw_parts(at.add(HEADER), len) };
            // SAFETY: as above; any bytes are a `BlockRef`, and the place is 8-aligned.
            let references =
                unsafe { core::slice::from_raw_parts(at.add(payload_end(len)).cast::<BlockRef>(), blocks) };
            let record = Record { tag, payload, blocks: &[] };
            return Some((record, references, position.advance(cells, 1)));
        }
        None
    }
}

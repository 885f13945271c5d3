//! Blobs: bytes that one process publishes and many read.
//!
//! ```text
//!  BlobHeader
//!  +0    count   u32   blocks referred to
//!  +4    tag     u32   the publisher's
//!  +8    len     u64   bytes that follow the references
//!  +3072 [BlockRef; count], then `len` bytes
//! ```
//! Everything in a blob is constant from birth to death. Readers map its blocks copy-on-write, so
//! that what they write is theirs alone.

use crate::arena::{Arena, Block, BlockRef, Counter};
use crate::crash::store;
use crate::error::{AllocError, OpenError};
use crate::layout::{Descriptor, SharedRepr, kind};
use crate::participant::Reachable;
use crate::primitive::Ordering::{Acquire, Relaxed};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::root::{self, BODY_AT, RootId};
use crate::sys::memfd;
use std::ptr::NonNull;
use std::sync::Arc;

#[repr(C)]
struct BlobHeader {
    count: AtomicU32,
    tag: AtomicU32,
    len: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl SharedRepr for BlobHeader {}

const REFERENCE: u64 = size_of::<BlockRef>() as u64;

/// A handle on a published blob.
#[derive(Debug)]
pub struct Blob {
    arena: Arena,
    id: RootId,
    header_at: u64,
    count: u32,
    len: usize,
}

impl Blob {
    /// Publishes `payload` and `blocks` under a tag of the caller's. On failure the blocks are
    /// given back.
    pub fn publish(arena: &Arena, tag: u16, payload: &[u8], blocks: Vec<Block>) -> Result<Blob, AllocError> {
        let blob = Blob::publish_blocks(arena, tag, payload, &blocks)?;
        // From here on the blob keeps them; their owner word still names this process, which
        // matters to nobody while the blob refers to them.
        blocks.into_iter().for_each(core::mem::forget);
        arena.count(Counter::Published, 1);
        Ok(blob)
    }

    fn publish_blocks(arena: &Arena, tag: u16, payload: &[u8], blocks: &[Block]) -> Result<Blob, AllocError> {
        let references = blocks.len() as u64 * REFERENCE;
        let mut root = arena.alloc((BODY_AT + references) as usize + payload.len())?;
        let bytes = root.as_mut_slice();
        for (nth, block) in blocks.iter().enumerate() {
            let at = BODY_AT as usize + nth * REFERENCE as usize;
            bytes[at..at + REFERENCE as usize].copy_from_slice(&encode(block.reference()));
        }
        bytes[(BODY_AT + references) as usize..].copy_from_slice(payload);
        let descriptor = arena.descriptor(root.index()).expect("a block of ours");
        let (header_at, _) = arena.extent(descriptor).expect("a block of ours");
        let header: &BlobHeader = arena.inner.segment.at(header_at);
        header.count.store(blocks.len() as u32, Relaxed);
        header.tag.store(u32::from(tag), Relaxed);
        header.len.store(payload.len() as u64, Relaxed);
        let count = blocks.len() as u32;
        let id = root::commit(arena, root, kind::BLOB);
        Ok(Blob { arena: *arena, id, header_at, count, len: payload.len() })
    }

    /// Puts one block under a blob of its own, which takes a few kilobytes. On success the blob keeps
    /// the block, and the caller must not give it back.
    pub(crate) fn pin(block: &Block) -> Result<Blob, AllocError> {
        Blob::publish_blocks(&block.arena(), 0, &[], std::slice::from_ref(block))
    }

    /// Opens a blob that another process (or this one) published.
    pub fn open(arena: &Arena, id: RootId) -> Result<Blob, OpenError> {
        root::acquire(arena, id, kind::BLOB)?;
        let descriptor = arena.descriptor(id.index).ok_or(OpenError::Gone)?;
        let (header_at, size) = arena.extent(descriptor).ok_or(OpenError::Gone)?;
        let header: &BlobHeader = arena.inner.segment.at(header_at);
        let count = header.count.load(Acquire);
        let len = header.len.load(Relaxed);
        let needed = BODY_AT.saturating_add(u64::from(count) * REFERENCE).saturating_add(len);
        let blob = Blob { arena: *arena, id, header_at, count, len: len as usize };
        if needed > size { Err(OpenError::Gone) } else { Ok(blob) }
    }

    /// The name by which other processes open it.
    pub fn id(&self) -> RootId {
        self.id
    }

    /// The arena that it lies in.
    pub fn arena(&self) -> Arena {
        self.arena
    }

    /// The publisher's tag.
    pub fn tag(&self) -> u16 {
        let header: &BlobHeader = self.arena.inner.segment.at(self.header_at);
        header.tag.load(Relaxed) as u16
    }

    /// The published bytes.
    pub fn payload(&self) -> &[u8] {
        let at = self.header_at + BODY_AT + u64::from(self.count) * REFERENCE;
        let address = self.arena.inner.segment.address(at, self.len);
        // SAFETY: within the root block (checked at `open`, made so at `publish`), which this
        // handle keeps alive; nobody writes to a blob after its birth.
        unsafe { core::slice::from_raw_parts(address.as_ptr(), self.len) }
    }

    /// How many blocks were published with it.
    pub fn block_count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the blob and its blocks.
    pub fn total_len(&self) -> usize {
        (0..self.block_count())
            .filter_map(|nth| self.reference(nth))
            .map(|reference| reference.len as usize)
            .sum::<usize>()
            + self.len
    }

    fn reference(&self, nth: usize) -> Option<BlockRef> {
        reference(&self.arena, self.header_at, self.count, nth)
    }

    /// A copy-on-write view of the `nth` block: writable, and nobody else sees what is written.
    pub fn view(self: &Arc<Blob>, nth: usize) -> Result<PrivateView, OpenError> {
        let reference = self.reference(nth).ok_or(OpenError::Gone)?;
        let descriptor = self.arena.descriptor(reference.index).ok_or(OpenError::Gone)?;
        let (offset, size) = self.arena.extent(descriptor).ok_or(OpenError::Gone)?;
        let len = reference.len.min(size) as usize;
        let page = rustix::param::page_size() as u64;
        let (address, mapped) = match self.arena.fd() {
            Some(fd) if len > 0 && offset % page == 0 => {
                let mapped = len.next_multiple_of(page as usize);
                let address =
                    memfd::map_private(fd, offset, mapped).map_err(|errno| OpenError::Create(errno.into()))?;
                (address, mapped)
            }
            // Small blocks share pages with others; a heap arena has no pages to map.
            _ => (copy(&self.arena, offset, len), 0),
        };
        self.arena.count(Counter::Fetched, 1);
        Ok(PrivateView { address, len, mapped, _blob: Arc::clone(self) })
    }
}

fn copy(arena: &Arena, offset: u64, len: usize) -> NonNull<u8> {
    let source = arena.inner.segment.address(offset, len);
    // SAFETY: `len` bytes of a block that the caller keeps alive and nobody writes.
    let bytes = unsafe { core::slice::from_raw_parts(source.as_ptr(), len) };
    let mut owned = bytes.to_vec();
    owned.reserve(1); // so that an empty view has an address of its own
    owned.shrink_to_fit();
    let leaked: &'static mut [u8] = Box::leak(owned.into_boxed_slice());
    NonNull::from(leaked).cast()
}

impl Drop for Blob {
    fn drop(&mut self) {
        if let Ok(me) = self.arena.me() {
            root::release(&self.arena, self.id, me);
        }
    }
}

/// A private, writable view of a published block. Keeps the blob alive.
#[derive(Debug)]
pub struct PrivateView {
    address: NonNull<u8>,
    len: usize,
    /// Bytes mapped, or 0 if the view is a copy on the heap.
    mapped: usize,
    _blob: Arc<Blob>,
}

// SAFETY: plain memory that belongs to this view.
unsafe impl Send for PrivateView {}
// SAFETY: as for Send.
unsafe impl Sync for PrivateView {}

impl PrivateView {
    /// Address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Bytes in the view.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the view holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for PrivateView {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: the range was mapped for this view, whose last user drops it now.
            unsafe { memfd::unmap(self.address, self.mapped) };
        } else {
            let slice = core::ptr::slice_from_raw_parts_mut(self.address.as_ptr(), self.len);
            // SAFETY: made by `copy` from a boxed slice of exactly this length.
            drop(unsafe { Box::from_raw(slice) });
        }
    }
}

fn encode(reference: BlockRef) -> [u8; REFERENCE as usize] {
    let mut bytes = [0; REFERENCE as usize];
    bytes[..4].copy_from_slice(&reference.index.to_ne_bytes());
    bytes[4..8].copy_from_slice(&reference.generation.to_ne_bytes());
    bytes[8..].copy_from_slice(&reference.len.to_ne_bytes());
    bytes
}

fn reference(arena: &Arena, header_at: u64, count: u32, nth: usize) -> Option<BlockRef> {
    if nth >= count as usize {
        return None;
    }
    let at = header_at + BODY_AT + nth as u64 * REFERENCE;
    let word = |at: u64| -> &AtomicU32 { arena.inner.segment.at(at) };
    let len: &AtomicU64 = arena.inner.segment.at(at + 8);
    Some(BlockRef { index: word(at).load(Relaxed), generation: word(at + 4).load(Relaxed), len: len.load(Relaxed) })
}

// SAFETY: an atomic word is what the trait asks for.
unsafe impl SharedRepr for AtomicU32 {}
// SAFETY: as above.
unsafe impl SharedRepr for AtomicU64 {}

/// The blocks of a blob, with their descriptors, as far as they are (still) the blob's.
fn blocks(arena: &Arena, descriptor: &Descriptor) -> impl Iterator<Item = (u32, &'static Descriptor)> {
    let arena = *arena;
    let (header_at, size) = arena.extent(descriptor).unwrap_or((0, 0));
    let count = if size >= BODY_AT {
        let header: &BlobHeader = arena.inner.segment.at(header_at);
        header.count.load(Relaxed).min(((size - BODY_AT) / REFERENCE) as u32)
    } else {
        0
    };
    (0..count as usize).filter_map(move |nth| {
        let reference = reference(&arena, header_at, count, nth)?;
        let descriptor = arena.descriptor(reference.index)?;
        (descriptor.generation.load(Relaxed) == reference.generation).then_some((reference.index, descriptor))
    })
}

pub(crate) fn survey(arena: &Arena, descriptor: &Descriptor, reachable: &mut Reachable) {
    for (index, _) in blocks(arena, descriptor) {
        reachable.insert(index);
    }
}

/// Gives the blob's blocks back. A block that was given back before (by somebody who died doing
/// this) has another generation by now and is passed over.
pub(crate) fn empty_for_destruction(arena: &Arena, descriptor: &Descriptor, me: u32) {
    for (index, block) in blocks(arena, descriptor) {
        store(&block.owner, me, Relaxed);
        arena.release(index);
    }
}

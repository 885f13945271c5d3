//! The memory that processes share: a memory file in real life, a piece of the heap in tests.

use crate::layout::SharedRepr;
use crate::sys::memfd;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ptr::NonNull;

/// A mapped segment. Mapped for as long as the process lives: views into it may be anywhere.
pub(crate) struct Segment {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
}

enum Backing {
    Memfd(OwnedFd),
    /// Memory of this process, for tests and for Miri: never grows, has no pages of its own.
    Heap,
}

// SAFETY: the mapping is never unmapped; all shared access through it is atomic or guarded by the
// protocols of the modules above.
unsafe impl Send for Segment {}
// SAFETY: as for Send.
unsafe impl Sync for Segment {}

impl Segment {
    /// A new memory file of `len` bytes (address space, not memory).
    pub(crate) fn create(len: usize) -> Result<Segment, Errno> {
        Segment::map(memfd::create(len as u64)?, len)
    }

    /// Maps an existing memory file.
    pub(crate) fn map(fd: OwnedFd, len: usize) -> Result<Segment, Errno> {
        let base = memfd::map_shared(fd.as_fd(), len)?;
        Ok(Segment { base, len, backing: Backing::Memfd(fd) })
    }

    /// A segment on the heap, zeroed, of `len` bytes, leaked.
    pub(crate) fn heap(len: usize) -> Segment {
        let layout = std::alloc::Layout::from_size_align(len, 4096).expect("a sane test size");
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        Segment { base: NonNull::new(base).expect("memory for a test segment"), len, backing: Backing::Heap }
    }

    /// The same memory once more, as if another process had mapped it.
    pub(crate) fn again(&self) -> Result<Segment, Errno> {
        match &self.backing {
            Backing::Memfd(fd) => Segment::map(fd.try_clone().map_err(|_| Errno::MFILE)?, self.len),
            Backing::Heap => Ok(Segment { base: self.base, len: self.len, backing: Backing::Heap }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Memfd(fd) => Some(fd.as_fd()),
            Backing::Heap => None,
        }
    }

    /// The structure at `offset`.
    ///
    /// Panics if it does not lie within the segment or is misaligned: offsets that come from
    /// shared memory are checked before (see `Arena::descriptor`).
    #[inline]
    pub(crate) fn at<T: SharedRepr>(&self, offset: u64) -> &T {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= self.len);
        // SAFETY: in range and aligned (just checked, from the local copy of `offset`); any bytes
        // are a valid `T` and all its access is atomic (SharedRepr); the mapping lives for ever.
        unsafe { self.base.byte_add(offset).cast::<T>().as_ref() }
    }

    /// The address of byte `offset`, of which `len` bytes lie within the segment (else panics).
    #[inline]
    pub(crate) fn address(&self, offset: u64, len: usize) -> NonNull<u8> {
        let offset = offset as usize;
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.byte_add(offset) }
    }

    /// See [`memfd::allocate`].
    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        match &self.backing {
            Backing::Memfd(fd) => memfd::allocate(fd, offset, len),
            Backing::Heap if offset + len <= self.len as u64 => Ok(()),
            Backing::Heap => Err(Errno::NOSPC),
        }
    }

    /// See [`memfd::punch`].
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        match &self.backing {
            Backing::Memfd(fd) => memfd::punch(fd, offset, len),
            Backing::Heap => Ok(()),
        }
    }
}

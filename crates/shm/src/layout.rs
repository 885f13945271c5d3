//! What lies where in a segment. Every structure that two processes share is declared here.
//!
//! ```text
//!  offset      length      what
//!  0           4 KiB       Header           identity, limit, locks, heads of the free lists
//!  4 KiB       256 KiB     [Slot; 1024]     participants: who uses the segment
//!  32 MiB      32 MiB      [Descriptor; 1Mi] one per block, backed by pages as it grows
//!  64 MiB      reserve     data             blocks, carved one behind the other
//!
//!  Header
//!  +0    magic            u64   "brkeven\1"
//!  +8    version          u64   layout version | sizeof(pthread_mutex_t) << 32
//!  +16   reserve          u64   bytes of the whole segment
//!  +24   limit            u64   most bytes of pages that blocks may hold
//!  +32   committed        u64   bytes of pages that blocks hold now
//!  +40   peak             u64   the most that `committed` ever was
//!  +48   descriptors      u32   how many exist; THE STORE THAT COMMITS A CARVE
//!  +52   reap_wanted      u32   1 after somebody was found to have died holding a lock
//!  +64   arena_lock       64    guards free lists, descriptors, committed
//!  +128  roots_lock       64    guards slots, and the life and death of channels and blobs
//!  +192  freed            64    event: memory was given back
//!  +256  departed         128   counters of participants that are gone
//!  +384  free            1404   per size class: index + 1 of the first free block; THE STORE THAT
//!                               COMMITS AN ALLOCATION OR A RELEASE
//!  +1792 fresh_lock       64    held while somebody fills memory that was never used before
//!
//!  Slot (participant), 256 bytes
//!  +0    state            u32   FREE, RESERVED, ALIVE, DYING; THE STORE THAT COMMITS A CHANGE
//!  +4    generation       u32   how often the slot was given out
//!  +8    pid              u32
//!  +12   reserved_by      u32   participant that is about to fork this one
//!  +16   start_time       u64   of the process, in clock ticks after boot
//!  +24   reserved_at      u64   monotonic nanoseconds
//!  +64   counters         128   sixteen u64, written by this participant only
//!
//!  Descriptor (block), 32 bytes
//!  +0    offset           u64   of the block in the segment
//!  +8    owner            u32   participant id; 0: on a free list; u32::MAX: held by a channel
//!  +12   generation       u32   counts releases, so that a stale reference is recognised
//!  +16   next             u32   index + 1 of the next free block
//!  +20   class            u32   size class
//!  +24   kind             u32   DATA, RING, CHANNEL, BLOB, LIST, SYNC, DICT; THE STORE THAT MAKES OR
//!                              ENDS A ROOT
//!  +28   backing          u32   COLD, BACKING, BACKED: whether pages exist
//! ```

use crate::arena::size_class::CLASSES;
use crate::primitive::{AtomicU32, AtomicU64};
use crate::sys::robust::RobustMutex;
use crate::wait::EventWord;

/// "brkeven" and a one, little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"brkeven\x01");
/// Raised whenever the layout changes.
pub(crate) const LAYOUT: u64 = 3;
/// The version word of segments that this build can use.
pub(crate) const VERSION: u64 = LAYOUT | (size_of::<libc::pthread_mutex_t>() as u64) << 32;

/// Most processes that can use a segment at a time.
pub const MAX_PARTICIPANTS: usize = 1024;
/// Most blocks that can exist at a time.
pub const MAX_BLOCKS: u32 = 1 << 20;

pub(crate) const SLOTS_AT: u64 = 4096;
pub(crate) const DESCRIPTORS_AT: u64 = 32 << 20;
pub(crate) const DATA_AT: u64 = 64 << 20;
/// How many bytes of the descriptor table get pages at a time.
pub(crate) const DESCRIPTOR_STEP: u64 = 64 << 10;

/// Number of counters that each participant keeps.
pub const COUNTERS: usize = 16;

#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU64,
    pub(crate) reserve: AtomicU64,
    pub(crate) limit: AtomicU64,
    pub(crate) committed: AtomicU64,
    pub(crate) peak: AtomicU64,
    pub(crate) descriptors: AtomicU32,
    pub(crate) reap_wanted: AtomicU32,
    pub(crate) _pad: [AtomicU64; 1],
    pub(crate) arena_lock: RobustMutex,
    pub(crate) roots_lock: RobustMutex,
    pub(crate) freed: EventWord,
    pub(crate) departed: [AtomicU64; COUNTERS],
    pub(crate) free: [AtomicU32; CLASSES],
    pub(crate) fresh_lock: RobustMutex,
}

pub(crate) mod slot_state {
    pub(crate) const FREE: u32 = 0;
    pub(crate) const RESERVED: u32 = 1;
    pub(crate) const ALIVE: u32 = 2;
    pub(crate) const DYING: u32 = 3;
}

#[repr(C, align(256))]
pub(crate) struct Slot {
    pub(crate) state: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) pid: AtomicU32,
    pub(crate) reserved_by: AtomicU32,
    pub(crate) start_time: AtomicU64,
    pub(crate) reserved_at: AtomicU64,
    pub(crate) _pad: [AtomicU64; 4],
    pub(crate) counters: [AtomicU64; COUNTERS],
}

pub(crate) mod owner {
    /// On a free list.
    pub(crate) const FREE: u32 = 0;
    /// Reachable from a channel or blob, and whoever made it is gone.
    pub(crate) const HELD: u32 = u32::MAX;
}

pub(crate) mod kind {
    pub(crate) const DATA: u32 = 0;
    pub(crate) const RING: u32 = 1;
    pub(crate) const CHANNEL: u32 = 2;
    pub(crate) const BLOB: u32 = 3;
    pub(crate) const LIST: u32 = 4;
    pub(crate) const SYNC: u32 = 5;
    pub(crate) const DICT: u32 = 6;
}

pub(crate) mod backing {
    pub(crate) const COLD: u32 = 0;
    pub(crate) const BACKING: u32 = 1;
    pub(crate) const BACKED: u32 = 2;
}

#[repr(C, align(32))]
pub(crate) struct Descriptor {
    pub(crate) offset: AtomicU64,
    pub(crate) owner: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) next: AtomicU32,
    pub(crate) class: AtomicU32,
    pub(crate) kind: AtomicU32,
    pub(crate) backing: AtomicU32,
}

const _: () = {
    assert!(core::mem::offset_of!(Header, descriptors) == 48);
    assert!(core::mem::offset_of!(Header, arena_lock) == 64);
    assert!(core::mem::offset_of!(Header, roots_lock) == 128);
    assert!(core::mem::offset_of!(Header, freed) == 192);
    assert!(core::mem::offset_of!(Header, departed) == 256);
    assert!(core::mem::offset_of!(Header, free) == 384);
    assert!(core::mem::offset_of!(Header, fresh_lock) == 1792);
    assert!(size_of::<Header>() <= SLOTS_AT as usize);
    assert!(size_of::<Slot>() == 256);
    assert!(core::mem::offset_of!(Slot, counters) == 64);
    assert!(SLOTS_AT as usize + size_of::<Slot>() * MAX_PARTICIPANTS <= DESCRIPTORS_AT as usize);
    assert!(size_of::<Descriptor>() == 32);
    assert!(core::mem::offset_of!(Descriptor, owner) == 8);
    assert!(core::mem::offset_of!(Descriptor, backing) == 28);
    assert!(DESCRIPTORS_AT as usize + size_of::<Descriptor>() * MAX_BLOCKS as usize <= DATA_AT as usize);
};

/// Types that may be looked at in place in a segment.
///
/// # Safety
/// Any bit pattern is a valid value, all access is atomic (or through a lock that is itself made
/// of such words), and the type holds no address and nothing that is bound to a process.
pub(crate) unsafe trait SharedRepr {}

// SAFETY: atomics, locks and event words only.
unsafe impl SharedRepr for Header {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Slot {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Descriptor {}

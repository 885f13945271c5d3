//! What lies where in the memory file of a recorded run.
//!
//! ```text
//!  offset            length     what
//!  0                 4 KiB      Header: identity
//!  4 KiB             8 KiB      owners, [u64; 1024]: which process has which slot
//!  64 KiB            1024 slots of 2.5 MiB each, sparse: pages come as they are written
//!
//!  Header
//!  +0    magic            u64   "brktrace"
//!  +8    version          u64   layout version
//!  +16   recorder         u64   pid of the process that reads
//!  +24   stopped          u64   1: the recording has ended, nobody needs to write any more
//!  +32   claims           u64   how many slots were ever claimed
//!  +40   per_call         u64   nanoseconds that a hooked call costs beside what its hook measures
//!
//!  owner
//!        0: free;  else pid | claims << 32.  THE STORE THAT CLAIMS A SLOT (compare and swap, by the writer) OR FREES
//!        ONE (by the reader, after it has emptied and cleared it)
//!
//!  slot
//!  +0       4 KiB     Slot
//!  +4 KiB   128 KiB   [OpenThread; 128]: what each thread is in right now
//!  +132 KiB 380 KiB   strings: length u32, bytes, padded to 4; one behind the other
//!  +512 KiB 2 MiB     [Cell; 32768]: the ring
//!
//!  Slot
//!  +0    pid              u32
//!  +4    parent           u32   the process of the run that asked for this one
//!  +8    begun            u64   monotonic nanosecond at which the writer came up
//!  +16   method           u32   how it was started, a string's number
//!  +20   name             u32   its name, a string's number
//!  +24   strings_used     u32   bytes of strings; THE STORE THAT COMMITS A STRING
//!  +28   strings_count    u32   how many; a string's number is its place from 1
//!  +32   ended            u32   1: `last` is valid; 2: and `exit_code` too
//!  +36   exit_code        u32   (an i32)
//!  +40   started          u64   of the process, in clock ticks after boot
//!  +64   head             u64   cells reserved by the writer's threads since the beginning
//!  +72   dropped          u64   records that found the ring full
//!  +80   written          u64   records that did not
//!  +88   errors           u64   faults of the hooks themselves
//!  +96   locks_free       u64   locks taken without waiting
//!  +128  tail             u64   cells that the reader has emptied; THE STORE THAT GIVES CELLS BACK
//!  +192  last             64    the process's account at its end, by itself
//!  +256  hooks            [[u64; 2]; 96]   of each kind of records (0: none) the calls that went through hooks, and the
//!                               nanoseconds that the hooks took of them, without the calls themselves
//!
//!  OpenThread, 1024 bytes
//!  +0    tid              u32   0: free; THE STORE THAT CLAIMS OR FREES IT
//!  +4    depth            u32   open spans; THE STORE THAT OPENS OR CLOSES ONE. More than are kept is possible
//!  +64   spans            [Cell; 15], the outermost first, as records without an end
//!
//!  Cell, 64 bytes: a record, eight words. Word 6 is never 0 in a record and 0 in a cell that is not written (yet): THE
//!  STORE THAT PUBLISHES A RECORD
//! ```
//!
//! | killed | what the reader finds |
//! |---|---|
//! | before `owner` is claimed | nothing |
//! | after it, before `pid` | a slot without anything; freed |
//! | in the midst of a string | a string that does not count |
//! | between reserving a cell and publishing it | an empty cell; skipped once the process is dead |
//! | inside spans | the open spans |
//! | between publishing a span's record and closing it | both; the open one is left out |

use super::ring::Cell;
use crate::layout::SharedRepr;
use crate::primitive::{AtomicU32, AtomicU64};

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"brktrace");
pub(super) const VERSION: u64 = 2;

/// Most processes that are recorded at a time.
pub const SLOTS: usize = 1024;
/// Kinds of records whose hooks' cost is counted.
pub const KINDS: usize = 96;
/// Cells in a ring.
pub const CELLS: usize = 32768;
/// Threads of a process whose open spans are kept.
pub const OPEN_THREADS: usize = 128;
/// Open spans that are kept for a thread.
pub const OPEN_SPANS: usize = 15;

pub(super) const OWNERS_AT: usize = 4096;
pub(super) const SLOTS_AT: usize = 64 << 10;
pub(super) const OPEN_AT: usize = 4096;
pub(super) const STRINGS_AT: usize = OPEN_AT + OPEN_THREADS * 1024;
pub(super) const RING_AT: usize = 512 << 10;
pub(super) const STRINGS: usize = RING_AT - STRINGS_AT;
pub(super) const SLOT: usize = RING_AT + CELLS * 64;
pub(super) const FILE: usize = SLOTS_AT + SLOTS * SLOT;

#[repr(C)]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU64,
    pub(super) recorder: AtomicU64,
    pub(super) stopped: AtomicU64,
    pub(super) claims: AtomicU64,
    pub(super) per_call: AtomicU64,
}

#[repr(C)]
pub(super) struct Slot {
    pub(super) pid: AtomicU32,
    pub(super) parent: AtomicU32,
    pub(super) begun: AtomicU64,
    pub(super) method: AtomicU32,
    pub(super) name: AtomicU32,
    pub(super) strings_used: AtomicU32,
    pub(super) strings_count: AtomicU32,
    pub(super) ended: AtomicU32,
    pub(super) exit_code: AtomicU32,
    pub(super) started: AtomicU64,
    pub(super) _pad: [AtomicU64; 2],
    pub(super) head: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) locks_free: AtomicU64,
    pub(super) _pad2: [AtomicU64; 3],
    pub(super) tail: AtomicU64,
    pub(super) _pad3: [AtomicU64; 7],
    pub(super) last: [AtomicU64; 8],
    pub(super) hooks: [[AtomicU64; 2]; KINDS],
}

#[repr(C)]
pub(super) struct OpenThread {
    pub(super) tid: AtomicU32,
    pub(super) depth: AtomicU32,
    pub(super) _pad: [AtomicU64; 7],
    pub(super) spans: [Cell; OPEN_SPANS],
}

// SAFETY: atomics only.
unsafe impl SharedRepr for Header {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Slot {}
// SAFETY: atomics only.
unsafe impl SharedRepr for OpenThread {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Cell {}

const _: () = {
    assert!(OWNERS_AT + SLOTS * 8 <= SLOTS_AT);
    assert!(size_of::<Header>() <= OWNERS_AT);
    assert!(core::mem::offset_of!(Slot, ended) == 32);
    assert!(core::mem::offset_of!(Slot, started) == 40);
    assert!(core::mem::offset_of!(Slot, head) == 64);
    assert!(core::mem::offset_of!(Slot, locks_free) == 96);
    assert!(core::mem::offset_of!(Slot, hooks) == 256);
    assert!(core::mem::offset_of!(Slot, tail) == 128);
    assert!(core::mem::offset_of!(Slot, last) == 192);
    assert!(size_of::<Slot>() <= OPEN_AT);
    assert!(size_of::<OpenThread>() == 1024);
    assert!(core::mem::offset_of!(OpenThread, spans) == 64);
    assert!(size_of::<Cell>() == 64);
    assert!(SLOTS_AT.is_multiple_of(4096) && SLOT.is_multiple_of(4096) && STRINGS_AT.is_multiple_of(4096));
    assert!(CELLS.is_power_of_two());
};

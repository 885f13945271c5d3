//! The two ends of a ring: the words in which senders and receivers meet, and in which order they
//! write and read them. Nothing here touches the cells, so that the model checker runs this file
//! as it ships (`tests/model_loom_ring.rs`).
//!
//! ```text
//!  +0      capacity   u32   cells, a power of two
//!  +8      next       u64   names the ring that follows; THE STORE THAT LINKS IT
//!  +64     tail       u64   Mark of the senders; THE STORE THAT COMMITS A SEND
//!  +72     seen_head  u64   the head when a sender last looked (senders' cache)
//!  +128    head       u64   Mark of the receivers; THE STORE THAT COMMITS A RECEIVE
//!  +136    seen_tail  u64   the tail when a receiver last looked (receivers' cache)
//! ```
//!
//! The senders' words are written with the send lock held, the receivers' with the recv lock.
//! Both caches hold a former value of the other end's mark, so what they say is at worst
//! pessimistic; a process that dies leaves them so.

use super::ring::{Mark, Place, place};
use crate::crash::store64;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64};

/// The first 192 bytes of a ring.
#[derive(Debug)]
#[repr(C)]
pub struct Marks {
    capacity: AtomicU32,
    _pad: AtomicU32,
    next: AtomicU64,
    _pad0: [AtomicU64; 6],
    tail: AtomicU64,
    seen_head: AtomicU64,
    _pad1: [AtomicU64; 6],
    head: AtomicU64,
    seen_tail: AtomicU64,
    _pad2: [AtomicU64; 6],
}

#[cfg(not(breakeven_loom))]
const _: () = {
    assert!(size_of::<Marks>() == 192);
    assert!(core::mem::offset_of!(Marks, next) == 8);
    assert!(core::mem::offset_of!(Marks, tail) == 64);
    assert!(core::mem::offset_of!(Marks, head) == 128);
};

#[cfg(not(breakeven_loom))]
// SAFETY: atomics only.
unsafe impl crate::layout::SharedRepr for Marks {}

/// What a receiver finds where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// A message.
    Message,
    /// Nothing, yet.
    Empty,
    /// Nothing, for ever: the senders have gone on to the ring that this word names.
    Successor(u64),
}

impl Marks {
    /// Makes this a ring of `capacity` cells whose first message will have the sequence of `start`.
    /// Nobody else uses it yet.
    pub fn init(&self, capacity: u32, start: Mark) {
        self.capacity.store(capacity, Relaxed);
        self.next.store(0, Relaxed);
        for mark in [&self.tail, &self.seen_head, &self.head, &self.seen_tail] {
            mark.store(start.0, Relaxed);
        }
    }

    /// Cells in the ring; constant as long as it is one.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity.load(Relaxed)
    }

    /// Where the senders stand. The send lock is held, or the answer is outdated at once.
    #[inline]
    pub fn tail(&self) -> Mark {
        Mark(self.tail.load(Relaxed))
    }

    /// Where the receivers stand. The recv lock is held, or the answer is outdated at once.
    #[inline]
    pub fn head(&self) -> Mark {
        Mark(self.head.load(Relaxed))
    }

    /// The word that names the ring that follows, or 0.
    #[inline]
    pub fn next(&self) -> u64 {
        // SYNC POINT: link. What the ring that follows began with is visible.
        self.next.load(Acquire)
    }

    /// Commits the ring named by `word` as the one that follows; no message is put into this one
    /// any more. The send lock is held, and nothing unpublished was written.
    pub fn link(&self, word: u64) {
        // SYNC POINT: link.
        store64(&self.next, word, Release);
    }

    /// Room for `cells` cells behind `tail`, if there is. The send lock is held.
    #[inline]
    pub fn room(&self, tail: Mark, cells: u32) -> Option<Place> {
        let capacity = self.capacity();
        let seen = Mark(self.seen_head.load(Relaxed));
        if let Some(place) = place(capacity, seen, tail, cells) {
            return Some(place);
        }
        // SYNC POINT: space. The receivers are done reading what will be overwritten. Later
        // senders, who find the place by `seen_head`, know it through the send lock.
        let head = self.head.load(Acquire);
        self.seen_head.store(head, Relaxed);
        place(capacity, Mark(head), tail, cells)
    }

    /// Commits everything that was written up to `tail`. The send lock is held.
    #[inline]
    pub fn publish(&self, tail: Mark) {
        // SYNC POINT: message. The cells are visible to whoever sees this tail.
        store64(&self.tail, tail.0, Release);
    }

    /// The tail as far as receivers have seen it; at least one message lies between `head` and it
    /// after [`has_message`](Self::has_message) said so. The recv lock is held.
    #[inline]
    pub fn seen_tail(&self) -> Mark {
        Mark(self.seen_tail.load(Relaxed))
    }

    /// Whether there is a message at `head`, where the receivers stand. The recv lock is held.
    #[inline]
    pub fn has_message(&self, head: Mark) -> bool {
        // Whoever stored `seen_tail` had acquired the tail; we know what it knew through the recv
        // lock.
        self.seen_tail.load(Relaxed) != head.0 || self.has_message_exactly(head)
    }

    /// The same, looking at the senders' word even if it need not.
    #[inline]
    pub fn has_message_exactly(&self, head: Mark) -> bool {
        // SYNC POINT: message.
        let tail = self.tail.load(Acquire);
        self.seen_tail.store(tail, Relaxed);
        tail != head.0
    }

    /// What there is at `head`, where the receivers stand. The recv lock is held.
    #[inline]
    pub fn front(&self, head: Mark) -> Front {
        if self.has_message(head) {
            return Front::Message;
        }
        match self.next() {
            0 => Front::Empty,
            // Nothing is put here after the link, but something may have been between our look at
            // the tail and the link: so look again, now that the link is known.
            _ if self.has_message_exactly(head) => Front::Message,
            next => Front::Successor(next),
        }
    }

    /// Commits the receipt of everything before `head`. The recv lock is held.
    #[inline]
    pub fn release(&self, head: Mark) {
        // SYNC POINT: space. Our reads of the cells are done.
        store64(&self.head, head.0, Release);
    }
}

#[cfg(breakeven_loom)]
impl Default for Marks {
    fn default() -> Marks {
        let eight = || [(); 6].map(|()| AtomicU64::new(0));
        let zero = || AtomicU64::new(0);
        Marks {
            capacity: AtomicU32::new(0),
            _pad: AtomicU32::new(0),
            next: zero(),
            _pad0: eight(),
            tail: zero(),
            seen_head: zero(),
            _pad1: eight(),
            head: zero(),
            seen_tail: zero(),
            _pad2: eight(),
        }
    }
}

//! A lock that knows which participant holds it. Protocol and kill table are in `README.md`.
//!
//! ```text
//!  word  u32
//!  bits 0..10   slot of the owner's participant, 0x7ff for an owner that was found dead
//!  bit  14      RECOVERED: the owner took it over from one that died holding it
//!  bits 16..31  generation of that slot
//!  0: nobody holds it
//! ```

use crate::crash;
use crate::primitive::AtomicU32;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::wait::{EventWord, Futex};

/// The owner took the lock over from one that had died.
const RECOVERED: u32 = 1 << 14;
const OWNER: u32 = 0xffff_07ff;
/// Held by somebody who was found dead; whoever comes next takes it over. No participant has this id.
const ABANDONED: u32 = 0x07ff;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A participant, which may be dead.
    Participant(u32),
    /// A participant that was found dead.
    Dead,
}

/// What a look at a lock found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen(u32);

impl Seen {
    /// Who held the lock.
    #[inline]
    pub fn holder(self) -> Holder {
        match self.0 & OWNER {
            0 => Holder::Nobody,
            ABANDONED => Holder::Dead,
            participant => Holder::Participant(participant),
        }
    }

    /// Whether the holder had taken the lock over from one that died.
    pub fn recovered(self) -> bool {
        self.0 & RECOVERED != 0
    }
}

/// The lock itself.
#[derive(Debug, Default)]
#[repr(C)]
pub struct MutexWord {
    word: AtomicU32,
}

impl MutexWord {
    /// What is there now.
    #[inline]
    pub fn look(&self) -> Seen {
        Seen(self.word.load(Relaxed))
    }

    /// Takes the lock for participant `me` if nobody holds it; else says what is there.
    #[inline]
    pub fn try_take(&self, me: u32) -> Result<(), Seen> {
        // SYNC POINT: section. Whoever takes the lock sees what its last holder wrote.
        match self.word.compare_exchange(0, me, Acquire, Relaxed) {
            Ok(_) => {
                crash::point();
                Ok(())
            }
            Err(seen) => Err(Seen(seen)),
        }
    }

    /// Takes the lock over from a holder that is known to be dead, if it is still as `seen`. Of
    /// several who try one succeeds.
    pub fn take_over(&self, seen: Seen, me: u32) -> bool {
        let taken = self.word.compare_exchange(seen.0, me | RECOVERED, Acquire, Relaxed).is_ok();
        crash::point();
        taken
    }

    /// Makes the lock free, whoever holds it, and wakes one who waits for it. `None` if it was free.
    #[inline]
    pub fn release(&self, released: &EventWord, futex: &impl Futex) -> Option<usize> {
        let before = self.word.swap(0, Release); // SYNC POINT: section
        if before == 0 {
            return None;
        }
        crash::point();
        Some(released.notify(futex, 1))
    }

    /// Says that the holder is dead, if it is one of those of whom `dead` is true: from then on its
    /// number may be given to somebody else.
    pub fn abandon(&self, dead: impl Fn(u32) -> bool) {
        let seen = self.look();
        if let Holder::Participant(participant) = seen.holder()
            && dead(participant)
        {
            let _ = self.word.compare_exchange(seen.0, ABANDONED, Relaxed, Relaxed);
            crash::point();
        }
    }
}

//! A counter that knows how many of its permits each participant holds, exactly, whenever anybody
//! may die. Protocol and kill table are in `README.md`.
//!
//! ```text
//!  word   u64                                     ledger [u64; 1024], by participant slot
//!  bits 0..30   permits                           bits 0..31   permits held
//!  bits 31..32  last operation: kind              bits 32..63  sequence: operations entered
//!  bits 33..43  its participant's slot - 1
//!  bits 44..63  sequence of its ledger entry before it
//! ```
//! The word's exchange is the operation; the ledger follows. Whoever comes next enters the last
//! operation into the ledger before it replaces it in the word, so the ledger is at most one
//! operation behind, and the word says which.

use crate::crash;
use crate::primitive::AtomicU64;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};

/// Most permits that a semaphore can have.
pub const MOST_PERMITS: u32 = PERMITS as u32;

const PERMITS: u64 = (1 << 31) - 1;
const KIND_SHIFT: u32 = 31;
const SLOT_SHIFT: u32 = 33;
const SEQUENCE_SHIFT: u32 = 44;
const SEQUENCE: u64 = (1 << 20) - 1;

const NOTHING: u64 = 0;
const TAKE: u64 = 1;
const GIVE: u64 = 2;
const RESTORE: u64 = 3;

/// The permits that there are, and the last operation.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SemaphoreWord {
    word: AtomicU64,
}

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn new(permits: u64, kind: u64, place: usize, entry: u64) -> Word {
        let sequence = (entry >> 32) & SEQUENCE;
        Word(permits | kind << KIND_SHIFT | (place as u64) << SLOT_SHIFT | sequence << SEQUENCE_SHIFT)
    }

    fn permits(self) -> u64 {
        self.0 & PERMITS
    }

    fn kind(self) -> u64 {
        self.0 >> KIND_SHIFT & 3
    }

    fn place(self) -> usize {
        (self.0 >> SLOT_SHIFT & 0x7ff) as usize
    }

    fn sequence(self) -> u64 {
        self.0 >> SEQUENCE_SHIFT
    }
}

/// Enters the word's operation into the ledger, unless that was done.
fn settle(word: Word, ledger: &[AtomicU64]) {
    let Some(entry) = ledger.get(word.place()) else { return };
    if word.kind() == NOTHING {
        return;
    }
    let before = entry.load(Acquire);
    if (before >> 32) & SEQUENCE != word.sequence() {
        return;
    }
    let held = before & u64::from(u32::MAX);
    let held = match word.kind() {
        TAKE => held + 1,
        // Given by one who holds none: it was another's, or it is a signal.
        GIVE => held.saturating_sub(1),
        _ => 0,
    };
    let sequence = (before >> 32).wrapping_add(1) << 32;
    // Fails if somebody else has entered it meanwhile.
    let _ = entry.compare_exchange(before, sequence | held, AcqRel, Relaxed);
    crash::point();
}

impl SemaphoreWord {
    /// A semaphore with so many permits; the ledger is to be zeros.
    pub fn init(&self, permits: u32) {
        self.word.store(u64::from(permits), Relaxed);
    }

    /// How many permits there are.
    #[inline]
    pub fn permits(&self) -> u32 {
        Word(self.word.load(Relaxed)).permits() as u32
    }

    /// One operation of the participant whose entry is at `place`: `change` says what becomes of the
    /// permits, given the permits and what the participant holds; `None` leaves all as it is.
    #[inline]
    fn operate(
        &self,
        ledger: &[AtomicU64],
        place: usize,
        kind: u64,
        change: impl Fn(u64, u64) -> Option<u64>,
    ) -> Option<u64> {
        let mut word = Word(self.word.load(Acquire));
        loop {
            settle(word, ledger);
            let entry = ledger.get(place)?.load(Acquire);
            let permits = change(word.permits(), entry & u64::from(u32::MAX))?;
            let next = Word::new(permits, kind, place, entry);
            // SYNC POINT: permit. Whoever takes a permit sees what its giver wrote.
            match self.word.compare_exchange(word.0, next.0, AcqRel, Acquire) {
                Ok(_) => {
                    crash::point();
                    settle(next, ledger);
                    return Some(word.permits());
                }
                Err(now) => word = Word(now),
            }
        }
    }

    /// Takes a permit, if there is one.
    #[inline]
    pub fn try_take(&self, ledger: &[AtomicU64], place: usize) -> bool {
        self.operate(ledger, place, TAKE, |permits, _| permits.checked_sub(1)).is_some()
    }

    /// Gives a permit back, unless there are `most` already.
    #[inline]
    pub fn try_give(&self, ledger: &[AtomicU64], place: usize, most: u32) -> bool {
        self.operate(ledger, place, GIVE, |permits, _| (permits < u64::from(most)).then_some(permits + 1)).is_some()
    }

    /// Gives back what a dead participant held, but not beyond `initial` permits, and clears its
    /// entry. Returns how many permits that brought.
    pub fn restore(&self, ledger: &[AtomicU64], place: usize, initial: u32) -> u32 {
        let brought = |permits: u64, held: u64| held.min(u64::from(initial).saturating_sub(permits));
        let held = core::cell::Cell::new(0);
        let before = self.operate(ledger, place, RESTORE, |permits, now| {
            held.set(now);
            (now > 0).then(|| permits + brought(permits, now))
        });
        before.map_or(0, |permits| brought(permits, held.get()) as u32)
    }
}

/// How many permits the participant at `place` holds.
pub fn held(ledger: &[AtomicU64], place: usize) -> u32 {
    ledger.get(place).map_or(0, |entry| entry.load(Acquire) as u32)
}

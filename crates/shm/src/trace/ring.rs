//! Handing records from the threads of one process to one reader elsewhere.

use crate::crash;
use crate::primitive::{AtomicU64, Ordering};

/// Words of a record.
pub type Words = [u64; 8];

/// Which word publishes a record. It must not be 0 in one.
pub const PUBLISHES: usize = 6;

/// A record in shared memory.
#[repr(C)]
pub struct Cell(pub [AtomicU64; 8]);

/// A ring's words, wherever they lie.
pub struct Ring<'a> {
    /// Cells reserved.
    pub head: &'a AtomicU64,
    /// Cells emptied.
    pub tail: &'a AtomicU64,
    /// Records that found no room.
    pub dropped: &'a AtomicU64,
    /// A power of two of them.
    pub cells: &'a [Cell],
}

impl Ring<'_> {
    fn cell(&self, position: u64) -> &[AtomicU64; 8] {
        &self.cells[position as usize & (self.cells.len() - 1)].0
    }

    /// Adds a record; by any thread of the writing process. `false`: no room, it was counted instead.
    #[inline]
    pub fn push(&self, words: &Words) -> bool {
        debug_assert!(words[PUBLISHES] != 0);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Acquire: the reader has emptied the cell before it gave it back.
            if head.wrapping_sub(self.tail.load(Ordering::Acquire)) >= self.cells.len() as u64 {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            match self.head.compare_exchange_weak(head, head + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        crash::point();
        let cell = self.cell(head);
        for at in [0, 1, 2, 3, 4, 5, 7] {
            crash::store64(&cell[at], words[at], Ordering::Relaxed);
        }
        crash::store64(&cell[PUBLISHES], words[PUBLISHES], Ordering::Release);
        true
    }

    /// Takes the oldest records, in the order in which they were reserved; by the one reader. Stops at a cell that is not
    /// published yet, unless the writer is `dead`: then nobody will. At most one ring's length of records at a time.
    pub fn drain(&self, dead: bool, mut take: impl FnMut(Words)) {
        let tail = self.tail.load(Ordering::Relaxed);
        // Another process wrote it: whatever it says, a ring has no more than its cells.
        let reserved = self.head.load(Ordering::Acquire).wrapping_sub(tail).min(self.cells.len() as u64);
        let mut at = tail;
        while at != tail.wrapping_add(reserved) {
            let cell = self.cell(at);
            let publishes = cell[PUBLISHES].load(Ordering::Acquire);
            if publishes != 0 {
                let mut words = [0; 8];
                for (word, shared) in words.iter_mut().zip(cell) {
                    *word = shared.load(Ordering::Relaxed);
                }
                words[PUBLISHES] = publishes;
                take(words);
                cell[PUBLISHES].store(0, Ordering::Relaxed);
            } else if !dead {
                break;
            }
            at = at.wrapping_add(1);
        }
        // Release: the cells are empty before they are given back.
        self.tail.store(at, Ordering::Release);
    }
}

#[cfg(all(test, not(breakeven_loom)))]
mod tests {
    use super::*;

    struct Memory {
        words: [AtomicU64; 3],
        cells: Vec<Cell>,
    }

    impl Memory {
        fn new(cells: usize) -> Memory {
            let cell = || Cell(core::array::from_fn(|_| AtomicU64::new(0)));
            Memory {
                words: core::array::from_fn(|_| AtomicU64::new(0)),
                cells: core::iter::repeat_with(cell).take(cells).collect(),
            }
        }

        fn ring(&self) -> Ring<'_> {
            Ring { head: &self.words[0], tail: &self.words[1], dropped: &self.words[2], cells: &self.cells }
        }

        fn drain(&self, dead: bool) -> Vec<u64> {
            let mut found = Vec::new();
            self.ring().drain(dead, |words| {
                assert!(words.iter().all(|&word| word == words[0]), "a torn record: {words:?}");
                found.push(words[0]);
            });
            found
        }
    }

    #[test]
    fn records_come_out_in_order_and_the_ring_goes_round() {
        let memory = Memory::new(4);
        for round in 0..10 {
            for n in 1..=3 {
                assert!(memory.ring().push(&[round * 3 + n; 8]));
            }
            assert_eq!(memory.drain(false), [round * 3 + 1, round * 3 + 2, round * 3 + 3]);
        }
    }

    #[test]
    fn a_full_ring_counts_and_goes_on_when_there_is_room() {
        let memory = Memory::new(4);
        let kept = (1..=7).filter(|&n| memory.ring().push(&[n; 8])).count();
        assert_eq!((kept, memory.words[2].load(Ordering::Relaxed)), (4, 3));
        assert_eq!(memory.drain(false), [1, 2, 3, 4]);
        assert!(memory.ring().push(&[8; 8]));
        assert_eq!(memory.drain(false), [8]);
    }

    #[test]
    fn a_nonsensical_head_ends() {
        let memory = Memory::new(4);
        memory.words[0].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(memory.drain(true), []);
        assert_eq!(memory.drain(false), []);
    }

    /// A writer that dies right after any of its stores leaves whole records only, and costs no other record.
    #[cfg(all(feature = "crash-points", debug_assertions))]
    #[test]
    fn killed_at_any_store() {
        let (_, stores) = crash::run(None, || Memory::new(4).ring().push(&[1; 8]));
        for after in 1..=stores {
            let memory = Memory::new(4);
            assert!(memory.ring().push(&[1; 8]));
            let (survived, _) = crash::run(Some(after), || memory.ring().push(&[2; 8]));
            assert!(survived.is_none());
            assert!(memory.ring().push(&[3; 8]), "another thread of it, or what it did before the kill");
            let whole = after == stores;
            if !whole {
                assert_eq!(memory.drain(false), [1], "while it may still be writing");
            }
            let rest = memory.drain(true);
            let expected: &[u64] = if whole { &[1, 2, 3] } else { &[3] };
            assert_eq!(rest, expected);
            assert!(memory.ring().push(&[4; 8]));
            assert_eq!(memory.drain(false), [4], "after {after} stores");
        }
    }

    #[test]
    fn threads_write_while_one_reads() {
        let memory = Memory::new(64);
        let ends = AtomicU64::new(0);
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (memory, ends) = (&memory, &ends);
                scope.spawn(move || {
                    for n in 0..2000 {
                        while !memory.ring().push(&[thread << 32 | (n + 1); 8]) {
                            std::thread::yield_now();
                        }
                    }
                    ends.fetch_add(1, Ordering::Release);
                });
            }
            while ends.load(Ordering::Acquire) < 3 {
                found.extend(memory.drain(false));
            }
        });
        found.extend(memory.drain(false));
        for thread in 0..3 {
            let of: Vec<u64> =
                found.iter().filter(|&&word| word >> 32 == thread).map(|word| word & 0xffff_ffff).collect();
            assert_eq!(of, (1..=2000).collect::<Vec<u64>>());
        }
    }
}

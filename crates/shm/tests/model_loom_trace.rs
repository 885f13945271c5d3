//! Every interleaving (with up to `LOOM_MAX_PREEMPTIONS` preemptions) of a recorded process's threads and the recorder on a
//! [`Ring`] of records, the very code that ships: records come whole, once and in each thread's order, what finds no room is
//! counted, and a cell is given back empty.
//!
//! `make loom`, or
//! `RUSTFLAGS="--cfg breakeven_loom" cargo test -p breakeven-shm --profile model --test model_loom_trace`.
#![cfg(breakeven_loom)]

#[path = "support/model.rs"]
mod model;

use breakeven_shm::trace::ring::{Cell, PUBLISHES, Ring};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use model::must_fail;

struct Memory {
    head: AtomicU64,
    tail: AtomicU64,
    dropped: AtomicU64,
    cells: Vec<Cell>,
}

impl Memory {
    fn new(cells: usize) -> Arc<Memory> {
        let cell = || Cell(core::array::from_fn(|_| AtomicU64::new(0)));
        let cells = core::iter::repeat_with(cell).take(cells).collect();
        let zero = || AtomicU64::new(0);
        Arc::new(Memory { head: zero(), tail: zero(), dropped: zero(), cells })
    }

    fn ring(&self) -> Ring<'_> {
        Ring { head: &self.head, tail: &self.tail, dropped: &self.dropped, cells: &self.cells }
    }

    /// What is there now. All words of a record are its number.
    fn drain(&self, dead: bool) -> Vec<u64> {
        let mut found = Vec::new();
        self.ring().drain(dead, |words| {
            assert!(words.iter().all(|&word| word == words[0]), "a torn record: {words:?}");
            found.push(words[0]);
        });
        found
    }
}

fn writer(memory: &Arc<Memory>, records: &'static [u64]) -> thread::JoinHandle<usize> {
    let memory = Arc::clone(memory);
    thread::spawn(move || records.iter().filter(|&&record| memory.ring().push(&[record; 8])).count())
}

/// One thread writes while the recorder reads; the cells are used a second time if it reads early enough.
#[test]
fn what_is_read_is_whole_and_in_order() {
    loom::model(|| {
        let memory = Memory::new(2);
        let writer = writer(&memory, &[1, 2, 3]);
        let mut found = memory.drain(false);
        let kept = writer.join().unwrap();
        found.extend(memory.drain(false));
        assert_eq!(found.len(), kept);
        assert_eq!(memory.dropped.load(Ordering::Relaxed), 3 - kept as u64);
        assert!(found.is_sorted() && found.starts_with(&[1, 2]), "{found:?}");
    });
}

/// Two threads of a process reserve cells; one may publish before the other, whose cell is waited for.
#[test]
fn threads_lose_nothing_of_each_other() {
    loom::model(|| {
        let memory = Memory::new(2);
        let writers = [writer(&memory, &[1]), writer(&memory, &[2])];
        let mut found = memory.drain(false);
        let kept: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert_eq!(kept, 2, "there is room for both");
        found.extend(memory.drain(false));
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
    });
}

/// Two threads at a ring that has room for one.
#[test]
fn a_full_ring_counts() {
    loom::model(|| {
        let memory = Memory::new(1);
        let writers = [writer(&memory, &[1]), writer(&memory, &[2])];
        let kept: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert_eq!((kept, memory.dropped.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(memory.drain(false).len(), 1);
        assert!(memory.ring().push(&[3; 8]), "the cell was given back");
        assert_eq!(memory.drain(false), [3]);
    });
}

/// A thread that was killed between reserving a cell and publishing it: the recorder goes past it once the process is dead,
/// and not before.
#[test]
fn an_unpublished_cell_stops_the_recorder_until_the_process_is_dead() {
    loom::model(|| {
        let memory = Memory::new(4);
        memory.head.fetch_add(1, Ordering::Relaxed); // reserved, and then killed
        let writer = writer(&memory, &[1]);
        assert_eq!(memory.drain(false), []);
        assert_eq!(writer.join().unwrap(), 1);
        assert_eq!(memory.drain(false), []);
        assert_eq!(memory.drain(true), [1]);
        assert!(memory.ring().push(&[2; 8]));
        assert_eq!(memory.drain(false), [2]);
    });
}

/// What the order of the stores is for: a record that is published before it is written is found torn.
#[test]
fn publishing_first_is_seen() {
    must_fail("publishing_first_is_seen", "a torn record", || {
        loom::model(|| {
            let memory = Memory::new(1);
            let writer = thread::spawn({
                let memory = Arc::clone(&memory);
                move || {
                    let position = memory.head.fetch_add(1, Ordering::Relaxed);
                    let cell = &memory.cells[position as usize].0;
                    cell[PUBLISHES].store(1, Ordering::Release);
                    for at in (0..8).filter(|&at| at != PUBLISHES) {
                        cell[at].store(1, Ordering::Relaxed);
                    }
                }
            });
            memory.drain(false);
            writer.join().unwrap();
        });
    });
}

//! Every interleaving (with up to `LOOM_MAX_PREEMPTIONS` preemptions) of senders and receivers on
//! the [`Marks`] of rings, the very code that ships. The cells are loom's, so that reading one that
//! may still be written, or the other way round, is reported.
//!
//! `make loom`, or
//! `RUSTFLAGS="--cfg breakeven_loom" cargo test -p breakeven-shm --profile model --test model_loom_ring`.
#![cfg(breakeven_loom)]

#[path = "support/model.rs"]
mod model;

use breakeven_shm::channel::marks::{Front, Marks};
use breakeven_shm::channel::ring::Mark;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;
use model::must_fail;

struct Ring {
    marks: Marks,
    cells: Vec<UnsafeCell<u32>>,
}

impl Ring {
    fn new(capacity: u32, start: Mark) -> Ring {
        let marks = Marks::default();
        marks.init(capacity, start);
        Ring { marks, cells: (0..capacity).map(|_| UnsafeCell::new(0)).collect() }
    }

    /// Writes one message of one cell and commits it.
    fn send(&self, value: u32) -> bool {
        let tail = self.marks.tail();
        let Some(place) = self.marks.room(tail, 1) else { return false };
        // SAFETY: loom checks that nobody else uses the cell, which is what the test is for.
        self.cells[place.cell as usize].with_mut(|cell| unsafe { *cell = value });
        self.marks.publish(tail.advance(1, 1));
        true
    }

    /// Takes the message at the head, which was found to be there.
    fn take(&self) -> u32 {
        let head = self.marks.head();
        assert!(self.marks.seen_tail().cells_since(head) >= 1);
        let cell = head.position() & (self.marks.capacity() - 1);
        // SAFETY: as in `send`.
        let value = self.cells[cell as usize].with(|cell| unsafe { *cell });
        self.marks.release(head.advance(1, 1));
        value
    }

    fn recv(&self) -> Option<u32> {
        (self.marks.front(self.marks.head()) == Front::Message).then(|| self.take())
    }
}

fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        match attempt() {
            Some(value) => return value,
            None => thread::yield_now(),
        }
    }
}

/// More messages than cells: each cell is used twice, and the ring is full in between.
#[test]
fn a_ring_of_two_cells_wraps() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(2, Mark::start(0)));
        let sender = thread::spawn({
            let ring = Arc::clone(&ring);
            move || (1..=4).for_each(|value| until(|| ring.send(value).then_some(())))
        });
        for expected in 1..=4 {
            assert_eq!(until(|| ring.recv()), expected);
        }
        sender.join().unwrap();
        assert_eq!(ring.recv(), None);
    });
}

/// Two senders and two receivers, each end under its lock: the caches of what the other end was
/// seen to do are handed over with the lock.
#[test]
fn the_ends_are_handed_over_with_their_locks() {
    loom::model(|| {
        let ring = Arc::new((Ring::new(2, Mark::start(0)), Mutex::new(()), Mutex::new(())));
        let send = |ring: &(Ring, Mutex<()>, Mutex<()>), value| {
            until(|| {
                let _lock = ring.1.lock().unwrap();
                ring.0.send(value).then_some(())
            });
        };
        let recv = |ring: &(Ring, Mutex<()>, Mutex<()>)| {
            until(|| {
                let _lock = ring.2.lock().unwrap();
                ring.0.recv()
            })
        };
        let sender = thread::spawn({
            let ring = Arc::clone(&ring);
            move || send(&ring, 1)
        });
        let receiver = thread::spawn({
            let ring = Arc::clone(&ring);
            move || recv(&ring)
        });
        send(&ring, 2);
        let got = recv(&ring);
        sender.join().unwrap();
        let others = receiver.join().unwrap();
        assert_eq!(got + others, 3);
    });
}

/// A sender whose ring is full goes on in a second one. The receiver follows when, and only when,
/// it has taken all that is in the first.
fn chain(front: fn(&Marks, Mark) -> Front) {
    loom::model(move || {
        let rings = Arc::new([Ring::new(2, Mark::start(0)), Ring::new(4, Mark::start(0))]);
        let sender = thread::spawn({
            let rings = Arc::clone(&rings);
            move || {
                let mut at = 0;
                for value in 1..=4 {
                    if !rings[at].send(value) {
                        // What Channel::add_ring does: the new ring is made, then linked.
                        let [old, new] = &*rings;
                        new.marks.init(4, Mark::start(old.marks.tail().sequence()));
                        old.marks.link(7);
                        at = 1;
                        assert!(new.send(value));
                    }
                }
            }
        });
        let mut at = 0;
        let mut got = Vec::new();
        while got.len() < 4 {
            match front(&rings[at].marks, rings[at].marks.head()) {
                Front::Message => got.push(rings[at].take()),
                Front::Empty => thread::yield_now(),
                Front::Successor(word) => {
                    assert_eq!((word, at), (7, 0));
                    at = 1;
                    let taken = rings[1].marks.head().sequence();
                    assert_eq!(taken, got.len() as u64, "a message was left behind");
                }
            }
        }
        assert_eq!(got, [1, 2, 3, 4]);
        sender.join().unwrap();
    });
}

#[test]
fn a_chain_is_followed_without_leaving_anything_behind() {
    chain(Marks::front);
}

/// Shows that the model sees the race which the second look is for.
#[test]
fn without_the_second_look_a_message_is_left_behind() {
    must_fail("without_the_second_look_a_message_is_left_behind", "left behind", || {
        chain(|marks, head| match (marks.has_message(head), marks.next()) {
            (true, _) => Front::Message,
            (false, 0) => Front::Empty,
            (false, next) => Front::Successor(next),
        });
    });
}

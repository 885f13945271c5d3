//! Every interleaving (with up to `LOOM_MAX_PREEMPTIONS` preemptions) of the words in `sync`, the very
//! code that ships, with a futex made of a mutex and a condition variable and without timeouts: a
//! lost wake-up is a deadlock. Copies with a part taken away must fail.
//!
//! `make loom`, or
//! `RUSTFLAGS="--cfg breakeven_loom" cargo test -p breakeven-shm --profile model --test model_loom_sync`.
#![cfg(breakeven_loom)]

#[path = "support/model.rs"]
mod model;

use breakeven_shm::sync::{Came, EventFlag, Holder, MutexWord, Place, SemaphoreWord, Waiters, WaitersHead, held};
use breakeven_shm::wait::{EventWord, Futex, Sleep};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use model::must_fail;
use std::time::Duration;

/// A futex: the comparison and the sleep are one step with respect to wakes.
struct Kernel {
    wakes: Mutex<u32>,
    sleepers: Condvar,
}

impl Kernel {
    fn new() -> Kernel {
        Kernel { wakes: Mutex::new(0), sleepers: Condvar::new() }
    }
}

impl Futex for Kernel {
    fn wait(&self, word: &AtomicU32, expected: u32, _: Duration) -> Sleep {
        let guard = self.wakes.lock().unwrap();
        if word.load(Ordering::SeqCst) == expected {
            drop(self.sleepers.wait(guard).unwrap());
        }
        Sleep::Woken
    }

    fn wake(&self, _: &AtomicU32, count: u32) -> usize {
        let guard = self.wakes.lock().unwrap();
        // Which sleepers there are is not kept: all are woken, and told that it was as many as asked.
        self.sleepers.notify_all();
        drop(guard);
        (count > 0).into()
    }
}

const FOR_EVER: Duration = Duration::MAX;

/// A mutex with what it guards.
struct Guarded {
    mutex: MutexWord,
    changed: EventWord,
    kernel: Kernel,
    value: UnsafeCell<u32>,
}

impl Guarded {
    fn new() -> Guarded {
        Guarded {
            mutex: MutexWord::default(),
            changed: EventWord::new(),
            kernel: Kernel::new(),
            value: UnsafeCell::new(0),
        }
    }

    /// Takes the mutex as the handle does; true if it was taken over from a dead owner.
    fn acquire(&self, me: u32) -> bool {
        loop {
            match self.mutex.try_take(me) {
                Ok(()) => return false,
                Err(seen) if seen.holder() == Holder::Dead => {
                    if self.mutex.take_over(seen, me) {
                        return true;
                    }
                }
                Err(_) => {
                    let ticket = self.changed.announce();
                    if matches!(self.mutex.look().holder(), Holder::Participant(_)) {
                        self.changed.sleep(&self.kernel, ticket, FOR_EVER);
                    }
                }
            }
        }
    }

    fn add(&self) {
        // SAFETY: loom checks that nobody else uses the cell, which is what the test is for.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn release(&self) {
        self.mutex.release(&self.changed, &self.kernel).unwrap();
    }
}

#[test]
fn a_mutex_excludes_and_wakes() {
    loom::model(|| {
        let guarded = Arc::new(Guarded::new());
        let others: Vec<_> = (2..4)
            .map(|me| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || {
                    guarded.acquire(me);
                    guarded.add();
                    guarded.release();
                })
            })
            .collect();
        guarded.acquire(1);
        guarded.add();
        guarded.release();
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: everybody else has ended.
        guarded.value.with(|value| assert_eq!(unsafe { *value }, 3));
        assert_eq!(guarded.mutex.look().holder(), Holder::Nobody);
    });
}

/// The owner dies in the section; two wait or come; a reaper says so. One takes it over, the other has
/// it after him.
fn handed_over(take_over: fn(&Guarded, u32) -> bool) {
    loom::model(move || {
        let guarded = Arc::new(Guarded::new());
        assert!(guarded.mutex.try_take(9).is_ok());
        let others: Vec<_> = (2..4)
            .map(|me| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || {
                    let died = take_over(&guarded, me);
                    guarded.add();
                    guarded.release();
                    u32::from(died)
                })
            })
            .collect();
        // What `survey` does for a participant that died.
        guarded.mutex.abandon(|participant| participant == 9);
        guarded.changed.notify_all(&guarded.kernel);
        let recoveries: u32 = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(recoveries, 1, "one of them learns of it");
    });
}

#[test]
fn a_mutex_is_handed_over_once() {
    handed_over(Guarded::acquire);
}

/// A faulty copy: the takeover looks and then stores, instead of exchanging.
#[test]
fn a_takeover_in_two_steps_must_fail() {
    must_fail("a_takeover_in_two_steps_must_fail", "", || {
        handed_over(|guarded, me| {
            loop {
                if guarded.mutex.look().holder() == Holder::Dead {
                    thread::yield_now();
                    let _ = guarded.mutex.release(&EventWord::new(), &guarded.kernel);
                    if guarded.mutex.try_take(me).is_ok() {
                        return true;
                    }
                } else if guarded.mutex.try_take(me).is_ok() {
                    return false;
                } else {
                    thread::yield_now();
                }
            }
        });
    });
}

/// A faulty copy: who releases tells nobody.
#[test]
fn a_release_that_wakes_nobody_must_fail() {
    must_fail("a_release_that_wakes_nobody_must_fail", "deadlock", || {
        loom::model(|| {
            let guarded = Arc::new(Guarded::new());
            guarded.acquire(1);
            let other = thread::spawn({
                let guarded = Arc::clone(&guarded);
                move || {
                    guarded.acquire(2);
                    guarded.release();
                }
            });
            let nobody = EventWord::new();
            guarded.mutex.release(&nobody, &guarded.kernel).unwrap();
            other.join().unwrap();
        });
    });
}

struct Permits {
    word: SemaphoreWord,
    ledger: Vec<AtomicU64>,
    changed: EventWord,
    kernel: Kernel,
}

impl Permits {
    fn new(permits: u32) -> Permits {
        let word = SemaphoreWord::default();
        word.init(permits);
        let ledger = (0..3).map(|_| AtomicU64::new(0)).collect();
        Permits { word, ledger, changed: EventWord::new(), kernel: Kernel::new() }
    }

    fn acquire(&self, place: usize) {
        while !self.word.try_take(&self.ledger, place) {
            let ticket = self.changed.announce();
            if self.word.permits() == 0 {
                self.changed.sleep(&self.kernel, ticket, FOR_EVER);
            }
        }
    }

    fn release(&self, place: usize) {
        assert!(self.word.try_give(&self.ledger, place, 1));
        self.changed.notify(&self.kernel, 1);
    }
}

/// Whoever takes and gives, and whoever helps whom: in the end the ledger says what happened.
#[test]
fn a_semaphores_ledger_is_exact() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(1));
        let other = thread::spawn({
            let permits = Arc::clone(&permits);
            move || {
                permits.acquire(1);
                permits.release(1);
            }
        });
        permits.acquire(0);
        assert_eq!(held(&permits.ledger, 0), 1);
        permits.release(0);
        other.join().unwrap();
        assert_eq!((held(&permits.ledger, 0), held(&permits.ledger, 1)), (0, 0));
        assert_eq!(permits.word.permits(), 1);
    });
}

/// A dead holder's permit is restored, once, while another waits for it.
#[test]
fn a_permit_of_the_dead_comes_back() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(1));
        permits.acquire(2); // and dies
        let other = thread::spawn({
            let permits = Arc::clone(&permits);
            move || permits.acquire(1)
        });
        let reaper = thread::spawn({
            let permits = Arc::clone(&permits);
            move || {
                let restored = permits.word.restore(&permits.ledger, 2, 1);
                permits.changed.notify_all(&permits.kernel);
                restored
            }
        });
        let restored = permits.word.restore(&permits.ledger, 2, 1);
        permits.changed.notify_all(&permits.kernel);
        let total = restored + reaper.join().unwrap();
        other.join().unwrap();
        assert_eq!(total, 1);
        assert_eq!((permits.word.permits(), held(&permits.ledger, 1), held(&permits.ledger, 2)), (0, 1, 0));
    });
}

#[test]
fn an_event_that_is_cleared_at_once_has_come() {
    loom::model(|| {
        let event = Arc::new((EventFlag::default(), Kernel::new()));
        let since = event.0.since();
        let waiting = thread::spawn({
            let event = Arc::clone(&event);
            move || {
                while !event.0.has_come(since) {
                    event.0.sleep(&event.1, since, FOR_EVER);
                }
            }
        });
        event.0.set(&event.1);
        event.0.clear();
        waiting.join().unwrap();
    });
}

/// Two wait, two are notified, at any moment: both go on; nobody is notified twice.
#[test]
fn everybody_who_waits_is_notified() {
    loom::model(|| {
        let table = Arc::new((WaitersHead::default(), [Place::default(), Place::default()], Kernel::new()));
        let waiting: Vec<_> = (1..3)
            .map(|me| {
                let waiters = Waiters { head: &table.0, places: &table.1 };
                let index = waiters.enter(me).unwrap();
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let waiters = Waiters { head: &table.0, places: &table.1 };
                    while waiters.has_come(index) == Came::No {
                        waiters.sleep(&table.2, index, FOR_EVER);
                    }
                    assert_eq!(waiters.leave(index), Came::Yes);
                })
            })
            .collect();
        let waiters = Waiters { head: &table.0, places: &table.1 };
        assert_eq!(waiters.notify(&table.2, 1), 1);
        assert_eq!(waiters.notify(&table.2, usize::MAX), 1);
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(waiters.waiting(), 0);
    });
}

/// One gives up at the very moment when it is notified: it was notified, or the notifier knows that
/// nobody was.
#[test]
fn giving_up_while_being_notified() {
    loom::model(|| {
        let table = Arc::new((WaitersHead::default(), [Place::default()], Kernel::new()));
        let index = Waiters { head: &table.0, places: &table.1 }.enter(1).unwrap();
        let waiting = thread::spawn({
            let table = Arc::clone(&table);
            move || Waiters { head: &table.0, places: &table.1 }.leave(index) == Came::Yes
        });
        let notified = Waiters { head: &table.0, places: &table.1 }.notify(&table.2, 1);
        assert_eq!(notified, usize::from(waiting.join().unwrap()));
    });
}

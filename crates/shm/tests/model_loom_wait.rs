//! Every interleaving (with up to `LOOM_MAX_PREEMPTIONS` preemptions) of sleepers and notifiers on
//! one [`EventWord`], the very code that ships, over a futex made of loom's mutex and condition
//! variable. There are no timeouts here: a lost wake-up is a deadlock, which loom reports.
//!
//! `make loom`, or
//! `RUSTFLAGS="--cfg breakeven_loom" cargo test -p breakeven-shm --profile model --test model_loom_wait`.
//!
//! What the models can see is shown by a copy of the protocol with one part taken away at a time:
//! each of those must deadlock.
#![cfg(breakeven_loom)]

#[path = "support/model.rs"]
mod model;

use breakeven_shm::wait::{EventWord, Futex, Sleep};
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use model::must_fail;
use std::time::Duration;

/// What the kernel does: the comparison and the falling asleep are one step with respect to wakes,
/// and sleepers are woken in the order in which they fell asleep.
#[derive(Default)]
struct ModelFutex {
    /// Tickets given out to sleepers, and how many of them (the first so many) were woken.
    queue: Mutex<(usize, usize)>,
    woken: Condvar,
}

impl Futex for ModelFutex {
    fn wait(&self, word: &AtomicU32, expected: u32, _: Duration) -> Sleep {
        let mut queue = self.queue.lock().unwrap();
        if word.load(Ordering::SeqCst) == expected {
            let mine = queue.0;
            queue.0 += 1;
            while queue.1 <= mine {
                queue = self.woken.wait(queue).unwrap();
            }
        }
        Sleep::Woken
    }

    fn wake(&self, _: &AtomicU32, count: u32) -> usize {
        let mut queue = self.queue.lock().unwrap();
        let woken = (queue.0 - queue.1).min(count as usize);
        queue.1 += woken;
        if woken > 0 {
            self.woken.notify_all();
        }
        woken
    }
}

/// The protocol as the models use it: shipped, or with a fault.
trait Word: Default + Send + Sync + 'static {
    fn announce(&self) -> u32;
    fn sleep(&self, futex: &ModelFutex, ticket: u32);
    fn notify(&self, futex: &ModelFutex, events: u32);
}

impl Word for EventWord {
    fn announce(&self) -> u32 {
        EventWord::announce(self)
    }
    fn sleep(&self, futex: &ModelFutex, ticket: u32) {
        EventWord::sleep(self, futex, ticket, Duration::MAX);
    }
    fn notify(&self, futex: &ModelFutex, events: u32) {
        EventWord::notify(self, futex, events);
    }
}

const WITHOUT_FENCE: u32 = 1;
const WITHOUT_SECOND_WAKE: u32 = 2;
const CLEARING_KEEPS_SEQUENCE: u32 = 3;
const NOTIFY_KEEPS_SEQUENCE: u32 = 4;

/// A copy of [`EventWord`] in which `FAULT` is missing.
#[derive(Default)]
struct Faulty<const FAULT: u32>(AtomicU32);

impl<const FAULT: u32> Word for Faulty<FAULT> {
    fn announce(&self) -> u32 {
        let ticket = self.0.fetch_or(1, Ordering::SeqCst) | 1;
        fence(Ordering::SeqCst);
        ticket
    }

    fn sleep(&self, futex: &ModelFutex, ticket: u32) {
        futex.wait(&self.0, ticket, Duration::MAX);
    }

    fn notify(&self, futex: &ModelFutex, events: u32) {
        if FAULT != WITHOUT_FENCE {
            fence(Ordering::SeqCst);
        }
        if self.0.load(Ordering::Relaxed) & 1 == 0 {
            return;
        }
        let step = if FAULT == NOTIFY_KEEPS_SEQUENCE { 0 } else { 2 };
        let word = self.0.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        if futex.wake(&self.0, events) > 0 || word & 1 == 0 {
            return;
        }
        let step = if FAULT == CLEARING_KEEPS_SEQUENCE { 0 } else { 2 };
        let cleared = word.wrapping_add(step) & !1;
        let exchange = self.0.compare_exchange(word, cleared, Ordering::SeqCst, Ordering::Relaxed);
        if exchange.is_ok() && FAULT != WITHOUT_SECOND_WAKE {
            futex.wake(&self.0, u32::MAX);
        }
    }
}

#[derive(Default)]
struct Scene<W> {
    word: W,
    futex: ModelFutex,
    /// Events that nobody has used yet. As in a channel, to use one takes a lock (here the atomic
    /// operation), to see whether there is one does not.
    events: AtomicU32,
}

impl<W: Word> Scene<W> {
    fn new() -> Arc<Scene<W>> {
        Arc::new(Scene::default())
    }

    fn make(&self, events: u32) {
        self.events.fetch_add(events, Ordering::Release);
        self.word.notify(&self.futex, events);
    }

    fn try_use(&self) -> bool {
        let here = self.events.load(Ordering::Acquire);
        here > 0 && self.events.compare_exchange(here, here - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Uses one event, sleeping until there is one.
    fn use_one(&self) {
        while !self.try_use() {
            let ticket = self.word.announce();
            if self.events.load(Ordering::Acquire) > 0 {
                continue; // and leaves the flag set, for nobody
            }
            self.word.sleep(&self.futex, ticket);
        }
    }
}

fn one_notifier_one_sleeper<W: Word>() {
    loom::model(|| {
        let scene = Scene::<W>::new();
        let sleeper = thread::spawn({
            let scene = Arc::clone(&scene);
            move || scene.use_one()
        });
        scene.make(1);
        sleeper.join().unwrap();
    });
}

fn one_notifier_two_sleepers<W: Word>(batch: bool) {
    loom::model(move || {
        let scene = Scene::<W>::new();
        let sleepers = [(), ()].map(|()| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.use_one())
        });
        if batch {
            scene.make(2);
        } else {
            scene.make(1);
            scene.make(1);
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

fn two_notifiers<W: Word>(sleepers: usize) {
    loom::model(move || {
        let scene = Scene::<W>::new();
        let notifier = thread::spawn({
            let scene = Arc::clone(&scene);
            move || scene.make(1)
        });
        let others: Vec<_> = (1..sleepers)
            .map(|_| {
                let scene = Arc::clone(&scene);
                thread::spawn(move || scene.use_one())
            })
            .collect();
        if sleepers == 1 {
            let second = thread::spawn({
                let scene = Arc::clone(&scene);
                move || scene.make(1)
            });
            scene.use_one();
            scene.use_one();
            second.join().unwrap();
        } else {
            scene.make(1);
            scene.use_one();
        }
        notifier.join().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// The flag stands from a former wait. A notifier finds nobody asleep and clears it, while one
/// sleeper has announced but does not sleep yet, and another announces after events came that found
/// the flag clear.
fn clearing_between_two_announcements<W: Word>() {
    let mut model = loom::model::Builder::new();
    // The faults that this scene is for need three.
    model.preemption_bound = model.preemption_bound.map(|bound| bound.max(3));
    model.check(|| {
        let scene = Scene::<W>::new();
        scene.word.announce();
        let clearer = thread::spawn({
            let scene = Arc::clone(&scene);
            move || scene.word.notify(&scene.futex, 1)
        });
        let sleeper = thread::spawn({
            let scene = Arc::clone(&scene);
            move || scene.use_one()
        });
        scene.make(1);
        scene.make(1);
        // Announces without having looked, uses one event and goes away.
        scene.word.announce();
        scene.use_one();
        clearer.join().unwrap();
        sleeper.join().unwrap();
    });
}

#[test]
fn a_sleeper_is_woken() {
    one_notifier_one_sleeper::<EventWord>();
}

#[test]
fn each_of_two_sleepers_is_woken() {
    one_notifier_two_sleepers::<EventWord>(false);
}

#[test]
fn a_batch_wakes_both_sleepers() {
    one_notifier_two_sleepers::<EventWord>(true);
}

#[test]
fn two_notifiers_wake_one_sleeper_twice() {
    two_notifiers::<EventWord>(1);
}

#[test]
fn two_notifiers_wake_two_sleepers() {
    two_notifiers::<EventWord>(2);
}

#[test]
fn a_ticket_does_not_outlive_a_clearing() {
    clearing_between_two_announcements::<EventWord>();
}

#[test]
fn without_the_fence_a_wake_up_is_lost() {
    must_fail("without_the_fence_a_wake_up_is_lost", "deadlock", || {
        one_notifier_one_sleeper::<Faulty<WITHOUT_FENCE>>();
    });
}

#[test]
fn without_the_second_wake_a_wake_up_is_lost() {
    must_fail("without_the_second_wake_a_wake_up_is_lost", "deadlock", || {
        clearing_between_two_announcements::<Faulty<WITHOUT_SECOND_WAKE>>();
    });
}

#[test]
fn with_clearing_that_keeps_the_sequence_a_wake_up_is_lost() {
    must_fail("with_clearing_that_keeps_the_sequence_a_wake_up_is_lost", "deadlock", || {
        clearing_between_two_announcements::<Faulty<CLEARING_KEEPS_SEQUENCE>>();
    });
}

#[test]
fn with_events_that_keep_the_sequence_a_wake_up_is_lost() {
    must_fail("with_events_that_keep_the_sequence_a_wake_up_is_lost", "deadlock", || {
        one_notifier_two_sleepers::<Faulty<NOTIFY_KEEPS_SEQUENCE>>(true);
    });
}

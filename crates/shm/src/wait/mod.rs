//! Sleeping until something happens, without losing the wake-up. The protocol and its proof are
//! in `README.md` beside this file.

use crate::primitive::{AtomicU32, Ordering, full_fence};
use std::time::Duration;

#[cfg(not(breakeven_loom))]
mod policy;
#[cfg(not(breakeven_loom))]
pub(crate) use policy::SpinPolicy;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// Woken, or there was no need to sleep: check the condition again.
    Woken,
    /// The timeout passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// The two kernel operations that the protocol needs; the models put their own in its place.
pub trait Futex {
    /// Sleeps while `word` holds `expected`, at most for `timeout`.
    fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) -> Sleep;
    /// Wakes up to `count` sleepers and tells how many there were.
    fn wake(&self, word: &AtomicU32, count: u32) -> usize;
}

/// The kernel's futex, shared between processes.
#[cfg(not(breakeven_loom))]
#[derive(Debug, Clone, Copy)]
pub struct KernelFutex;

#[cfg(not(breakeven_loom))]
impl Futex for KernelFutex {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) -> Sleep {
        use crate::sys::futex::FutexWait;
        match crate::sys::futex::wait(word, expected, timeout) {
            FutexWait::Woken | FutexWait::Changed => Sleep::Woken,
            FutexWait::TimedOut => Sleep::TimedOut,
            FutexWait::Interrupted => Sleep::Interrupted,
        }
    }

    fn wake(&self, word: &AtomicU32, count: u32) -> usize {
        crate::sys::futex::wake(word, count)
    }
}

/// A word on which processes sleep until an event.
///
/// | bit 0 `WAITING` | bits 1.. `SEQUENCE` | meaning |
/// |---|---|---|
/// | 0 | n | nobody sleeps; an event costs its producer one load |
/// | 1 | n | somebody sleeps or is about to; the next event makes it n + 1 and wakes sleepers |
///
/// `WAITING` is set by whoever is about to sleep, and cleared by whoever finds nobody to wake.
/// `SEQUENCE` changes with every event that finds `WAITING` set and with every clearing, so that a
/// ticket is good for one period of waiting only. All changes are atomic read-modify-writes.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct EventWord {
    word: AtomicU32,
}

#[cfg(not(breakeven_loom))]
const _: () = assert!(size_of::<EventWord>() == 64, "an event word fills one cache line");

const WAITING: u32 = 1;
const STEP: u32 = 2;

impl EventWord {
    /// A word on which nobody sleeps.
    pub fn new() -> EventWord {
        EventWord { word: AtomicU32::new(0) }
    }

    /// Announces that the caller is about to sleep. It must check its condition once more after
    /// this, and only then call [`sleep`](Self::sleep) with the returned ticket.
    pub fn announce(&self) -> u32 {
        // SYNC POINT: announce-then-check. SeqCst against the fence in `notify`: either the
        // producer's load sees WAITING, or our check of the condition sees its event.
        let ticket = self.word.fetch_or(WAITING, Ordering::SeqCst) | WAITING;
        full_fence();
        ticket
    }

    /// Sleeps unless an event happened since [`announce`](Self::announce) gave out `ticket`.
    pub fn sleep(&self, futex: &impl Futex, ticket: u32, timeout: Duration) -> Sleep {
        futex.wait(&self.word, ticket, timeout)
    }

    /// Tells sleepers that `events` things happened that one of them each can use; to be called
    /// after they are visible in memory. Returns how many were woken. Costs a fence and a load when
    /// nobody sleeps.
    #[inline]
    pub fn notify(&self, futex: &impl Futex, events: u32) -> usize {
        // SYNC POINT: announce-then-check (see `announce`).
        full_fence();
        if self.word.load(Ordering::Relaxed) & WAITING == 0 {
            return 0;
        }
        self.wake(futex, events)
    }

    /// Wakes everybody who sleeps.
    pub fn notify_all(&self, futex: &impl Futex) -> usize {
        self.notify(futex, i32::MAX as u32)
    }

    #[cold]
    fn wake(&self, futex: &impl Futex, count: u32) -> usize {
        // The change of SEQUENCE stops everybody who has announced but does not sleep yet.
        let word = self.word.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        let woken = futex.wake(&self.word, count);
        if woken > 0 || word & WAITING == 0 {
            return woken;
        }
        // Nobody slept. Clearing changes SEQUENCE once more: somebody may have announced since our
        // change (which leaves the word as it is, WAITING being set already) and hold a ticket
        // equal to `word`. If clearing and a later announcement brought that very value back, he
        // would fall asleep on it, although an event in between found WAITING clear and woke
        // nobody.
        let cleared = word.wrapping_add(STEP) & !WAITING;
        let exchanged = self.word.compare_exchange(word, cleared, Ordering::SeqCst, Ordering::Relaxed);
        if exchanged.is_ok() {
            // Whoever fell asleep between our wake and the exchange now sleeps without the flag:
            // he is sent round once more.
            return futex.wake(&self.word, i32::MAX as u32);
        }
        woken
    }
}

//! Who waits for a condition: a table with a futex for each. Protocol and kill table are in
//! `README.md`.
//!
//! ```text
//!  Place, 8 bytes
//!  +0  participant  u32   whose it is, 0: free
//!  +4  state        u32   bits 0..1: EMPTY, WAITING, NOTIFIED, DIED; bits 2..31: ticket
//! ```
//!
//! | from | to | by |
//! |---|---|---|
//! | free | EMPTY, claimed | `enter`, by exchanging the participant |
//! | EMPTY | WAITING | `enter` |
//! | WAITING | NOTIFIED | `notify` |
//! | WAITING | EMPTY, then free | `leave`: given up |
//! | NOTIFIED | EMPTY, then free | `leave`: it came |
//! | WAITING | DIED | `bury` |
//! | NOTIFIED | EMPTY, then free | `bury`, after passing it on |
//! | DIED | EMPTY, then free | `take_deaths`, `notify` |

use crate::crash::{self, store};
use crate::primitive::AtomicU32;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::wait::{Futex, Sleep};
use std::time::Duration;

const KIND: u32 = 3;
const EMPTY: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;
const DIED: u32 = 3;

/// One who waits.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Place {
    participant: AtomicU32,
    state: AtomicU32,
}

/// What goes with the table.
#[derive(Debug, Default)]
#[repr(C)]
pub struct WaitersHead {
    /// The next ticket. Who waits longest is notified first.
    tickets: AtomicU32,
    /// Places from here on were never used.
    used: AtomicU32,
}

/// The table and its head.
#[derive(Debug, Clone, Copy)]
pub struct Waiters<'a> {
    /// The head.
    pub head: &'a WaitersHead,
    /// The table.
    pub places: &'a [Place],
}

/// What a look at one's place found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Notified.
    Yes,
    /// Not yet.
    No,
}

impl Place {
    fn free(&self) {
        store(&self.state, EMPTY, Release);
        store(&self.participant, 0, Release);
    }
}

impl<'a> Waiters<'a> {
    fn used(&self) -> &'a [Place] {
        let used = self.head.used.load(Acquire) as usize;
        &self.places[..used.min(self.places.len())]
    }

    /// Takes a place for a thread of participant `me`, which waits from now on. `None` if all are
    /// taken.
    pub fn enter(&self, me: u32) -> Option<usize> {
        self.claim(me).or_else(|| {
            self.take_deaths();
            self.claim(me)
        })
    }

    fn claim(&self, me: u32) -> Option<usize> {
        let index = self.places.iter().position(|place| {
            place.participant.load(Relaxed) == 0 && place.participant.compare_exchange(0, me, AcqRel, Relaxed).is_ok()
        })?;
        crash::point();
        let mut used = self.head.used.load(Relaxed);
        while used <= index as u32 {
            match self.head.used.compare_exchange(used, index as u32 + 1, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => used = now,
            }
        }
        crash::point();
        let ticket = self.head.tickets.fetch_add(1, Relaxed);
        store(&self.places[index].state, ticket << 2 | WAITING, Release);
        Some(index)
    }

    /// Whether the thread at `index` was notified.
    pub fn has_come(&self, index: usize) -> Came {
        if self.places[index].state.load(Acquire) & KIND == WAITING { Came::No } else { Came::Yes }
    }

    /// Sleeps until the thread at `index` is notified, at most for `timeout`.
    pub fn sleep(&self, futex: &impl Futex, index: usize, timeout: Duration) -> Sleep {
        let state = self.places[index].state.load(Acquire);
        if state & KIND == WAITING { futex.wait(&self.places[index].state, state, timeout) } else { Sleep::Woken }
    }

    /// Gives the place at `index` back. Returns whether its thread was notified.
    pub fn leave(&self, index: usize) -> Came {
        let place = &self.places[index];
        let state = place.state.load(Acquire);
        let gone = state & KIND == WAITING && place.state.compare_exchange(state, EMPTY, AcqRel, Acquire).is_ok();
        crash::point();
        place.free();
        if gone { Came::No } else { Came::Yes }
    }

    /// Notifies the `count` threads that wait longest. Returns how many there were.
    pub fn notify(&self, futex: &impl Futex, count: usize) -> usize {
        self.take_deaths();
        let newest = self.head.tickets.load(Relaxed);
        let mut waiting: Vec<(u32, usize, u32)> = Vec::new();
        for (index, place) in self.used().iter().enumerate() {
            let state = place.state.load(Acquire);
            if state & KIND == WAITING {
                // Tickets have 30 bits and wrap; the age does not care.
                let age = (newest << 2).wrapping_sub(state & !KIND);
                waiting.push((u32::MAX - age, index, state));
            }
        }
        if count < waiting.len() {
            waiting.sort_unstable();
        }
        let mut notified = 0;
        for (_, index, state) in waiting {
            if notified == count {
                break;
            }
            let place = &self.places[index];
            let next = (state & !KIND) | NOTIFIED;
            if place.state.compare_exchange(state, next, AcqRel, Relaxed).is_ok() {
                crash::point();
                futex.wake(&place.state, 1);
                notified += 1;
            }
        }
        notified
    }

    /// How many threads wait.
    pub fn waiting(&self) -> usize {
        self.used().iter().filter(|place| place.state.load(Acquire) & KIND == WAITING).count()
    }

    /// The next participant in the table after `index` that is not `me`: whom the thread at `index`
    /// keeps an eye on.
    pub fn neighbour(&self, index: usize, me: u32) -> Option<u32> {
        let used = self.used();
        let (before, after) = used.split_at(index.min(used.len()));
        after.iter().chain(before).map(|place| place.participant.load(Acquire)).find(|&id| id != 0 && id != me)
    }

    /// Puts right what the dead left: a notification that one of them was given and had not seen goes
    /// to somebody else; one that waited is marked as dead. Can be repeated at every step.
    pub fn bury(&self, futex: &impl Futex, dead: impl Fn(u32) -> bool) {
        for place in self.places {
            let participant = place.participant.load(Acquire);
            if participant == 0 || !dead(participant) {
                continue;
            }
            let mut state = place.state.load(Acquire);
            // The same before and after, and dead: so the state is its own.
            if place.participant.load(Acquire) != participant {
                continue;
            }
            if state & KIND == WAITING {
                match place.state.compare_exchange(state, (state & !KIND) | DIED, AcqRel, Acquire) {
                    Ok(_) => {
                        crash::point();
                        continue;
                    }
                    Err(now) => state = now,
                }
            }
            if state & KIND == DIED {
                continue;
            }
            if state & KIND == NOTIFIED {
                // First the other: to be told once too often does no harm.
                self.pass_on(futex);
            }
            place.free();
        }
    }

    /// Notifies one more, leaving the marks of the dead alone.
    fn pass_on(&self, futex: &impl Futex) {
        for place in self.used() {
            let state = place.state.load(Acquire);
            if state & KIND == WAITING
                && place.state.compare_exchange(state, (state & !KIND) | NOTIFIED, AcqRel, Relaxed).is_ok()
            {
                crash::point();
                futex.wake(&place.state, 1);
                return;
            }
        }
    }

    /// How many died while they waited, since this was last asked or anybody notified.
    pub fn deaths(&self) -> usize {
        self.used().iter().filter(|place| place.state.load(Acquire) & KIND == DIED).count()
    }

    /// The same, and forgets them.
    pub fn take_deaths(&self) -> usize {
        let mut deaths = 0;
        for place in self.used() {
            let state = place.state.load(Acquire);
            if state & KIND == DIED && place.state.compare_exchange(state, EMPTY, AcqRel, Relaxed).is_ok() {
                crash::point();
                store(&place.participant, 0, Release);
                deaths += 1;
            }
        }
        deaths
    }

    /// Wakes everybody, to look again.
    pub fn wake_all(&self, futex: &impl Futex) {
        for place in self.used() {
            if place.state.load(Acquire) & KIND == WAITING {
                futex.wake(&place.state, i32::MAX as u32);
            }
        }
    }
}

//! A flag that one can wait for, in one futex word. Protocol and kill table are in `README.md`.
//!
//! ```text
//!  word  u32
//!  bit  0      SET
//!  bit  1      WAITING: somebody sleeps, or is about to
//!  bits 2..31  how often it was set
//! ```

use crate::crash;
use crate::primitive::AtomicU32;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};
use crate::wait::{Futex, Sleep};
use std::time::Duration;

const SET: u32 = 1;
const WAITING: u32 = 2;
const STEP: u32 = 4;

/// The flag.
#[derive(Debug, Default)]
#[repr(C)]
pub struct EventFlag {
    word: AtomicU32,
}

/// When somebody began to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(u32);

impl EventFlag {
    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0
    }

    /// Sets the flag and wakes everybody who waits for that. Returns how many slept.
    pub fn set(&self, futex: &impl Futex) -> usize {
        let mut word = self.word.load(Relaxed);
        while word & SET == 0 {
            let next = (word.wrapping_add(STEP) | SET) & !WAITING;
            match self.word.compare_exchange(word, next, AcqRel, Relaxed) {
                Ok(_) => {
                    crash::point();
                    return if word & WAITING != 0 { futex.wake(&self.word, i32::MAX as u32) } else { 0 };
                }
                Err(now) => word = now,
            }
        }
        0
    }

    /// Clears the flag.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, AcqRel);
        crash::point();
    }

    /// To be asked for before the first [`has_come`](Self::has_come).
    #[inline]
    pub fn since(&self) -> Since {
        Since(self.word.load(Acquire))
    }

    /// Whether the flag is set, or was set since.
    #[inline]
    pub fn has_come(&self, since: Since) -> bool {
        let word = self.word.load(Acquire);
        word & SET != 0 || word & !(STEP - 1) != since.0 & !(STEP - 1)
    }

    /// Sleeps until the flag is set, at most for `timeout`. Returns at once if that has come.
    pub fn sleep(&self, futex: &impl Futex, since: Since, timeout: Duration) -> Sleep {
        let word = self.word.load(Relaxed);
        if self.has_come(since) {
            return Sleep::Woken;
        }
        // Fails if the word has changed: then there is no sleep either.
        if word & WAITING == 0 && self.word.compare_exchange(word, word | WAITING, Relaxed, Relaxed).is_err() {
            return Sleep::Woken;
        }
        crash::point();
        futex.wait(&self.word, word | WAITING, timeout)
    }

    /// Wakes everybody who sleeps, to look again.
    pub fn wake_all(&self, futex: &impl Futex) {
        if self.word.load(Relaxed) & WAITING != 0 {
            futex.wake(&self.word, i32::MAX as u32);
        }
    }
}

//! Counting the messages that are dealt with, for whoever waits until that is all of them.
//!
//! ```text
//!  Finish, 128 bytes
//!  +0    finished      u64   messages dealt with, modulo 2^44 as the sequence numbers
//!  +8    times         u32   how often that was all that had been sent
//!  +64   all_finished  64    event word: that was all
//! ```
//! Messages are not counted when they are put: the channel's own sequence says how many there are,
//! and it changes in the very store that sends one. So a sender that dies leaves no message counted
//! that is not there, nor the other way round. Only `finished` is added, by one exchange.

use super::ring::{SEQUENCE_MASK, precedes, sequence_distance};
use super::{Channel, Wait};
use crate::crash::point;
use crate::error::OpenError;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::wait::{EventWord, KernelFutex, Sleep};
use std::time::Duration;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Finish {
    finished: AtomicU64,
    times: AtomicU32,
    _pad: [AtomicU32; 13],
    all_finished: EventWord,
}

const _: () = {
    assert!(core::mem::offset_of!(Finish, times) == 8);
    assert!(core::mem::offset_of!(Finish, all_finished) == 64);
    assert!(size_of::<Finish>() == 128);
};

impl Channel {
    /// Messages ever sent. A sender notes it a store after the message is there, which a receiver may
    /// have taken by then.
    fn ever_sent(&self) -> u64 {
        let header = self.header();
        let (taken, sent) = (header.taken.load(Acquire), header.sent.load(Acquire));
        if precedes(sent, taken) { taken } else { sent }
    }

    /// Says that one more message that was taken has been dealt with. False if that was said of all
    /// that were ever sent.
    pub fn finish_one(&self) -> Result<bool, OpenError> {
        self.enter()?;
        let finish = &self.header().finish;
        let mut finished = finish.finished.load(Relaxed);
        loop {
            let sent = self.ever_sent();
            if finished == sent {
                return Ok(false);
            }
            let next = (finished + 1) & SEQUENCE_MASK;
            match finish.finished.compare_exchange(finished, next, AcqRel, Relaxed) {
                Ok(_) => {
                    point();
                    if next == sent {
                        finish.times.fetch_add(1, AcqRel);
                        point();
                        finish.all_finished.notify_all(&KernelFutex);
                    }
                    return Ok(true);
                }
                Err(now) => finished = now,
            }
        }
    }

    /// How many messages were sent and not yet said to be dealt with.
    pub fn unfinished(&self) -> u64 {
        let finished = self.header().finish.finished.load(Acquire);
        let distance = sequence_distance(finished, self.ever_sent());
        // The one may have run ahead between the two looks.
        if distance > SEQUENCE_MASK / 2 { 0 } else { distance }
    }

    /// How often all messages were dealt with: the beginning of a wait.
    pub fn times_finished(&self) -> Result<u32, OpenError> {
        self.enter()?;
        Ok(self.header().finish.times.load(Acquire))
    }

    /// Whether all messages are dealt with, or were since.
    pub fn has_finished(&self, since: u32) -> bool {
        self.unfinished() == 0 || self.header().finish.times.load(Acquire) != since
    }

    /// Waits for that, at most for `timeout`. To be called in slices, as
    /// [`wait_readable`](Self::wait_readable).
    pub fn wait_finished(&self, since: u32, timeout: Duration) -> Wait {
        let event = &self.header().finish.all_finished;
        let ticket = event.announce();
        if self.has_finished(since) {
            return Wait::Ready;
        }
        match event.sleep(&KernelFutex, ticket, timeout) {
            Sleep::Woken => Wait::Ready,
            Sleep::TimedOut if self.has_finished(since) => Wait::Ready,
            Sleep::TimedOut => Wait::TimedOut,
            Sleep::Interrupted => Wait::Interrupted,
        }
    }
}

//! Waiting for descriptors.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// Waits until one of the descriptors is readable or its other end is closed, at most for `timeout`. Returns whether
/// it is `first`; `None` if none was in time. Numbers that are no open descriptor are ignored.
///
/// An error is a signal handler that ran.
pub(crate) fn wait(first: BorrowedFd<'_>, others: &[RawFd], timeout: Duration) -> Result<Option<bool>, Errno> {
    let timeout =
        Timespec { tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64, tv_nsec: timeout.subsec_nanos().into() };
    let mut polled = vec![PollFd::from_borrowed_fd(first, PollFlags::IN)];
    polled.extend(others.iter().filter(|&&fd| fd >= 0).map(|&fd| {
        // SAFETY: not -1. It is only given to `poll`, which reports a number that is no descriptor (any more) as such,
        // and does nothing to one that is by now another's.
        PollFd::from_borrowed_fd(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::IN)
    }));
    loop {
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let wanted = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if let Some(index) = polled.iter().position(|polled| polled.revents().intersects(wanted)) {
            return Ok(Some(index == 0));
        }
        // What is left are numbers without a descriptor, at which `poll` would return for ever.
        polled.retain(|polled| !polled.revents().contains(PollFlags::NVAL));
    }
}

//! Taking the robust locks, and not forgetting that an owner may have died.

use crate::crash;
use crate::primitive::spin_loop;
use crate::sys::robust::{Acquired, RobustMutex};
use std::marker::PhantomData;

/// How often a taken lock is tried before the thread goes to sleep on it: sections are some tens
/// of nanoseconds long, so a short spin nearly always gets the lock, and a sleep costs tens of
/// microseconds.
const SPINS: u32 = 60;

/// Ownership of a lock; dropping it releases the lock.
#[derive(Debug)]
#[must_use]
pub(crate) struct Guard<'a> {
    lock: &'a RobustMutex,
    died: bool,
    // The kernel binds ownership to the thread.
    _not_send: PhantomData<*const ()>,
}

impl std::fmt::Debug for RobustMutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RobustMutex")
    }
}

impl Guard<'_> {
    /// Whether the previous owner died holding the lock: if so, the caller repairs what the lock
    /// guards before it does anything else.
    pub(crate) fn owner_died(&self) -> bool {
        self.died
    }
}

/// Takes `lock` if it is free.
pub(crate) fn try_lock(lock: &RobustMutex) -> Option<Guard<'_>> {
    let acquired = lock.try_lock()?;
    Some(Guard { lock, died: acquired == Acquired::OwnerDied, _not_send: PhantomData })
}

/// Takes `lock`, waiting for it if need be (in slices: see `sys/robust.rs`).
#[inline]
pub(crate) fn lock(lock: &RobustMutex) -> Guard<'_> {
    let mut acquired = lock.try_lock();
    let mut spins = 0;
    while acquired.is_none() && spins < SPINS {
        spin_loop();
        spins += 1;
        acquired = lock.try_lock();
    }
    let acquired = acquired.unwrap_or_else(|| lock.lock());
    Guard { lock, died: acquired == Acquired::OwnerDied, _not_send: PhantomData }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if crash::crashed() {
            return; // a dead process does not unlock; the kernel does when the thread ends
        }
        // SAFETY: this guard was made by `lock` on this very thread (it is not Send), and nothing
        // else unlocks.
        unsafe { self.lock.unlock() };
    }
}

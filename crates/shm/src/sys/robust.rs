//! Process-shared robust mutexes: the kernel hands a dead owner's lock to the next who asks.
//!
//! ```text
//!  RobustMutex, 64 bytes (one cache line)
//!  +0   pthread_mutex_t   40 bytes with glibc on x86-64, 48 on arm64
//!  +..  padding
//! ```
//! The size of `pthread_mutex_t` differs between C libraries and architectures; it is part of the
//! segment's version word, so that two builds that disagree refuse each other.

use std::cell::UnsafeCell;

/// A robust, process-shared mutex in shared memory.
#[repr(C, align(64))]
pub(crate) struct RobustMutex {
    raw: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = assert!(size_of::<RobustMutex>() == 64, "a lock fills one cache line");

// SAFETY: `pthread_mutex_t` initialised with PTHREAD_PROCESS_SHARED may be used from any thread of
// any process that maps it; that is its purpose.
unsafe impl Sync for RobustMutex {}

/// What taking a robust mutex found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The previous owner released it.
    Clean,
    /// The previous owner died holding it: what it guards must be repaired before use.
    OwnerDied,
}

impl RobustMutex {
    /// Initialises the mutex in place.
    ///
    /// # Safety
    /// `this` points to writable memory for a `RobustMutex` that no one uses as a mutex yet.
    pub(crate) unsafe fn init(this: *mut RobustMutex) {
        // SAFETY: attribute calls work on a local; the mutex memory is ours by the contract.
        unsafe {
            let mut attributes = core::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
            let attr = attributes.as_mut_ptr();
            let mut status = libc::pthread_mutexattr_init(attr);
            status |= libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED);
            status |= libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST);
            status |= libc::pthread_mutex_init((*this).raw.get(), attr);
            libc::pthread_mutexattr_destroy(attr);
            assert_eq!(status, 0, "this system has no process-shared robust mutexes");
        }
    }

    /// Takes the mutex if it is free; `None` if somebody holds it.
    pub(crate) fn try_lock(&self) -> Option<Acquired> {
        // SAFETY: `raw` was initialised by `init` before the structure became reachable.
        self.outcome(unsafe { libc::pthread_mutex_trylock(self.raw.get()) })
    }

    /// Takes the mutex, sleeping while somebody else holds it. Sections under these locks are
    /// short and bounded, and a holder that dies hands the lock on, so the sleep ends.
    pub(crate) fn lock(&self) -> Acquired {
        // SAFETY: as in `try_lock`.
        let status = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        self.outcome(status).expect("a lock that one waits for is never busy")
    }

    fn outcome(&self, status: libc::c_int) -> Option<Acquired> {
        match status {
            0 => Some(Acquired::Clean),
            libc::EOWNERDEAD => {
                // Marked consistent at once, not after the repair: should this process die during
                // the repair, the next owner gets EOWNERDEAD again and repairs again (every repair
                // is idempotent). The state ENOTRECOVERABLE can therefore never arise.
                // SAFETY: this thread holds the mutex, as EOWNERDEAD says.
                unsafe { libc::pthread_mutex_consistent(self.raw.get()) };
                Some(Acquired::OwnerDied)
            }
            libc::EBUSY => None,
            // Only memory that is no lock of ours answers anything else; trying again would spin
            // for ever.
            status => panic!("a lock in shared memory was overwritten (error {status})"),
        }
    }

    /// Releases the mutex.
    ///
    /// # Safety
    /// The calling thread holds the mutex.
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: forwarded from the caller's contract.
        unsafe { libc::pthread_mutex_unlock(self.raw.get()) };
    }
}

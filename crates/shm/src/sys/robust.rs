//! Process-shared robust mutexes: the kernel hands a dead owner's lock to the next who asks.
//!
//! ```text
//!  RobustMutex, 64 bytes (one cache line)
//!  +0   pthread_mutex_t   40 bytes with glibc on x86-64, 48 on arm64
//!  +..  padding
//! ```
//! The size of `pthread_mutex_t` differs between C libraries and architectures; it is part of the
//! segment's version word, so that two builds that disagree refuse each other.
//!
//! The kernel hands on a lock, but not every wake-up. Unlocking frees the word with one store, and
//! then wakes a sleeper with a system call:
//!
//! | killed | the others find | put right by |
//! |---|---|---|
//! | before the store | a lock with a dead owner | the kernel: it marks the word and wakes a sleeper, who is told |
//! | after it, before the call | a free lock, and perhaps sleepers | the kernel: it wakes one, **if the word is still free then** |
//! | the same, and a third process has taken the free word meanwhile | a lock that does not know of its sleepers: its owner wakes nobody | a sleeper, at the end of its slice |
//! | woken by an unlock, before it took the lock | as above, in both cases | as above |
//!
//! So nobody sleeps on a lock without end: [`RobustMutex::lock`] looks again after each `SLICE`.

use std::cell::UnsafeCell;

/// Longest sleep on a taken lock before it is looked at again, in nanoseconds. Sections are far
/// shorter, so a slice ends by itself only where a wake-up was lost.
const SLICE_NS: libc::c_long = 20_000_000;

/// A robust, process-shared mutex in shared memory.
#[repr(C, align(64))]
pub(crate) struct RobustMutex {
    raw: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = assert!(size_of::<RobustMutex>() == 64, "a lock fills one cache line");

// SAFETY: `pthread_mutex_t` initialised with PTHREAD_PROCESS_SHARED may be used from any thread of
// any process that maps it; that is its purpose.
unsafe impl Sync for RobustMutex {}

/// When a sleep that begins now is to end, by the clock that `pthread_mutex_timedlock` goes by:
/// that of the day (the call that takes the steady one is younger than the C libraries that we
/// run on). Should it be put back during a slice, that slice is longer, if nobody ends it.
fn slice_end() -> libc::timespec {
    let mut end = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut end) };
    end.tv_nsec += SLICE_NS;
    if end.tv_nsec >= 1_000_000_000 {
        end.tv_nsec -= 1_000_000_000;
        end.tv_sec += 1;
    }
    end
}

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
    /// short and bounded, and a holder that dies hands the lock on, so the waiting ends; that of
    /// one whose wake-up died with somebody else too, a slice later.
    pub(crate) fn lock(&self) -> Acquired {
        loop {
            let deadline = slice_end();
            // SAFETY: as in `try_lock`; the deadline is a local.
            let status = unsafe { libc::pthread_mutex_timedlock(self.raw.get(), &raw const deadline) };
            if let Some(acquired) = self.outcome(status) {
                return acquired;
            }
        }
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
            libc::EBUSY | libc::ETIMEDOUT => None,
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

// The lock word is looked at: where it lies is glibc's choice.
#[cfg(all(test, target_env = "gnu", not(miri), not(breakeven_loom)))]
mod tests {
    use super::*;
    use crate::primitive::{AtomicU32, Ordering::SeqCst};
    use std::time::{Duration, Instant};

    const WAITERS: u32 = 1 << 31;
    const OWNER: u32 = (1 << 30) - 1;

    /// A lock that children share.
    fn shared_lock() -> &'static RobustMutex {
        // SAFETY: a fresh mapping, large enough and page-aligned, that is never unmapped.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let how = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(core::ptr::null_mut(), 4096, access, how, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            RobustMutex::init(memory.cast());
            &*memory.cast()
        }
    }

    fn word(lock: &RobustMutex) -> u32 {
        // SAFETY: the lock begins with its word, of which only the kernel and atomic operations
        // make another.
        unsafe { &*core::ptr::from_ref(lock).cast::<AtomicU32>() }.load(SeqCst)
    }

    /// A child that runs `child`, which only makes calls that are allowed between a fork of many
    /// threads and an exec, and ends. It dies with the thread that started it.
    fn fork(child: impl FnOnce()) -> libc::pid_t {
        // SAFETY: by what `child` may do; a new process of our own.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: about ourselves only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                child();
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            pid => {
                assert!(pid > 0);
                pid
            }
        }
    }

    /// Waits for `condition`, and gives up after what is an age for it.
    fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sleeps(pid: libc::pid_t) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('S')
    }

    /// Waits for a child to stop or end, and returns its status.
    fn wait(pid: libc::pid_t) -> libc::c_int {
        let mut status = 0;
        // SAFETY: waits for a child of ours; the status is a local.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    /// Lets a child that stands still run up to where it has just freed `lock`.
    fn step_until_free(pid: libc::pid_t, lock: &RobustMutex) {
        for _ in 0..100_000 {
            let none = core::ptr::null_mut::<libc::c_void>();
            // SAFETY: one instruction of a child of ours that is traced and stands still.
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, none, none) }, 0);
            assert!(libc::WIFSTOPPED(wait(pid)), "the owner ended early");
            if word(lock) & OWNER == 0 {
                return;
            }
        }
        panic!("the owner does not free the lock");
    }

    fn kill(pid: libc::pid_t) {
        // SAFETY: a child of ours that was not waited for yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    /// Plays the one death after which the kernel wakes nobody: an owner is killed between freeing
    /// the lock and waking a sleeper, and a third process (this one) has taken the lock before the
    /// kernel looks. False if the sleeper's slice ended just between the two, which the scheduler
    /// decides: then it had the lock first. Panics if the sleeper does not get the lock.
    fn lose_a_wake_up(lock: &RobustMutex) -> bool {
        let owner = fork(|| {
            lock.lock();
            // SAFETY: about ourselves; this thread holds the lock.
            unsafe {
                libc::ptrace(libc::PTRACE_TRACEME);
                libc::raise(libc::SIGSTOP);
                lock.unlock();
            }
        });
        assert!(libc::WIFSTOPPED(wait(owner)));
        let sleeper = fork(|| {
            lock.lock();
            // SAFETY: this thread holds the lock.
            unsafe { lock.unlock() };
        });
        eventually("somebody sleeps on the lock", || word(lock) & WAITERS != 0 && sleeps(sleeper));
        step_until_free(owner, lock);

        let taken = lock.try_lock();
        kill(owner);
        assert!(libc::WIFSIGNALED(wait(owner)));
        if taken.is_none() {
            assert_eq!(wait(sleeper), 0);
            return false;
        }
        assert_eq!(taken, Some(Acquired::Clean));
        // SAFETY: this thread has just taken the lock.
        unsafe { lock.unlock() };
        eventually("the sleeper has had the lock", || {
            // SAFETY: looks whether a child of ours has ended; its status is not asked for.
            unsafe { libc::waitpid(sleeper, core::ptr::null_mut(), libc::WNOHANG) == sleeper }
        });
        true
    }

    #[test]
    fn a_sleeper_whose_wake_up_died_with_the_owner_gets_the_lock() {
        let lock = shared_lock();
        assert!((0..50).any(|_| lose_a_wake_up(lock)), "the sleeper was always the faster one");
        assert_eq!(lock.try_lock(), Some(Acquired::Clean), "the lock is as it was");
        // SAFETY: this thread has just taken the lock.
        unsafe { lock.unlock() };
    }
}

//! Something that can be closed while others use it.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};

/// A value that is dropped when it is closed, as soon as nobody uses it any more.
///
/// `state` counts the users; its top bit says that the value was closed.
///
/// | state | meaning | who may change it |
/// |---|---|---|
/// | n | open, n users | `enter` +1, `leave` -1, `close` sets the bit |
/// | CLOSED + n | closed, n users still inside | `leave` -1; the one that makes it CLOSED drops the value |
/// | CLOSED | closed; dropped by whoever made it so | nobody (a failed `enter` adds 1 and takes it back) |
pub(crate) struct Closable<T> {
    state: AtomicU32,
    value: UnsafeCell<ManuallyDrop<T>>,
}

const CLOSED: u32 = 1 << 31;

// SAFETY: the value is only handed out as `&T`, and dropped by exactly one thread when no reference exists any more.
unsafe impl<T: Send + Sync> Sync for Closable<T> {}

impl<T> Closable<T> {
    pub(crate) fn new(value: T) -> Self {
        Closable { state: AtomicU32::new(0), value: UnsafeCell::new(ManuallyDrop::new(value)) }
    }

    /// Uses the value; `None` if it was closed.
    #[inline]
    pub(crate) fn enter(&self) -> Option<User<'_, T>> {
        if self.state.fetch_add(1, Ordering::Acquire) & CLOSED != 0 {
            // Not through `leave`: the value may be dropped already, and must not be dropped again.
            self.state.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(User(self))
    }

    /// Uses the value for something short, without being counted where the interpreter's lock makes that unnecessary.
    ///
    /// # Safety
    /// The caller is attached, and stays so while it has the result: every `close` and every end of a counted use is made
    /// attached too, so with an interpreter lock none of them can happen meanwhile.
    #[inline]
    pub(crate) unsafe fn brief(&self) -> Option<Brief<'_, T>> {
        if cfg!(Py_GIL_DISABLED) {
            return self.enter().map(Brief::Counted);
        }
        if self.is_closed() {
            return None;
        }
        // SAFETY: open, and nobody can close it while the interpreter's lock is held by the caller.
        Some(Brief::Locked(unsafe { &*self.value.get() }))
    }

    #[inline]
    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::Release) == CLOSED + 1 {
            self.drop_value();
        }
    }

    /// Closes the value for new users. Returns whether it was open.
    pub(crate) fn close(&self) -> bool {
        let before = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        if before == 0 {
            self.drop_value();
        }
        before & CLOSED == 0
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) & CLOSED != 0
    }

    #[cold]
    fn drop_value(&self) {
        core::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: the state is CLOSED, with no users, for the first time: it became so by the one `leave` or `close` that
        // calls this, and never becomes so again, since `enter` does not let anybody in.
        unsafe { ManuallyDrop::drop(&mut *self.value.get()) }
    }
}

impl<T> Drop for Closable<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// A use of a [`Closable`].
pub(crate) struct User<'a, T>(&'a Closable<T>);

/// A short use of a [`Closable`].
pub(crate) enum Brief<'a, T> {
    /// Without an interpreter lock.
    Counted(User<'a, T>),
    /// Under the interpreter's lock.
    Locked(&'a T),
}

impl<T> Deref for Brief<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Brief::Counted(user) => user,
            Brief::Locked(value) => value,
        }
    }
}

impl<T> Deref for User<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while this user is counted the value is not dropped.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for User<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counts<'a>(&'a AtomicU32);

    impl Drop for Counts<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_value_is_dropped_once_by_the_last_who_leaves() {
        let drops = AtomicU32::new(0);
        let sut = Closable::new(Counts(&drops));
        let first = sut.enter();
        assert!(first.is_some());
        assert!(sut.close());
        assert!(!sut.close());
        assert!(sut.enter().is_none());
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        drop(first);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert!(sut.enter().is_none());
        drop(sut);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_value_that_nobody_closed_is_dropped_with_its_owner() {
        let drops = AtomicU32::new(0);
        drop(Closable::new(Counts(&drops)));
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn users_of_many_threads_and_one_close() {
        for _ in 0..200 {
            let drops = AtomicU32::new(0);
            let sut = Closable::new(Counts(&drops));
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while let Some(user) = sut.enter() {
                            assert_eq!((*user).0.load(Ordering::Relaxed), 0);
                        }
                    });
                }
                scope.spawn(|| sut.close());
            });
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        }
    }
}

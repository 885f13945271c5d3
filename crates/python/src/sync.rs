//! Locks, semaphores, events and conditions between processes. `breakeven/synchronize.py` derives the classes from them
//! that programs see.
//!
//! The classes are made to be derived from: `__new__` takes anything and makes an empty object, which `_create` or
//! `_attach` fills. What needs no waiting is done attached; every wait passes the gate (`enter.rs`).

use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use breakeven_shm::sync::{self, Owner, ReleaseError, Round};
use breakeven_shm::{Arena, OpenError, RootId, Ticket};
use pyo3::exceptions::{PyAssertionError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::enter::{Deadline, current_thread, wait_slice};
use crate::{arena, error};

/// What an object is before `_create` or `_attach`, and after.
///
/// Filled once, attached and without a wait in between: a forked child cannot find it half filled.
type Cell<T> = PyOnceLock<T>;

/// `errno.EINVAL`, on every Linux.
const EINVAL: i32 = 22;

#[cold]
fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("the object was not initialised: __init__() of its class was not called")
}

#[cold]
fn initialised_twice() -> PyErr {
    PyRuntimeError::new_err("the object was initialised before")
}

#[cold]
fn gone(error: &OpenError) -> PyErr {
    match error {
        OpenError::Gone => PyValueError::new_err("it does not exist any more: the last process that used it let it go"),
        OpenError::Create(error) => error::create(error),
    }
}

#[cold]
fn unreleased(error: &ReleaseError) -> PyErr {
    match error {
        ReleaseError::NotOwner => PyAssertionError::new_err("attempt to release recursive lock not owned by thread"),
        ReleaseError::TooOften => PyValueError::new_err("semaphore or lock released too many times"),
        ReleaseError::Open(error) => gone(error),
    }
}

#[inline]
fn filled<'a, T>(py: Python<'_>, cell: &'a Cell<T>) -> PyResult<&'a T> {
    cell.get(py).ok_or_else(not_initialised)
}

fn fill<T>(py: Python<'_>, cell: &Cell<T>, value: T) -> PyResult<()> {
    cell.set(py, value).map_err(|_| initialised_twice())
}

/// Descriptor of an arena, and the number of a root in it: what another process opens it by. The descriptor stays this
/// process's.
fn handle(arena: Arena, ticket: Ticket) -> PyResult<(i32, u64)> {
    let fd = arena.fd().ok_or_else(|| PyOSError::new_err("the arena has no descriptor"))?;
    Ok((fd.as_raw_fd(), ticket.id.to_bits()))
}

/// The arena of a descriptor, which is taken over, and the ticket of a number.
fn opened(arena_fd: i32, id: u64) -> PyResult<(Arena, Ticket)> {
    if arena_fd < 0 {
        return Err(PyValueError::new_err("arena_fd must be an open file descriptor"));
    }
    // SAFETY: the caller gives the descriptor away, as documented; nothing else closes it.
    let arena_fd = unsafe { OwnedFd::from_raw_fd(arena_fd) };
    let arena = Arena::attach(arena_fd).map_err(|e| error::attach(&e))?;
    Ok((arena, Ticket { id: RootId::from_bits(id), lender: 0 }))
}

/// Until when to wait. A timeout of the wrong type is an error also where there is nothing to wait for.
#[inline]
fn deadline(block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Deadline>> {
    match timeout {
        None => Ok(None),
        Some(_) => Deadline::new(block, timeout).map(Some),
    }
}

/// A lock that belongs to a process. It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, subclass, module = "breakeven._native")]
pub(crate) struct Mutex {
    shared: Cell<sync::Mutex>,
}

impl Mutex {
    #[cold]
    fn acquire_later(py: Python<'_>, mutex: &sync::Mutex, thread: u64, deadline: Deadline) -> PyResult<bool> {
        let mut round = Round::default();
        // The owner may have died, now or while this one waits.
        if mutex.try_recover(thread).map_err(|e| gone(&e))? {
            return Ok(true);
        }
        loop {
            let mut outcome = Ok(false);
            let again = wait_slice(py, deadline, |slice| match mutex.wait(thread, slice, &mut round) {
                Ok((taken, wait)) => {
                    outcome = Ok(taken);
                    wait
                }
                Err(error) => {
                    outcome = Err(error);
                    breakeven_shm::Wait::Ready
                }
            });
            if outcome.map_err(|e| gone(&e))? {
                // Taken over in the slice. A signal handler that raised must not leave it taken.
                if again.is_err() {
                    let _ = mutex.release(thread);
                }
                return again.map(|_| true);
            }
            let again = again?;
            if mutex.try_acquire(thread).map_err(|e| gone(&e))? {
                return Ok(true);
            }
            if !again {
                return Ok(false);
            }
        }
    }
}

#[pymethods]
impl Mutex {
    #[new]
    #[pyo3(signature = (*_args, **_keywords))]
    fn new(_args: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Mutex { shared: Cell::new() }
    }

    /// Makes a free lock. `recursive`: the thread that holds it can take it again, and only that thread can release it.
    fn _create(&self, py: Python<'_>, recursive: bool) -> PyResult<()> {
        let mutex = sync::Mutex::create(&arena::arena(py)?, recursive).map_err(|e| error::memory(py, &e))?;
        fill(py, &self.shared, mutex)
    }

    /// Opens the lock that `_handle` of another process described. Takes ownership of the descriptor.
    fn _attach(&self, py: Python<'_>, arena_fd: i32, id: u64) -> PyResult<()> {
        let (arena, ticket) = opened(arena_fd, id)?;
        fill(py, &self.shared, sync::Mutex::open(&arena, ticket).map_err(|e| gone(&e))?)
    }

    /// What `_attach` needs in another process, while this one keeps its handle.
    fn _handle(&self, py: Python<'_>) -> PyResult<(i32, u64)> {
        let mutex = filled(py, &self.shared)?;
        handle(mutex.arena(), mutex.ticket())
    }

    /// Take the lock. With `block` false do not wait for it; with `timeout` wait for at most so many seconds (a negative
    /// number is zero). Returns whether it was taken.
    #[pyo3(signature = (block=true, timeout=None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let mutex = filled(py, &self.shared)?;
        let deadline = deadline(block, timeout)?;
        let thread = current_thread();
        if mutex.try_acquire(thread).map_err(|e| gone(&e))? {
            return Ok(true);
        }
        let deadline = deadline.unwrap_or(if block { Deadline::Never } else { Deadline::Now });
        Mutex::acquire_later(py, mutex, thread, deadline)
    }

    /// Let the lock go. Raises AssertionError if another thread holds a recursive lock, ValueError if nobody holds one
    /// that is not.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        filled(py, &self.shared)?.release(current_thread()).map_err(|e| unreleased(&e))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// Whether somebody holds the lock at this moment.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(filled(py, &self.shared)?.owner() != Owner::Nobody)
    }

    /// Whether this process holds the lock and took it over from one that died holding it: what it guards may be half
    /// changed. True until the lock is released.
    #[getter]
    fn owner_died(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(filled(py, &self.shared)?.is_recovered())
    }

    /// How often the lock was taken over from a process that had died holding it.
    #[getter]
    fn recoveries(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.recoveries())
    }

    fn _is_mine(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(filled(py, &self.shared)?.owner() == Owner::Thread(current_thread()))
    }

    fn _count(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.depth())
    }

    fn _get_value(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(u32::from(!self.locked(py)?))
    }

    fn _is_zero(&self, py: Python<'_>) -> PyResult<bool> {
        self.locked(py)
    }
}

/// A counter of permits. It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, subclass, module = "breakeven._native")]
pub(crate) struct Semaphore {
    shared: Cell<sync::Semaphore>,
    /// The thread of this process that took a permit last.
    thread: AtomicU64,
}

impl Semaphore {
    #[cold]
    fn acquire_later(py: Python<'_>, semaphore: &sync::Semaphore, deadline: Deadline) -> PyResult<bool> {
        let mut round = Round::default();
        if semaphore.try_recover() && semaphore.try_acquire().map_err(|e| gone(&e))? {
            return Ok(true);
        }
        loop {
            let again = wait_slice(py, deadline, |slice| semaphore.wait(slice, &mut round))?;
            if semaphore.try_acquire().map_err(|e| gone(&e))? {
                return Ok(true);
            }
            if !again {
                return Ok(false);
            }
        }
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_keywords))]
    fn new(_args: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Semaphore { shared: Cell::new(), thread: AtomicU64::new(0) }
    }

    /// Makes a semaphore of `value` permits that never has more than `maxvalue`.
    fn _create(&self, py: Python<'_>, value: &Bound<'_, PyAny>, maxvalue: &Bound<'_, PyAny>) -> PyResult<()> {
        let (value, maxvalue): (i32, i32) = (value.extract()?, maxvalue.extract()?);
        let (Ok(value), Ok(maxvalue)) = (u32::try_from(value), u32::try_from(maxvalue)) else {
            return Err(PyOSError::new_err((EINVAL, "Invalid argument"))); // as the standard library's
        };
        let semaphore =
            sync::Semaphore::create(&arena::arena(py)?, value, maxvalue).map_err(|e| error::memory(py, &e))?;
        fill(py, &self.shared, semaphore)
    }

    /// Opens the semaphore that `_handle` of another process described. Takes ownership of the descriptor.
    fn _attach(&self, py: Python<'_>, arena_fd: i32, id: u64) -> PyResult<()> {
        let (arena, ticket) = opened(arena_fd, id)?;
        fill(py, &self.shared, sync::Semaphore::open(&arena, ticket).map_err(|e| gone(&e))?)
    }

    /// What `_attach` needs in another process, while this one keeps its handle.
    fn _handle(&self, py: Python<'_>) -> PyResult<(i32, u64)> {
        let semaphore = filled(py, &self.shared)?;
        handle(semaphore.arena(), semaphore.ticket())
    }

    /// Take a permit. With `block` false do not wait for one; with `timeout` wait for at most so many seconds (a negative
    /// number is zero). Returns whether one was taken.
    #[pyo3(signature = (block=true, timeout=None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let semaphore = filled(py, &self.shared)?;
        let deadline = deadline(block, timeout)?;
        let mut taken = semaphore.try_acquire().map_err(|e| gone(&e))?;
        if !taken {
            let deadline = deadline.unwrap_or(if block { Deadline::Never } else { Deadline::Now });
            taken = Semaphore::acquire_later(py, semaphore, deadline)?;
        }
        if taken {
            self.thread.store(current_thread(), Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Give a permit. Raises ValueError if there are as many as there can be.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        filled(py, &self.shared)?.release().map_err(|e| unreleased(&e))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// Whether there is no permit at this moment.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(filled(py, &self.shared)?.permits() == 0)
    }

    /// How many permits were taken back from processes that had died holding them.
    #[getter]
    fn recoveries(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.recoveries())
    }

    /// Most permits that there can be.
    #[getter]
    fn maxvalue(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.most())
    }

    fn _is_mine(&self, py: Python<'_>) -> PyResult<bool> {
        let held = filled(py, &self.shared)?.held();
        Ok(held > 0 && self.thread.load(Ordering::Relaxed) == current_thread())
    }

    fn _count(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.held())
    }

    fn _get_value(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(filled(py, &self.shared)?.permits())
    }

    fn _is_zero(&self, py: Python<'_>) -> PyResult<bool> {
        self.locked(py)
    }
}

/// A flag that one can wait for. It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, subclass, module = "breakeven._native")]
pub(crate) struct Event {
    shared: Cell<sync::Event>,
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_keywords))]
    fn new(_args: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Event { shared: Cell::new() }
    }

    /// Makes a flag that is not set.
    fn _create(&self, py: Python<'_>) -> PyResult<()> {
        let event = sync::Event::create(&arena::arena(py)?).map_err(|e| error::memory(py, &e))?;
        fill(py, &self.shared, event)
    }

    /// Opens the flag that `_handle` of another process described. Takes ownership of the descriptor.
    fn _attach(&self, py: Python<'_>, arena_fd: i32, id: u64) -> PyResult<()> {
        let (arena, ticket) = opened(arena_fd, id)?;
        fill(py, &self.shared, sync::Event::open(&arena, ticket).map_err(|e| gone(&e))?)
    }

    /// What `_attach` needs in another process, while this one keeps its handle.
    fn _handle(&self, py: Python<'_>) -> PyResult<(i32, u64)> {
        let event = filled(py, &self.shared)?;
        handle(event.arena(), event.ticket())
    }

    /// Whether the flag is set.
    fn is_set(&self, py: Python<'_>) -> PyResult<bool> {
        filled(py, &self.shared)?.is_set().map_err(|e| gone(&e))
    }

    /// Set the flag. All who wait for it go on, also if it is cleared at once.
    fn set(&self, py: Python<'_>) -> PyResult<()> {
        filled(py, &self.shared)?.set().map_err(|e| gone(&e))
    }

    /// Clear the flag.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        filled(py, &self.shared)?.clear().map_err(|e| gone(&e))
    }

    /// Wait until the flag is set, for at most `timeout` seconds if that is given. Returns False if the time has passed
    /// without that, else True.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let event = filled(py, &self.shared)?;
        let deadline = deadline(true, timeout)?;
        let since = event.since().map_err(|e| gone(&e))?;
        if event.has_come(since) {
            return Ok(true);
        }
        let deadline = deadline.unwrap_or(Deadline::Never);
        while wait_slice(py, deadline, |slice| event.wait(since, slice))? {
            if event.has_come(since) {
                return Ok(true);
            }
        }
        Ok(event.has_come(since))
    }
}

/// Those who wait for a condition; the lock that goes with it is somebody else's. It holds no Python object, hence no
/// `__traverse__`.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Waiters {
    condition: sync::Condition,
}

#[pymethods]
impl Waiters {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let condition = sync::Condition::create(&arena::arena(py)?).map_err(|e| error::memory(py, &e))?;
        Ok(Waiters { condition })
    }

    /// Opens those that `_handle` of another process described. Takes ownership of the descriptor.
    #[staticmethod]
    fn _attached(arena_fd: i32, id: u64) -> PyResult<Self> {
        let (arena, ticket) = opened(arena_fd, id)?;
        Ok(Waiters { condition: sync::Condition::open(&arena, ticket).map_err(|e| gone(&e))? })
    }

    /// What `_attached` needs in another process, while this one keeps its handle.
    fn _handle(&self) -> PyResult<(i32, u64)> {
        handle(self.condition.arena(), self.condition.ticket())
    }

    /// From now on the calling thread waits; returns its place, which `leave` gives back. The lock is held.
    fn enter(&self) -> PyResult<usize> {
        self.condition.enter().map_err(|e| gone(&e))?.ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "{} threads wait for this condition already, which is as many as can",
                sync::Condition::MOST
            ))
        })
    }

    /// Waits until the thread at `place` is notified, for at most `timeout` seconds if that is given; with `watch` also
    /// until somebody else who waits has died. Returns whether it was notified. The lock is not held.
    #[pyo3(signature = (place, timeout=None, watch=false))]
    fn wait(&self, py: Python<'_>, place: usize, timeout: Option<&Bound<'_, PyAny>>, watch: bool) -> PyResult<bool> {
        self.check(place)?;
        let condition = &self.condition;
        let deadline = Deadline::new(true, timeout)?;
        let mut round = Round::default();
        while !condition.has_come(place) {
            if watch && condition.deaths() > 0 {
                return Ok(false);
            }
            if !wait_slice(py, deadline, |slice| condition.wait(place, slice, &mut round))? {
                return Ok(condition.has_come(place));
            }
        }
        Ok(true)
    }

    /// Ends the wait of the thread at `place`. Returns whether it was notified.
    fn leave(&self, place: usize) -> PyResult<bool> {
        self.check(place)?;
        Ok(self.condition.leave(place))
    }

    /// Notifies the `count` threads that wait longest. Returns how many there were. The lock is held.
    fn notify(&self, count: usize) -> PyResult<usize> {
        self.condition.notify(count).map_err(|e| gone(&e))
    }

    /// How many threads wait.
    fn waiting(&self) -> usize {
        self.condition.waiting()
    }

    /// How many of those who waited have died, since this was last asked or anybody notified. The lock is held.
    fn take_deaths(&self) -> PyResult<usize> {
        self.condition.take_deaths().map_err(|e| gone(&e))
    }

    /// One of a few numbers that go with the condition; 0 at first. The lock is held.
    fn note(&self, which: usize) -> PyResult<u64> {
        self.check_note(which)?;
        Ok(self.condition.note(which))
    }

    /// Changes such a number. The lock is held.
    fn set_note(&self, which: usize, value: u64) -> PyResult<()> {
        self.check_note(which)?;
        self.condition.set_note(which, value);
        Ok(())
    }
}

impl Waiters {
    fn check(&self, place: usize) -> PyResult<()> {
        if place < sync::Condition::MOST { Ok(()) } else { Err(PyValueError::new_err("there is no such place")) }
    }

    fn check_note(&self, which: usize) -> PyResult<()> {
        if which < sync::Condition::NOTES { Ok(()) } else { Err(PyValueError::new_err("there is no such note")) }
    }
}

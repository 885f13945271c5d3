//! Calls of Python functions from the middle of the program's own calls.
//!
//! When an interpreter before 3.14 ends, it ends daemon threads at the moment at which they come back for its lock: by
//! `pthread_exit`, which unwinds their stacks. Unwinding must not pass Rust frames, and a daemon thread of the program's
//! that sits in a hooked call has ours on its stack. Such a thread sleeps for ever instead, which is what later versions
//! do with all of them; the end of the process ends it.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

// pyo3's own declaration says that nothing unwinds out of it, which is not so in a thread that the interpreter ends.
unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        args: *mut ffi::PyObject,
        kwargs: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

// pyo3 does not declare it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, instance: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Dropped only when the thread's stack is unwound.
struct Sleep;

impl Drop for Sleep {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// `function(*args, **kwargs)`
#[inline]
pub(super) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let guard = Sleep;
    // SAFETY: the thread is attached, as it has `Bound`s; all three are alive for the call, and kwargs may be null. The
    // result is a new reference or null with an exception set. If the thread is ended inside, `guard` keeps the unwinding
    // from going on, while all references stay as they are.
    let result = unsafe {
        PyObject_Call(function.as_ptr(), args.as_ptr(), kwargs.map_or(core::ptr::null_mut(), |kwargs| kwargs.as_ptr()))
    };
    core::mem::forget(guard);
    // SAFETY: as above.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}

/// `function` as a method of `instance`.
#[inline]
pub(super) fn method<'py>(function: &Bound<'py, PyAny>, instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the thread is attached, and both are alive; neither is null. The result is a new reference or null with an
    // exception set. (Calling `types.MethodType` does the same in three times the time.)
    unsafe { Bound::from_owned_ptr_or_err(function.py(), PyMethod_New(function.as_ptr(), instance.as_ptr())) }
}

/// `function(*args)`
#[inline]
pub(super) fn call1<'py, const N: usize>(
    function: &Bound<'py, PyAny>,
    args: [Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    call(function, &PyTuple::new(function.py(), args)?, None)
}

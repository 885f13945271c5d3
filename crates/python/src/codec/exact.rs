//! Reading exact built-in objects without a call into the interpreter for each.
//!
//! Only what the interpreter's headers inline themselves is read directly; anything unusual takes the public function.

use pyo3::ffi;
use pyo3::prelude::*;

/// `PyLongObject` as far as its first two digits, for interpreters with 30-bit digits ([`check_interpreter`]).
#[repr(C)]
struct Long {
    base: ffi::PyObject,
    /// From 3.12: `digits << 3 | sign`, where sign is 0 (positive), 1 (zero) or 2 (negative).
    /// Before: the number of digits, negative for negative numbers.
    tag: usize,
    digits: [u32; 2],
}

/// The module refuses to be imported where [`Long`] would not describe an int.
pub(crate) fn check_interpreter(py: Python<'_>) -> PyResult<()> {
    let info = py.import("sys")?.getattr("int_info")?;
    let digits: (u32, u32) = (info.getattr("bits_per_digit")?.extract()?, info.getattr("sizeof_digit")?.extract()?);
    if digits != (30, 4) {
        return Err(pyo3::exceptions::PyImportError::new_err(format!(
            "breakeven supports interpreters with 30-bit int digits in 4 bytes; this one has {digits:?}"
        )));
    }
    Ok(())
}

/// The value of an int that is an `int` and no subclass, if it fits into an `i64`.
///
/// # Safety
/// `op` is a valid object whose type is exactly `int`, and the caller is attached.
#[inline]
pub(crate) unsafe fn long_value(op: *mut ffi::PyObject) -> Option<i64> {
    let long = op.cast::<Long>();
    // SAFETY: `op` is an exact int, which starts with these fields on every version that `check_interpreter` and the
    // version bounds of this crate let through; an int is immutable, so nobody writes meanwhile. Only digits that the
    // tag says exist are read.
    unsafe {
        let tag = (*long).tag;
        #[cfg(Py_3_12)]
        let (digits, negative) = (tag >> 3, tag & 3 == 2);
        #[cfg(not(Py_3_12))]
        let (digits, negative) = ((tag as isize).unsigned_abs(), (tag as isize) < 0);
        let magnitude = match digits {
            0 => 0,
            1 => i64::from((&raw const (*long).digits).cast::<u32>().read()),
            2 => {
                let first = (&raw const (*long).digits).cast::<u32>();
                i64::from(first.read()) | i64::from(first.add(1).read()) << 30
            }
            _ => return long_value_slow(op),
        };
        Some(if negative { -magnitude } else { magnitude })
    }
}

#[cold]
unsafe fn long_value_slow(op: *mut ffi::PyObject) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: `op` is an exact int (promised by the caller of `long_value`), so this cannot fail and runs no Python code.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(op, &mut overflow) };
    (overflow == 0).then_some(value)
}

/// The value of a float that is a `float` and no subclass.
///
/// # Safety
/// `op` is a valid object whose type is exactly `float`, and the caller is attached.
#[inline]
pub(crate) unsafe fn float_value(op: *mut ffi::PyObject) -> f64 {
    // SAFETY: promised by the caller.
    unsafe { ffi::PyFloat_AS_DOUBLE(op) }
}

/// The items of an exact list or tuple, as they are now.
///
/// # Safety
/// `op` is an exact list or tuple; the slice must not be used after anything that can run Python code or release the
/// interpreter, since another thread may then change the list.
#[inline]
pub(crate) unsafe fn items<'a>(op: *mut ffi::PyObject) -> &'a [*mut ffi::PyObject] {
    // SAFETY: the type was checked by the caller; an empty list has a null item pointer, which is not made a slice.
    unsafe {
        if ffi::PyList_CheckExact(op) != 0 {
            let list = op.cast::<ffi::PyListObject>();
            let len = ffi::Py_SIZE(op) as usize;
            if len == 0 { &[] } else { core::slice::from_raw_parts((*list).ob_item, len) }
        } else {
            let tuple = op.cast::<ffi::PyTupleObject>();
            let len = ffi::Py_SIZE(op) as usize;
            core::slice::from_raw_parts((&raw const (*tuple).ob_item).cast(), len)
        }
    }
}

/// What the items of a sequence have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Common {
    /// All exact ints that fit into 64 bits, with the smallest and the largest.
    Ints(i64, i64),
    /// All exact floats.
    Floats,
    /// All None or a truth value.
    Flags,
}

/// None or a truth value; `None` if `op` is neither.
///
/// # Safety
/// `op` is a valid object, and the caller is attached.
#[inline]
pub(crate) unsafe fn flag(op: *mut ffi::PyObject) -> Option<Option<bool>> {
    // SAFETY: promised by the caller; the three are one object each.
    unsafe {
        if op == ffi::Py_None() {
            Some(None)
        } else if op == ffi::Py_False() {
            Some(Some(false))
        } else if op == ffi::Py_True() {
            Some(Some(true))
        } else {
            None
        }
    }
}

/// Looks whether all items are of one packable kind. Stops at the first one that is not.
///
/// # Safety
/// As for [`items`].
pub(crate) unsafe fn common(items: &[*mut ffi::PyObject]) -> Option<Common> {
    // SAFETY: promised by the caller.
    unsafe { common_of(items.iter().copied()) }
}

/// As [`common`], from some of the items, spread over all of them: a guess, to be checked when they are packed.
///
/// # Safety
/// As for [`items`].
pub(crate) unsafe fn sample(items: &[*mut ffi::PyObject]) -> Option<Common> {
    let step = (items.len() / SAMPLES).max(1);
    // SAFETY: promised by the caller.
    unsafe { common_of(items.iter().step_by(step).chain(items.last()).copied()) }
}

/// Items that [`sample`] looks at.
const SAMPLES: usize = 128;

/// # Safety
/// All items are valid objects, and no Python code runs meanwhile.
#[inline]
unsafe fn common_of(mut items: impl Iterator<Item = *mut ffi::PyObject>) -> Option<Common> {
    let first = items.next()?;
    // SAFETY: promised by the caller; each value is read after its exact type was checked.
    unsafe {
        if ffi::PyLong_CheckExact(first) != 0 {
            let value = long_value(first)?;
            let (mut min, mut max) = (value, value);
            for item in items {
                if ffi::PyLong_CheckExact(item) == 0 {
                    return None;
                }
                let value = long_value(item)?;
                min = min.min(value);
                max = max.max(value);
            }
            Some(Common::Ints(min, max))
        } else if ffi::PyFloat_CheckExact(first) != 0 {
            items.all(|item| ffi::PyFloat_CheckExact(item) != 0).then_some(Common::Floats)
        } else if flag(first).is_some() {
            items.all(|item| flag(item).is_some()).then_some(Common::Flags)
        } else {
            None
        }
    }
}

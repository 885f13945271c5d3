//! Keeps the interpreter's memory warm between long lists.
//!
//! A list of 100,000 ints takes more than 3 MB of small objects. When the program drops it, the interpreter finds its
//! arenas empty and unmaps them, and the next such message maps them again and takes a page fault every 4 KiB: that was
//! half of the time of receiving it. One small object that stays in each arena prevents it.
//!
//! What it costs: a process that has received long lists keeps up to [`MOST`] arenas (1 MiB each on 64-bit CPython) that
//! it once used, for its next objects of any kind.

use core::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// Arenas that are kept.
const MOST: usize = 32;
/// An object is looked at every so many: 256 KiB of ints.
const STRIDE: usize = 8192;
const ARENA_BITS: u32 = 20;

/// Numbers (address >> ARENA_BITS) of the arenas that have an anchor; 0 for none. Only changed while attached.
static ANCHORED: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];

/// Looks at the objects of a new list and anchors arenas that have no anchor yet.
///
/// # Safety
/// `slots` leads to `len` objects that were just allocated, one after the other.
pub(super) unsafe fn anchor(_: Python<'_>, slots: *const *mut ffi::PyObject, len: usize) {
    if cfg!(Py_GIL_DISABLED) {
        return; // another allocator
    }
    for index in (0..len).step_by(STRIDE) {
        // SAFETY: `index < len`, promised by the caller. The object is not touched; its address says where it lies.
        let arena = unsafe { *slots.add(index) } as usize >> ARENA_BITS;
        for slot in &ANCHORED {
            let known = slot.load(Ordering::Relaxed);
            if known == arena {
                break;
            }
            if known == 0 {
                // Another reference to the object itself keeps its place in use. It is never given back: 32 bytes for
                // each of at most MOST arenas.
                // SAFETY: a valid object, attached.
                unsafe { ffi::Py_IncRef(*slots.add(index)) };
                slot.store(arena, Ordering::Relaxed);
                break;
            }
        }
    }
}

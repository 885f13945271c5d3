//! The one place that chooses where atomics and spin hints come from.
//!
//! Ordinary builds use `core`; builds with `--cfg breakeven_loom` use loom's checked versions, so
//! that the model tests run the very code that ships. The cfg has a name of our own: it must not
//! flip anything in our dependencies.

#[cfg(not(breakeven_loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(breakeven_loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU16};
#[cfg(not(breakeven_loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A sequentially consistent fence.
///
/// On x86-64 any locked instruction is one, and costs half of the `mfence` that the compiler
/// makes of `fence(SeqCst)`.
#[cfg(not(breakeven_loom))]
#[inline(always)]
pub(crate) fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: adds zero to the word at the top of the stack, which is mapped and changes nothing.
    // Not `nomem`: the compiler must not move memory accesses across it.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fence(Ordering::SeqCst);
}

/// A sequentially consistent fence.
#[cfg(breakeven_loom)]
pub(crate) fn full_fence() {
    fence(Ordering::SeqCst);
}

#[cfg(breakeven_loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

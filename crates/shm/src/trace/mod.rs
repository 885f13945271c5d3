//! The memory through which the processes of a run hand their records to the recorder.
//!
//! One memory file a run, made by the recorder ([`Reader`]); each recorded process has a slot in it ([`Writer`]): a ring
//! of records, a table of strings, and what each of its threads is in right now. [`layout`] draws it, and says what is
//! found of a process that was killed. [`proc`] is the kernel's side: accounts of processes and threads.

pub mod ring;

#[cfg(not(breakeven_loom))]
mod layout;
#[cfg(not(breakeven_loom))]
mod memory;
#[cfg(not(breakeven_loom))]
pub mod proc;
#[cfg(not(breakeven_loom))]
mod reader;
#[cfg(not(breakeven_loom))]
mod writer;

/// The number of the file behind a descriptor, the same in all processes that have it; 0: it is not open.
#[cfg(not(breakeven_loom))]
pub fn inode(fd: i32) -> u64 {
    if fd < 0 {
        return 0;
    }
    // SAFETY: the number is only handed to the kernel, which says so if it is no open descriptor.
    let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
    rustix::fs::fstat(fd).map_or(0, |stat| stat.st_ino)
}

#[cfg(not(breakeven_loom))]
pub use {
    crate::sys::process::monotonic_ns,
    layout::{CELLS, SLOTS},
    reader::{Reader, SlotId, SlotState},
    ring::Words,
    writer::{Identity, Writer, after_fork_in_child, start, stop, writer},
};

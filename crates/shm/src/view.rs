//! Received blocks as their receiver holds them: writable, the receiver's own, and still so after
//! a fork.
//!
//! A block is mapped shared. Were a process to fork while it holds one, parent and child would
//! write into one memory, and whoever drops it first would pull it from under the other. Both
//! break what a program may expect of received data: that it is as private as anything else it
//! has. So before a fork every view is turned, without copying, into a copy-on-write mapping of
//! the same pages at the same address, and the block is put under a blob of its own, on which
//! parent and child each have a handle. The pages go back to the arena when the last of them is
//! done, and each restores the shared mapping of the range before it gives its handle back: while
//! a private mapping hides a block in any process, the block cannot carry a message.
//!
//! ```text
//!              before_fork                         drop of the last handle
//!  OWNED  ----------------------->  PINNED(blob)  ------------------------->  block is free
//!    |    map private, same address               map shared, give back
//!    +--- drop: block is free
//! ```
//!
//! The list of views is only touched by threads that are attached to the interpreter, so at a fork
//! (which the interpreter does with its lock held, or the world stopped) no thread is within it.

use crate::arena::Block;
use crate::blob::Blob;
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::memfd;
use std::cell::UnsafeCell;
use std::ptr::NonNull;

/// A received block. Dropping it gives the block back.
#[derive(Debug)]
pub struct View {
    /// On the heap, so that the list of views can point at it.
    state: NonNull<ViewState>,
}

// SAFETY: the state is reached only through its `View` and, with the list's lock held, through the
// list; the memory behind it is plain bytes.
unsafe impl Send for View {}
// SAFETY: `&View` only gives addresses.
unsafe impl Sync for View {}

#[derive(Debug)]
struct ViewState {
    /// Position in the list of views.
    position: usize,
    address: NonNull<u8>,
    len: usize,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Owned(Block),
    Pinned {
        /// Dropped after the mapping is restored.
        blob: Blob,
        index: u32,
        offset: u64,
        mapped: usize,
    },
}

impl View {
    /// Takes a received block into care.
    pub fn new(block: Block) -> View {
        let state =
            Box::new(ViewState { position: 0, address: block.address(), len: block.len(), hold: Hold::Owned(block) });
        let state = NonNull::from(Box::leak(state));
        VIEWS.with(|list| {
            // SAFETY: just made, and not in the list yet: nobody else can reach it.
            unsafe { (*state.as_ptr()).position = list.len() };
            list.push(state);
        });
        View { state }
    }

    /// Address of the first byte. Stays the same for the view's whole life.
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: the state lives as long as the view; `address` never changes.
        unsafe { (*self.state.as_ptr()).address.as_ptr() }
    }

    /// Bytes in the view.
    pub fn len(&self) -> usize {
        // SAFETY: as in `as_ptr`; `len` never changes.
        unsafe { (*self.state.as_ptr()).len }
    }

    /// Whether the view holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for View {
    fn drop(&mut self) {
        VIEWS.with(|list| {
            // SAFETY: the state is alive; with the list locked nobody else looks at `position`.
            let position = unsafe { (*self.state.as_ptr()).position };
            list.swap_remove(position);
            if let Some(moved) = list.get(position) {
                // SAFETY: what is in the list is alive, and the list is locked.
                unsafe { (*moved.as_ptr()).position = position };
            }
        });
        // SAFETY: made by `Box::leak` in `new`, out of the list since just now, dropped once.
        let state = unsafe { Box::from_raw(self.state.as_ptr()) };
        let ViewState { address, hold, .. } = *state;
        match hold {
            Hold::Owned(block) => drop(block),
            Hold::Pinned { blob, index, offset, mapped } => {
                if let Some(fd) = blob.arena().fd() {
                    // SAFETY: the range is the block's own, whole pages of our mapping of this
                    // file at this offset; the view was its last user in this process.
                    let restored = unsafe { memfd::remap(fd, address, offset, mapped, false) };
                    blob.arena().forget_populated(index);
                    if restored.is_err() {
                        // A private mapping that hides a block must keep the block from use.
                        core::mem::forget(blob);
                        return;
                    }
                }
                drop(blob);
            }
        }
    }
}

impl ViewState {
    /// Makes the view copy-on-write and its block shared between this process and its children.
    /// Leaves it as it is where that cannot be done (no memory for the blob, or pages larger than
    /// the block's alignment).
    fn pin(&mut self) {
        let Hold::Owned(block) = &self.hold else { return }; // else an earlier fork has done it
        let arena = block.arena();
        let (index, mapped) = (block.index(), block.capacity());
        let whole_pages = |bytes: usize| bytes.is_multiple_of(rustix::param::page_size());
        let place = arena
            .descriptor(index)
            .and_then(|descriptor| arena.extent(descriptor))
            .filter(|(offset, _)| whole_pages(*offset as usize) && whole_pages(mapped));
        let (Some((offset, _)), Some(fd)) = (place, arena.fd()) else { return };
        if block.owner() != arena.inner.me.get() {
            return; // inherited through a fork that we were not told of
        }
        let Ok(blob) = Blob::pin(block) else { return };
        let pinned = Hold::Pinned { blob, index, offset, mapped };
        if let Hold::Owned(block) = core::mem::replace(&mut self.hold, pinned) {
            core::mem::forget(block); // the blob's now
        }
        // Should this fail, parent and child share the bytes, which live as long as either needs them.
        // SAFETY: whole pages of our own mapping of this file, at the same offset: the bytes are the
        // same before and after.
        let _ = unsafe { memfd::remap(fd, self.address, offset, mapped, true) };
    }
}

struct Views {
    locked: AtomicU32,
    list: UnsafeCell<Vec<NonNull<ViewState>>>,
}

// SAFETY: `list` is only reached in `with`, under `locked`.
unsafe impl Sync for Views {}

static VIEWS: Views = Views { locked: AtomicU32::new(0), list: UnsafeCell::new(Vec::new()) };

impl Views {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<NonNull<ViewState>>) -> T) -> T {
        while self.locked.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        // SAFETY: the lock word was 0 and is now ours.
        let result = act(unsafe { &mut *self.list.get() });
        self.locked.store(0, Ordering::Release);
        result
    }
}

/// Makes every view of this process copy-on-write.
pub(crate) fn before_fork() {
    VIEWS.with(|list| {
        for state in list {
            // SAFETY: what is in the list is alive, and the list is locked.
            unsafe { (*state.as_ptr()).pin() };
        }
    });
}

//! Locks, semaphores, events and conditions between processes that may die holding them. Protocols,
//! proofs and kill tables are in `README.md` beside this file.
//!
//! ```text
//!  root block (SyncHeader, then handles)
//!  +0     what        u32   MUTEX, SEMAPHORE, EVENT, CONDITION
//!  +4     setting     u32   mutex: 1 if recursive; semaphore: permits at birth
//!  +8     most        u32   semaphore: most permits
//!  +12    recoveries  u32   mutex: takeovers from the dead; semaphore: permits taken back from them
//!  +64    mutex       u32   see `mutex.rs`
//!  +72    semaphore   u64   see `semaphore.rs`
//!  +80    event       u32   see `event.rs`
//!  +84    waiters     u32   tickets; u32 places used: see `waiters.rs`
//!  +128   changed     64    event word: a mutex was released, a permit was given
//!  +192   notes       [u64; 8]  of whoever uses a condition; guarded by his lock
//!  +1024  handles     [u16; 1024]  by participant; see `root.rs`
//!  +3072  semaphore: ledger [u64; 1024]; condition: places [8 bytes; 1024]
//! ```
//! Mutexes and events end at 4 KiB, the others at 12 KiB.

mod event;
mod mutex;
mod semaphore;
mod waiters;

#[cfg(breakeven_loom)]
pub use event::EventFlag;
#[cfg(breakeven_loom)]
pub use mutex::{Holder, MutexWord, Seen};
#[cfg(breakeven_loom)]
pub use semaphore::{MOST_PERMITS, SemaphoreWord, held};
#[cfg(breakeven_loom)]
pub use waiters::{Came, Place, Waiters, WaitersHead};

#[cfg(not(breakeven_loom))]
mod handles;
#[cfg(not(breakeven_loom))]
pub(crate) use handles::survey;
#[cfg(not(breakeven_loom))]
pub use handles::{Condition, Event, Mutex, Owner, ReleaseError, Round, Semaphore};
#[cfg(not(breakeven_loom))]
pub use {event::Since, semaphore::MOST_PERMITS};

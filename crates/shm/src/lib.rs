//! Shared memory for processes that may die at any instruction.
//!
//! - [`Arena`]: one anonymous memory file per process tree, whose blocks are recycled warm;
//! - [`Channel`]: queues of small messages with blocks attached;
//! - [`Blob`]: what one process publishes and many read copy-on-write;
//! - [`List`] and [`Dict`]: containers that many processes read and change in place;
//! - [`sync`]: locks, semaphores, events and conditions that survive their owners.
//!
//! All `unsafe` of the project lives here (but for what PyO3 forces), and all that is Linux.
//! `sys` calls the kernel; [`layout`] draws what is shared; `arena`, `channel`, `wait` and
//! `participant` hold the protocols, each with its kill table in a README beside it.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod primitive;
pub mod sync;
pub mod trace;
pub mod wait;

#[cfg(not(breakeven_loom))]
mod arena;
#[cfg(not(breakeven_loom))]
mod blob;
#[cfg(not(breakeven_loom))]
pub mod channel;
/// What of a channel the model checker runs.
#[cfg(breakeven_loom)]
pub mod channel {
    pub mod marks;
    pub mod ring;
}
#[cfg(not(breakeven_loom))]
mod container;
#[cfg_attr(breakeven_loom, allow(dead_code, reason = "the models use a part"))]
mod crash;
#[cfg(not(breakeven_loom))]
mod error;
#[cfg(not(breakeven_loom))]
pub mod layout;
#[cfg(not(breakeven_loom))]
mod lock;
#[cfg(not(breakeven_loom))]
mod participant;
#[cfg(not(breakeven_loom))]
mod root;
#[cfg(not(breakeven_loom))]
mod segment;
#[cfg(not(breakeven_loom))]
mod sys;
#[cfg(not(breakeven_loom))]
mod view;

#[cfg(not(breakeven_loom))]
pub use {
    arena::{Arena, ArenaConfig, ArenaStatistics, Block, BlockRef, Counter, PATIENCE, Turn, size_class},
    blob::{Blob, PrivateView},
    channel::{
        Channel, ChannelConfig, ChannelStatistics, InBatch, MAX_INLINE, MAX_MESSAGE_BLOCKS, Message, OutBatch, Ticket,
        Wait,
    },
    container::{Container, ContainerError, Dict, Item, Items, Key, List, Lookup, Piece, Same, Stored, Unsure, Which},
    error::{AllocError, AttachError, CreateError, OpenError, TryRecvError, TrySendError},
    participant::{after_fork_in_child, after_fork_in_parent, before_fork, note_child},
    root::RootId,
    sys::{detached::start_detached, limits::default_limit, pages, parent::end_with_parent, place::keep_apart, stream},
    view::View,
};

/// Death at the n-th store, for tests.
#[cfg(all(feature = "crash-points", debug_assertions, not(breakeven_loom)))]
pub mod crash_points {
    pub use crate::crash::{Died, run};
}

//! Containers: lists and dicts of small values, with blocks for large ones, that any number of
//! processes read and change in place.
//!
//! ```text
//!  root block (ContainerHeader, then handles)
//!  +0    state     u32   ALIVE, or 0 once it is being taken apart
//!  +4    patron    u32   participant that keeps it while it is pinned
//!  +8    group     u64   the patron's name for a set of containers that it lets go together
//!  +16   pinned    u32   1: the patron's handles include one for the pin
//!  +20   note      u32   the user's own; starts as 0
//!  +64   lock      64    guards everything below and the table
//!  +128  table     u64   index + 1 | generation << 32; THE STORE THAT COMMITS A REBUILD
//!  +136  version   u64   raised before every change
//! ```
//!
//! The elements are in a table, a block of its own (`table.rs` draws it). An assignment writes the
//! half of a cell that does not count and then the head: numbers and short strings change in place,
//! without an allocation. What does not fit there goes to the heap behind the cells, which is only
//! ever appended to; when it is full, what is still referred to moves to a new table. Everything
//! that moves elements builds a new table as well. Blocks of elements belong to the container from
//! the commit on.
//!
//! | killed | leaves |
//! |---|---|
//! | while it writes a half, cells outside the span, the heap, a new table | nothing that anybody looks at; a new table and new blocks are the dead process's, and are taken back with it |
//! | after `version`, before the commit | the container as it was; who compares versions looks once more in vain |
//! | after it made blocks (or a table) that are about to leave the container its own, before the commit | the container as it was: reaping finds them reachable and leaves them to the container |
//! | after the commit, before it gave them back | the container as it is to be; they are reachable no more, and the dead process's |
//! | dict: between slots of the index, the commit, `tail` and `live` | slots that lead outside the span, or later to a key with another hash, and are passed over; a `live` that is not true. Who gets the lock next writes the index anew and counts, which whoever comes after it does again if it dies meanwhile |
//!
//! So in a list nothing has to be repaired after an owner of the lock died, and in a dict what
//! follows from the entries. No operation waits for anything but the lock, or runs foreign code
//! while it holds it.
//!
//! A container lives while a process has a handle on it. One that is named inside another's
//! element may have none for a while; it is *pinned*: its patron gets a handle, which it gives
//! back when it lets go of the whole group, or dies.

mod dict;
mod list;
mod table;

pub use dict::{Dict, Key, Lookup, Same, Stored, Unsure, Which};
pub use list::{List, Piece};
pub use table::{Item, Items};

use crate::arena::{Arena, Block, BlockRef};
use crate::channel::{MAX_INLINE, MAX_MESSAGE_BLOCKS, Ticket};
use crate::crash::store64;
use crate::error::{AllocError, CreateError, OpenError};
use crate::layout::{Descriptor, SharedRepr, kind};
use crate::lock::{Guard, lock};
use crate::participant::Reachable;
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::root::{self, BODY_AT, RootId};
use crate::sys::robust::RobustMutex;
use std::fmt;
use table::Table;

const ALIVE: u32 = 1;

#[repr(C)]
pub(crate) struct ContainerHeader {
    state: AtomicU32,
    pub(crate) patron: AtomicU32,
    pub(crate) group: AtomicU64,
    pub(crate) pinned: AtomicU32,
    note: AtomicU32,
    _pad: [AtomicU32; 10],
    lock: RobustMutex,
    table: AtomicU64,
    version: AtomicU64,
}

// SAFETY: atomics and a lock only.
unsafe impl SharedRepr for ContainerHeader {}

const _: () = {
    assert!(size_of::<ContainerHeader>() <= root::HANDLES_AT as usize);
    assert!(core::mem::offset_of!(ContainerHeader, group) == 8);
    assert!(core::mem::offset_of!(ContainerHeader, pinned) == 16);
    assert!(core::mem::offset_of!(ContainerHeader, note) == 20);
    assert!(core::mem::offset_of!(ContainerHeader, lock) == 64);
    assert!(core::mem::offset_of!(ContainerHeader, table) == 128);
    assert!(core::mem::offset_of!(ContainerHeader, version) == 136);
};

/// Why an operation on a container was not done. The container is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerError {
    /// There is no element of that index.
    Range,
    /// The container has changed since the version that was named.
    Changed,
    /// An extended slice of that many elements takes exactly as many.
    Size(u64),
    /// There is no memory for it.
    Memory(AllocError),
    /// A value is longer than an element can be, but for its blocks.
    TooLong,
    /// The container does not exist any more.
    Gone,
    /// The container holds something that no operation writes: some process wrote where it must not.
    Corrupt,
    /// This process could not be registered.
    Register(CreateError),
}

impl fmt::Display for ContainerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContainerError::Range => f.write_str("the index is out of range"),
            ContainerError::Changed => f.write_str("the shared list or dict was changed meanwhile"),
            ContainerError::Size(size) => {
                write!(f, "an extended slice of {size} elements takes exactly as many")
            }
            ContainerError::Memory(error) => error.fmt(f),
            ContainerError::TooLong => f.write_str("the value is longer than an element; put it into a block"),
            ContainerError::Gone => f.write_str("the shared list or dict does not exist any more"),
            ContainerError::Corrupt => f.write_str(
                "the memory of the shared list or dict was overwritten by something else; it cannot be used any more",
            ),
            ContainerError::Register(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ContainerError {}

impl From<AllocError> for ContainerError {
    fn from(error: AllocError) -> ContainerError {
        ContainerError::Memory(error)
    }
}

impl From<OpenError> for ContainerError {
    fn from(error: OpenError) -> ContainerError {
        match error {
            OpenError::Gone => ContainerError::Gone,
            OpenError::Create(error) => ContainerError::Register(error),
        }
    }
}

/// A handle on a container: what lists and dicts have in common. Usable from any thread.
#[derive(Debug)]
pub struct Container {
    core: Core,
    id: RootId,
    kind: u32,
    /// The participant on whose account this handle is; after a fork, the parent (see `enter`).
    holder: AtomicU32,
}

impl Container {
    /// Makes an empty one, around the table that `first` makes.
    fn create(
        arena: &Arena,
        kind: u32,
        patron: u32,
        group: u64,
        first: impl FnOnce(&Arena, u32) -> Result<(Block, Table), AllocError>,
    ) -> Result<Container, AllocError> {
        let mut root = arena.alloc(BODY_AT as usize)?;
        root.as_mut_slice().fill(0);
        let me = root.owner();
        let descriptor = arena.descriptor(root.index()).expect("a block of ours");
        let (header_at, _) = arena.extent(descriptor).expect("a block of ours");
        let address = arena.inner.segment.address(header_at, size_of::<ContainerHeader>());
        let raw = address.cast::<ContainerHeader>().as_ptr();
        // SAFETY: the block is large enough, aligned, and nobody else's yet.
        unsafe { RobustMutex::init(&raw mut (*raw).lock) };
        let core = Core { arena: *arena, header_at };
        let header = core.header();
        let (block, table) = first(arena, me)?;
        header.table.store(table.word(), Relaxed);
        header.patron.store(if patron == 0 { me } else { patron }, Relaxed);
        header.group.store(group, Relaxed);
        header.state.store(ALIVE, Relaxed);
        let id = root::commit(arena, root, kind);
        core::mem::forget(block); // the container's
        Ok(Container { core, id, kind, holder: AtomicU32::new(me) })
    }

    fn open(arena: &Arena, kind: u32, ticket: Ticket) -> Result<Container, OpenError> {
        root::acquire(arena, ticket.id, kind)?;
        if ticket.lender != 0 {
            root::release(arena, ticket.id, ticket.lender);
        }
        let descriptor = arena.descriptor(ticket.id.index).ok_or(OpenError::Gone)?;
        let (header_at, _) = arena.extent(descriptor).ok_or(OpenError::Gone)?;
        let holder = AtomicU32::new(arena.inner.me.get());
        Ok(Container { core: Core { arena: *arena, header_at }, id: ticket.id, kind, holder })
    }

    /// This process as a patron.
    pub fn patron(arena: &Arena) -> Result<u32, CreateError> {
        arena.me()
    }

    /// A ticket for a child that is being started. The container stays alive until the child has
    /// opened it (or this process ends).
    pub fn lend(&self) -> Result<Ticket, OpenError> {
        self.enter()?;
        let lender = root::lend(&self.core.arena, self.id, self.kind)?;
        Ok(Ticket { id: self.id, lender })
    }

    /// From now on the container's patron keeps it, until it lets go of its group. Without effect
    /// if the patron is gone.
    pub fn pin(&self) -> Result<(), OpenError> {
        self.enter()?;
        root::pin(&self.core.arena, self.id, self.core.header());
        Ok(())
    }

    /// Takes the pins of all containers of a group of this process away. Those that nobody has a
    /// handle on end.
    pub fn release_group(arena: &Arena, group: u64) {
        let me = arena.inner.me.get();
        if me == 0 {
            return;
        }
        root::unpin(arena, me, group);
    }

    /// The container's name.
    pub fn id(&self) -> RootId {
        self.id
    }

    /// The arena that it lies in.
    pub fn arena(&self) -> Arena {
        self.core.arena
    }

    /// A word of the user's own, which starts as 0 and means nothing here.
    pub fn note(&self) -> u32 {
        self.core.note()
    }

    /// Changes the note from `from` to `to`; where it is another one, returns that.
    pub fn change_note(&self, from: u32, to: u32) -> Result<(), u32> {
        self.core.header().note.compare_exchange(from, to, Release, Acquire).map(drop)
    }

    /// The container's version: another after every change.
    pub fn version(&self) -> Result<u64, ContainerError> {
        self.locked(|core, _, _| Ok(core.version()))
    }

    /// This process's participant id, for which this handle is counted (see `Channel::enter`).
    #[inline]
    fn enter(&self) -> Result<u32, OpenError> {
        let me = self.core.arena.me().map_err(OpenError::Create)?;
        if me != self.holder.load(Relaxed) {
            self.adopt(me)?;
        }
        Ok(me)
    }

    /// First use of a handle that came through a fork (see `Channel::adopt`).
    #[cold]
    fn adopt(&self, me: u32) -> Result<(), OpenError> {
        let arena = &self.core.arena;
        let holder = self.holder.load(Relaxed);
        let inherited = arena.inherited(me);
        if !inherited {
            root::acquire(arena, self.id, self.kind)?;
        }
        let adopted = self.holder.compare_exchange(holder, me, Relaxed, Relaxed);
        if adopted.is_err() && !inherited {
            root::release(arena, self.id, me); // another thread was faster
        }
        Ok(())
    }

    /// Runs `operation` under the lock, and gives the blocks back afterwards that it left in
    /// `gone`, whose owner this process is by then. If there is no memory, dead processes are
    /// looked for and it runs once more.
    #[inline]
    fn locked<T>(
        &self,
        mut operation: impl FnMut(&Core, u32, &mut Vec<BlockRef>) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        let mut gone = Vec::new();
        let mut outcome = self.attempt(&mut operation, &mut gone);
        if let Err(ContainerError::Memory(_)) = outcome {
            self.core.arena.reap();
            outcome = self.attempt(&mut operation, &mut gone);
        }
        for reference in gone {
            self.core.arena.release(reference.index);
        }
        outcome
    }

    #[inline]
    fn attempt<T>(
        &self,
        operation: &mut impl FnMut(&Core, u32, &mut Vec<BlockRef>) -> Result<T, ContainerError>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<T, ContainerError> {
        let me = self.enter()?;
        let guard = self.core.lock();
        if self.core.header().state.load(Relaxed) != ALIVE {
            return Err(ContainerError::Gone);
        }
        let outcome = operation(&self.core, me, gone);
        drop(guard);
        outcome
    }

    #[inline]
    fn check(&self, payload: &[u8], blocks: &[Block]) -> Result<(), ContainerError> {
        if payload.len() > MAX_INLINE || blocks.len() > MAX_MESSAGE_BLOCKS {
            return Err(ContainerError::TooLong);
        }
        let arena = self.core.arena;
        assert!(
            blocks.iter().all(|block| block.arena() == arena && block.owner() == arena.inner.me.get()),
            "an element's blocks are the writer's own and lie in the container's arena"
        );
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if crate::crash::crashed() {
            return;
        }
        let arena = &self.core.arena;
        let me = arena.inner.me.get();
        if me == self.holder.load(Relaxed) || arena.inherited(me) {
            root::release(arena, self.id, me);
        }
    }
}

/// Where a container is.
#[derive(Debug, Clone, Copy)]
struct Core {
    arena: Arena,
    header_at: u64,
}

impl Core {
    #[inline]
    fn header(&self) -> &'static ContainerHeader {
        self.arena.inner.segment.at(self.header_at)
    }

    #[inline]
    fn lock(&self) -> Guard<'static> {
        let guard = lock(&self.header().lock);
        if guard.owner_died() {
            self.repair();
        }
        guard
    }

    /// What a dead owner of the lock may have left undone: see the table at the top.
    #[cold]
    fn repair(&self) {
        self.arena.header().reap_wanted.store(1, Relaxed);
        if let Ok(table) = self.table() {
            table.repair();
        }
    }

    #[inline]
    fn table(&self) -> Result<Table, ContainerError> {
        Table::open(&self.arena, self.header().table.load(Acquire))
    }

    #[inline]
    fn version(&self) -> u64 {
        self.header().version.load(Relaxed)
    }

    #[inline]
    fn note(&self) -> u32 {
        self.header().note.load(Acquire)
    }

    fn expect(&self, expected: Option<u64>) -> Result<(), ContainerError> {
        match expected {
            Some(version) if version != self.version() => Err(ContainerError::Changed),
            _ => Ok(()),
        }
    }

    /// To be called before each change.
    #[inline]
    fn changing(&self) {
        let version = &self.header().version;
        store64(version, version.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Puts `next` in the place of `table`, which is made this process's and added to `leaving`.
    fn replace(
        &self,
        me: u32,
        table: &Table,
        block: Block,
        next: &Table,
        leaving: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
        leaving.push(table.own(me)?);
        core::mem::forget(block); // the container's, in a moment; ours until then in any case
        store64(&self.header().table, next.word(), Release); // commits
        Ok(())
    }
}

fn core_of(arena: &Arena, descriptor: &Descriptor) -> Option<Core> {
    let (header_at, size) = arena.extent(descriptor)?;
    (size >= BODY_AT).then_some(Core { arena: *arena, header_at })
}

/// The header of a root that is a container.
pub(crate) fn header_of(arena: &Arena, descriptor: &Descriptor) -> Option<&'static ContainerHeader> {
    if !matches!(descriptor.kind.load(Acquire), kind::LIST | kind::DICT) {
        return None;
    }
    core_of(arena, descriptor).map(|core| core.header())
}

/// Whether the handles of `participant` on a root include one for a pin.
pub(crate) fn is_pinned_by(arena: &Arena, descriptor: &Descriptor, participant: u32) -> bool {
    header_of(arena, descriptor)
        .is_some_and(|header| header.pinned.load(Relaxed) != 0 && header.patron.load(Relaxed) == participant)
}

/// Collects what a container keeps alive: its table and the blocks of its elements.
pub(crate) fn survey(arena: &Arena, descriptor: &Descriptor, reachable: &mut Reachable) {
    let Some(core) = core_of(arena, descriptor) else { return };
    let _guard = core.lock();
    let Ok(table) = core.table() else { return };
    reachable.insert(table.index());
    for content in table.contents_with_blocks() {
        for (reference, _) in table.blocks(&content).unwrap_or_default() {
            reachable.insert(reference.index);
        }
    }
}

/// Gives back a container's table and the blocks of its elements. Repeatable at every step: until
/// the commit everything is found again; after it, it is this process's and nobody else's.
pub(crate) fn empty_for_destruction(arena: &Arena, descriptor: &Descriptor, me: u32) {
    let Some(core) = core_of(arena, descriptor) else { return };
    let guard = core.lock();
    let mut leaving = Vec::new();
    if let Ok(table) = core.table() {
        for content in table.contents_with_blocks() {
            let _ = table.own_blocks(me, &content, &mut leaving);
        }
        leaving.extend(table.own(me));
        store64(&core.header().table, 0, Release); // commits
    }
    core.header().state.store(0, Relaxed);
    drop(guard);
    for reference in leaving {
        arena.release(reference.index);
    }
}

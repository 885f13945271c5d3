//! Roots: channels, blobs, containers and locks, which may keep other blocks alive and are shared by
//! several processes.
//!
//! ```text
//!  root block
//!  +0      what the kind needs (ChannelHeader, ..., SyncHeader), at most 1 KiB
//!  +1024   handles   [u16; 1024], per participant slot: how many handles that process has
//!  +3072   what the kind needs (claims; references and bytes)
//! ```
//!
//! A root lives while any participant has a handle. The counts are kept per participant, so that
//! a dead process's handles can be taken back. Birth commits with the descriptor's kind word;
//! death happens under the roots lock, in steps that whoever reaps can repeat.

use crate::arena::{Arena, Block};
use crate::container::ContainerHeader;
use crate::crash::{point, store};
use crate::error::{CreateError, OpenError};
use crate::layout::{Descriptor, MAX_PARTICIPANTS, SharedRepr, kind, owner};
use crate::participant::{Reachable, is_root};
use crate::primitive::AtomicU16;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed};
use crate::{blob, channel, container, sync};

/// Where the handle counts start in a root block.
pub(crate) const HANDLES_AT: u64 = 1024;
/// Where a root's own variable part starts.
pub(crate) const BODY_AT: u64 = HANDLES_AT + size_of::<Handles>() as u64;

#[repr(C)]
pub(crate) struct Handles {
    counts: [AtomicU16; MAX_PARTICIPANTS],
}

// SAFETY: atomics only.
unsafe impl SharedRepr for Handles {}

const _: () = assert!(BODY_AT == 3072);

impl Handles {
    fn of(&self, participant: u32) -> &AtomicU16 {
        &self.counts[(participant & 0xffff).wrapping_sub(1) as usize % MAX_PARTICIPANTS]
    }

    fn any(&self) -> bool {
        self.counts.iter().any(|count| count.load(Acquire) != 0)
    }
}

/// The name of a root: index and generation of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl RootId {
    /// Both numbers in one word.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub fn from_bits(bits: u64) -> RootId {
        RootId { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

fn handles(arena: &Arena, descriptor: &Descriptor) -> Option<&'static Handles> {
    let (offset, size) = arena.extent(descriptor)?;
    (size >= BODY_AT).then(|| arena.inner.segment.at(offset + HANDLES_AT))
}

/// Gives the maker of a root its first handle, and makes the block a root.
pub(crate) fn commit(arena: &Arena, block: Block, kind_word: u32) -> RootId {
    let descriptor = arena.descriptor(block.index()).expect("a block of ours");
    let counts = handles(arena, descriptor).expect("a root block is large enough");
    for count in &counts.counts {
        count.store(0, Relaxed);
    }
    counts.of(block.owner()).store(1, Relaxed);
    let id = RootId { index: block.index(), generation: block.reference().generation };
    store(&descriptor.kind, kind_word, crate::primitive::Ordering::Release); // commits
    core::mem::forget(block); // from now on the handles decide
    id
}

/// One more handle of this process on a root that is known to live (another handle keeps it so) or
/// that may be gone.
pub(crate) fn acquire(arena: &Arena, id: RootId, wanted: u32) -> Result<(), OpenError> {
    let me = arena.me().map_err(OpenError::Create)?;
    let guard = arena.lock_roots();
    let descriptor = arena.descriptor(id.index).ok_or(OpenError::Gone)?;
    if descriptor.generation.load(Acquire) != id.generation || descriptor.kind.load(Acquire) != wanted {
        return Err(OpenError::Gone);
    }
    let counts = handles(arena, descriptor).ok_or(OpenError::Gone)?;
    if !counts.any() {
        return Err(OpenError::Gone);
    }
    let raised = counts.of(me).fetch_update(AcqRel, Relaxed, |count| count.checked_add(1));
    drop(guard);
    raised.map(drop).map_err(|_| OpenError::Create(CreateError::System(libc::EMFILE)))
}

/// One handle of `participant` less; the last handle of all ends the root.
pub(crate) fn release(arena: &Arena, id: RootId, participant: u32) {
    let guard = arena.lock_roots();
    let alive = |descriptor: &&Descriptor| {
        descriptor.generation.load(Acquire) == id.generation && is_root(descriptor.kind.load(Acquire))
    };
    let Some(descriptor) = arena.descriptor(id.index).filter(alive) else { return };
    let Some(counts) = handles(arena, descriptor) else { return };
    // A lender may have died, and its slot (with handles on this very root) be another's by now.
    if !arena.is_current(participant) {
        return;
    }
    // A child of a fork that we were not told of has no handles of its own to give back.
    let lower = |count: u16| count.checked_sub(1);
    if counts.of(participant).fetch_update(AcqRel, Relaxed, lower).is_err() || counts.any() {
        return;
    }
    destroy(arena, id.index, descriptor);
    drop(guard);
}

/// Ends a root without handles. The roots lock is held. Every step can be repeated by the next
/// who reaps, should this process die here.
fn destroy(arena: &Arena, index: u32, descriptor: &Descriptor) {
    let me = arena.inner.me.get();
    match descriptor.kind.load(Relaxed) {
        kind::CHANNEL => channel::empty_for_destruction(arena, descriptor, me),
        kind::BLOB => blob::empty_for_destruction(arena, descriptor, me),
        kind::LIST | kind::DICT => container::empty_for_destruction(arena, descriptor, me),
        kind::SYNC => {} // keeps nothing alive
        _ => return,
    }
    store(&descriptor.owner, me, Relaxed);
    store(&descriptor.kind, kind::DATA, Relaxed); // not a root any more
    arena.release(index);
}

fn roots(arena: &Arena) -> impl Iterator<Item = (u32, &'static Descriptor)> {
    let arena = *arena;
    (0..arena.header().descriptors.load(Acquire))
        .filter_map(move |index| Some((index, arena.descriptor(index)?)))
        .filter(|(_, descriptor)| {
            is_root(descriptor.kind.load(Acquire)) && descriptor.owner.load(Relaxed) != owner::FREE
        })
}

/// The roots of one kind. The roots lock is held.
pub(crate) fn of_kind(arena: &Arena, wanted: u32) -> impl Iterator<Item = &'static Descriptor> {
    roots(arena).map(|(_, descriptor)| descriptor).filter(move |descriptor| descriptor.kind.load(Acquire) == wanted)
}

/// Takes the handles of the dead back, ends roots that nobody uses any more, and collects the
/// blocks that the others keep alive. The roots lock is held.
pub(crate) fn survey(arena: &Arena, dead: &[u32], reachable: &mut Reachable) {
    for (index, descriptor) in roots(arena) {
        let Some(counts) = handles(arena, descriptor) else { continue };
        for &participant in dead {
            counts.of(participant).store(0, Relaxed);
        }
        // A process that has no id yet (it reaps because there is none left) could not own what it
        // takes apart; it leaves that to the next.
        if counts.any() || arena.inner.me.get() == 0 {
            reachable.insert(index);
            match descriptor.kind.load(Relaxed) {
                kind::CHANNEL => channel::survey(arena, descriptor, reachable),
                kind::LIST | kind::DICT => container::survey(arena, descriptor, reachable),
                kind::SYNC => sync::survey(arena, descriptor, dead),
                _ => blob::survey(arena, descriptor, reachable),
            }
        } else {
            destroy(arena, index, descriptor);
        }
    }
}

/// Gives `child` as many handles as `parent` has. The roots lock is held.
pub(crate) fn inherit_handles(arena: &Arena, parent: u32, child: u32) {
    for (_, descriptor) in roots(arena) {
        if let Some(counts) = handles(arena, descriptor) {
            let mut inherited = counts.of(parent).load(Relaxed);
            if container::is_pinned_by(arena, descriptor, parent) {
                inherited = inherited.saturating_sub(1); // the pin stays the parent's
            }
            counts.of(child).store(inherited, Relaxed);
        }
    }
}

/// A root handed to a child that is being started: the sender keeps one handle more, which the
/// receiver takes over.
pub(crate) fn lend(arena: &Arena, id: RootId, wanted: u32) -> Result<u32, OpenError> {
    acquire(arena, id, wanted)?;
    Ok(arena.inner.me.get())
}

/// Takes back what was lent to children that died before they took it over. To be called by the holder of this process's
/// only handle, when no child can be on its way any more.
pub(crate) fn end_loans(arena: &Arena, id: RootId) {
    let guard = arena.lock_roots();
    let alive = |descriptor: &&Descriptor| {
        descriptor.generation.load(Acquire) == id.generation && is_root(descriptor.kind.load(Acquire))
    };
    if let Some(counts) = arena.descriptor(id.index).filter(alive).and_then(|descriptor| handles(arena, descriptor)) {
        // Not to zero, which would end the root: that is for who lets go of the handle.
        let _ = counts.of(arena.inner.me.get()).fetch_update(AcqRel, Relaxed, |count| (count > 1).then_some(1));
    }
    drop(guard);
}

/// Gives the patron of a container one handle for its pin, unless it has it already or is gone.
pub(crate) fn pin(arena: &Arena, id: RootId, header: &ContainerHeader) {
    let guard = arena.lock_roots();
    let patron = header.patron.load(Relaxed);
    if header.pinned.load(Relaxed) == 0 && arena.is_current(patron) {
        let counts = arena.descriptor(id.index).and_then(|descriptor| handles(arena, descriptor));
        let raise = |count: u16| count.checked_add(1);
        // The count first: a pin without a count would later take somebody's handle away.
        if counts.is_some_and(|counts| counts.of(patron).fetch_update(AcqRel, Relaxed, raise).is_ok()) {
            point();
            store(&header.pinned, 1, Relaxed);
        }
    }
    drop(guard);
}

/// Takes the pins away that `patron` (this process) has on the containers of one group.
pub(crate) fn unpin(arena: &Arena, patron: u32, group: u64) {
    let guard = arena.lock_roots();
    let mut unpinned = Vec::new();
    for (index, descriptor) in roots(arena) {
        let Some(header) = container::header_of(arena, descriptor) else { continue };
        if container::is_pinned_by(arena, descriptor, patron) && header.group.load(Relaxed) == group {
            store(&header.pinned, 0, Relaxed);
            unpinned.push(RootId { index, generation: descriptor.generation.load(Relaxed) });
        }
    }
    drop(guard);
    for id in unpinned {
        release(arena, id, patron);
    }
}

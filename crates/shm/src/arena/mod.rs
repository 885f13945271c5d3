//! The arena: blocks of shared memory that are recycled warm. Protocol and kill table are in
//! `README.md` beside this file, the layout in [`crate::layout`].

pub(crate) mod recover;
pub mod size_class;

use crate::crash::{store, store64};
use crate::error::{AllocError, AttachError, CreateError};
use crate::layout::{
    COUNTERS, DATA_AT, DESCRIPTOR_STEP, DESCRIPTORS_AT, Descriptor, Header, MAGIC, MAX_BLOCKS, MAX_PARTICIPANTS,
    SLOTS_AT, Slot, VERSION, backing, kind, owner,
};
use crate::lock::{Guard, lock};
use crate::primitive::{AtomicPtr, AtomicU32, Ordering};
use crate::segment::Segment;
use crate::sys::fork::{WipedSet, WipedWord};
use crate::sys::robust::RobustMutex;
use crate::sys::{memfd, process};
use crate::wait::{EventWord, KernelFutex, Sleep};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use size_class::{SLAB, SizeClass};
use std::ptr::NonNull;
use std::time::Duration;

use Ordering::{Acquire, Relaxed, Release};

/// How large a new arena may grow.
#[derive(Debug, Clone, Copy)]
pub struct ArenaConfig {
    /// Most bytes of memory that blocks may hold; see [`crate::default_limit`].
    pub limit: u64,
    /// Bytes of address space to reserve; 0 for sixteen times the limit and at least 64 GiB.
    pub reserve: u64,
}

impl Default for ArenaConfig {
    fn default() -> ArenaConfig {
        ArenaConfig { limit: crate::default_limit(), reserve: 0 }
    }
}

/// Things that every participant counts; summed over the living and the dead by
/// [`Arena::counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Messages sent. Counted by the channels, not by [`Arena::count`].
    Messages = 0,
    /// Bytes copied into shared memory.
    BytesCopied = 1,
    /// Bytes handed out as views, without a copy.
    BytesViewed = 2,
    /// Times a waiter went to sleep.
    Sleeps = 3,
    /// Times a sleeper was woken.
    Wakes = 4,
    /// Tasks run by pool workers.
    Tasks = 5,
    /// Blocks that needed fresh pages.
    FreshBlocks = 6,
    /// Processes that registered.
    Processes = 7,
    /// Objects published for many readers.
    Published = 8,
    /// Copy-on-write fetches of published objects.
    Fetched = 9,
}

pub(crate) struct ArenaInner {
    pub(crate) segment: Segment,
    /// This process's participant id; zero in a forked child until it has its own.
    pub(crate) me: WipedWord,
    /// The participant id that this process got through an announced fork, if it did: handles that
    /// came with that fork are counted for it.
    pub(crate) inherited: AtomicU32,
    /// Blocks whose pages this process has in its page tables. A hint: one that is missing here
    /// costs a system call too many, one that is wrongly here costs page faults.
    populated: Option<WipedSet>,
    identity: (u64, u64),
}

/// A handle on an arena. Arenas stay mapped as long as the process lives, so handles are freely
/// copied.
#[derive(Clone, Copy)]
pub struct Arena {
    pub(crate) inner: &'static ArenaInner,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl PartialEq for Arena {
    fn eq(&self, other: &Arena) -> bool {
        core::ptr::eq(self.inner, other.inner)
    }
}

/// The arenas of this process. Append-only and without a lock, so that a forked child finds it
/// whole whatever the other threads of its parent were doing.
static ARENAS: [AtomicPtr<ArenaInner>; 64] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 64];

/// Figures about an arena at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArenaStatistics {
    /// Most bytes that blocks may hold.
    pub limit: u64,
    /// Bytes that blocks hold, in use or not.
    pub committed: u64,
    /// The most that was ever committed.
    pub peak: u64,
    /// Bytes in blocks that are in use.
    pub in_use: u64,
    /// Bytes in blocks that wait to be used again.
    pub free: u64,
    /// Blocks in use.
    pub blocks_in_use: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Channels that exist.
    pub channels: u64,
    /// Blobs that exist.
    pub blobs: u64,
    /// Locks, semaphores, events and conditions that exist.
    pub locks: u64,
    /// Processes that use the arena.
    pub participants: u64,
    /// Bytes of address space.
    pub reserved: u64,
}

impl Arena {
    /// Makes a new arena and registers this process as its first participant.
    pub fn create(config: ArenaConfig) -> Result<Arena, CreateError> {
        let wanted = match config.reserve {
            0 => config.limit.saturating_mul(16).clamp(64 << 30, 1 << 44),
            bytes => bytes,
        };
        // An address-space limit (RLIMIT_AS) may forbid a generous reservation.
        let mut reserve = (DATA_AT + wanted).next_multiple_of(1 << 20);
        let segment = loop {
            match Segment::create(reserve as usize) {
                Ok(segment) => break segment,
                Err(_) if reserve / 2 > DATA_AT + config.limit.min(1 << 30) => {
                    reserve = (reserve / 2).next_multiple_of(1 << 20);
                }
                Err(errno) => return Err(errno.into()),
            }
        };
        let arena = Arena::format(segment, config.limit)?;
        arena.enlist()?;
        arena.me()?;
        Ok(arena)
    }

    /// An arena in this process's heap, for tests: `reserve` bytes of data, no growth beyond.
    pub fn heap(limit: u64, reserve: u64) -> Result<Arena, CreateError> {
        let arena = Arena::format(Segment::heap((DATA_AT + reserve) as usize), limit)?;
        arena.me()?;
        Ok(arena)
    }

    /// A second participant in this process, as another process would be one: its own mapping, its
    /// own identity. For tests.
    pub fn again(&self) -> Result<Arena, CreateError> {
        let arena = Arena::adopt(self.inner.segment.again()?, self.inner.identity)?;
        arena.me()?;
        Ok(arena)
    }

    /// Plays the death of this participant (one made by [`again`](Self::again)): the shared half
    /// stays as it is, and everybody else finds the process gone. For tests.
    pub fn abandon(&self) {
        let me = self.inner.me.get();
        if me != 0 {
            self.slot(me).pid.store(0, Relaxed);
        }
    }

    fn format(segment: Segment, limit: u64) -> Result<Arena, CreateError> {
        segment.allocate(0, SLOTS_AT + (size_of::<Slot>() * MAX_PARTICIPANTS) as u64)?;
        segment.allocate(DESCRIPTORS_AT, DESCRIPTOR_STEP)?;
        let address = segment.address(0, size_of::<Header>()).cast::<Header>();
        // SAFETY: the segment was created by the caller and is not known to anybody else yet, so
        // nobody uses the memory of these locks.
        unsafe {
            RobustMutex::init(&raw mut (*address.as_ptr()).arena_lock);
            RobustMutex::init(&raw mut (*address.as_ptr()).roots_lock);
            RobustMutex::init(&raw mut (*address.as_ptr()).fresh_lock);
        }
        let header: &Header = segment.at(0);
        header.version.store(VERSION, Relaxed);
        header.reserve.store(segment.len() as u64, Relaxed);
        header.limit.store(limit, Relaxed);
        header.magic.store(MAGIC, Release);
        let identity = match segment.fd() {
            Some(fd) => memfd::identity(fd)?,
            None => (0, 0),
        };
        Arena::adopt(segment, identity)
    }

    fn adopt(segment: Segment, identity: (u64, u64)) -> Result<Arena, CreateError> {
        let (me, inherited) = (WipedWord::new()?, AtomicU32::new(0));
        let populated = WipedSet::new(MAX_BLOCKS);
        let inner = ArenaInner { segment, me, inherited, populated, identity };
        Ok(Arena { inner: Box::leak(Box::new(inner)) })
    }

    /// Uses the arena behind a descriptor that another process handed over. An arena that this
    /// process has mapped already is not mapped again.
    pub fn attach(fd: OwnedFd) -> Result<Arena, AttachError> {
        let not_ours = |_| AttachError::NotAnArena;
        let identity = memfd::identity(fd.as_fd()).map_err(not_ours)?;
        for arena in Arena::all() {
            if arena.inner.identity == identity {
                return Ok(arena);
            }
        }
        let len = memfd::len(fd.as_fd()).map_err(not_ours)?;
        if len < DATA_AT {
            return Err(AttachError::NotAnArena);
        }
        let len = usize::try_from(len).map_err(|_| AttachError::NotAnArena)?;
        let segment = Segment::map(fd, len).map_err(CreateError::from)?;
        let header: &Header = segment.at(0);
        if header.magic.load(Acquire) != MAGIC
            || header.version.load(Relaxed) != VERSION
            || header.reserve.load(Relaxed) != len as u64
        {
            return Err(AttachError::NotAnArena);
        }
        let arena = Arena::adopt(segment, identity)?;
        arena.enlist()?;
        arena.me()?;
        Ok(arena)
    }

    /// The arenas that this process uses.
    pub fn all() -> impl Iterator<Item = Arena> {
        ARENAS.iter().filter_map(|entry| {
            let inner = NonNull::new(entry.load(Acquire))?;
            // SAFETY: entries are leaked boxes, stored once and never freed.
            Some(Arena { inner: unsafe { inner.as_ref() } })
        })
    }

    /// Position in the table of this process's arenas.
    pub(crate) fn index(&self) -> Option<usize> {
        let wanted = core::ptr::from_ref(self.inner).cast_mut();
        ARENAS.iter().position(|entry| entry.load(Acquire) == wanted)
    }

    fn enlist(&self) -> Result<(), CreateError> {
        let inner = core::ptr::from_ref(self.inner).cast_mut();
        for entry in &ARENAS {
            if entry.compare_exchange(core::ptr::null_mut(), inner, Release, Relaxed).is_ok() {
                return Ok(());
            }
        }
        Err(CreateError::TooManyArenas)
    }

    /// The memory file, to be handed to children. Only arenas on the heap have none.
    pub fn fd(&self) -> Option<BorrowedFd<'static>> {
        self.inner.segment.fd()
    }

    /// Device and inode of the memory file: equal in all processes for one arena.
    pub fn identity(&self) -> (u64, u64) {
        self.inner.identity
    }

    #[inline]
    pub(crate) fn header(&self) -> &'static Header {
        self.inner.segment.at(0)
    }

    #[inline]
    pub(crate) fn slot(&self, participant: u32) -> &'static Slot {
        let index = (participant & 0xffff).wrapping_sub(1) as usize % MAX_PARTICIPANTS;
        self.inner.segment.at(SLOTS_AT + (index * size_of::<Slot>()) as u64)
    }

    /// The descriptor of block `index`, if there is one: the index may come from shared memory.
    #[inline]
    pub(crate) fn descriptor(&self, index: u32) -> Option<&'static Descriptor> {
        if index >= self.header().descriptors.load(Acquire).min(MAX_BLOCKS) {
            return None;
        }
        Some(self.descriptor_unchecked(index))
    }

    fn descriptor_unchecked(&self, index: u32) -> &'static Descriptor {
        self.inner.segment.at(DESCRIPTORS_AT + u64::from(index) * size_of::<Descriptor>() as u64)
    }

    /// Where block `index` lies, checked to be within the data area.
    pub(crate) fn extent(&self, descriptor: &Descriptor) -> Option<(u64, u64)> {
        let class = SizeClass::from_index(descriptor.class.load(Relaxed))?;
        let offset = descriptor.offset.load(Relaxed);
        let end = offset.checked_add(class.size())?;
        (offset >= DATA_AT && end <= self.inner.segment.len() as u64).then_some((offset, class.size()))
    }

    /// Takes the arena lock, repairing what a dead owner left.
    pub(crate) fn lock(&self) -> Guard<'static> {
        let guard = lock(&self.header().arena_lock);
        if guard.owner_died() {
            recover::repair_free_lists(self);
            self.header().reap_wanted.store(1, Relaxed);
        }
        guard
    }

    /// A block of at least `len` bytes for this process alone.
    ///
    /// Its memory exists (touching it cannot raise SIGBUS). Contents are whatever was there.
    /// Before the limit is reported as an error, dead processes are looked for and what they held
    /// is taken back.
    pub fn alloc(&self, len: usize) -> Result<Block, AllocError> {
        let me = self.me().map_err(AllocError::Register)?;
        let alloc = || self.alloc_index_fresh(len, me, kind::DATA, false);
        let (index, fresh) = match alloc() {
            Ok(allocated) => allocated,
            Err(AllocError::System(_) | AllocError::Limit { .. }) => {
                self.reap();
                alloc()?
            }
            Err(AllocError::Exhausted { .. }) if self.reap() > 0 => alloc()?,
            Err(error) => return Err(error),
        };
        let mut block = self.block(index, me, len);
        block.fresh = fresh;
        Ok(block)
    }

    /// Says that this process's page tables have lost a block's pages.
    pub(crate) fn forget_populated(&self, index: u32) {
        if let Some(populated) = &self.inner.populated {
            populated.remove(index);
        }
    }

    /// As [`alloc`](Self::alloc), for somebody who is about to fill a large block and can wait.
    ///
    /// Memory that was never used before is some ten times slower to fill than a recycled block:
    /// the kernel has to find and clear its pages. If many processes fill fresh blocks at a time,
    /// each of them takes long, all of them stay in use meanwhile, and no block is ever given back
    /// to be used again. So fresh blocks are filled one at a time: whoever finds no recycled block
    /// waits for its turn, or for a block to be given back, whichever comes first.
    ///
    /// The turn ends when `turn` is dropped, which is to be after the block was filled. With a turn
    /// in hand, and for less than a MiB, there is no waiting; and never for longer than
    /// [`PATIENCE`], nor past a signal: then the block is simply taken.
    pub fn alloc_in_turn(&self, len: usize, turn: &mut Option<Turn>) -> Result<Block, AllocError> {
        if len < LARGE || turn.is_some() {
            return self.alloc(len);
        }
        let me = self.me().map_err(AllocError::Register)?;
        let deadline = process::monotonic_ns() + PATIENCE.as_nanos() as u64;
        let header = self.header();
        loop {
            if let Some(block) = self.alloc_recycled(len, me) {
                return Ok(block);
            }
            *turn = Turn::take(header);
            if turn.is_some() || process::monotonic_ns() > deadline {
                return self.alloc(len);
            }
            let ticket = header.freed.announce();
            if let Some(block) = self.alloc_recycled(len, me) {
                return Ok(block);
            }
            *turn = Turn::take(header);
            if turn.is_some() {
                return self.alloc(len);
            }
            // In short steps: the one whose turn it is may die without telling.
            let step = Duration::from_millis(20);
            if header.freed.sleep(&KernelFutex, ticket, step) == Sleep::Interrupted {
                return self.alloc(len);
            }
        }
    }

    fn alloc_recycled(&self, len: usize, me: u32) -> Option<Block> {
        let class = SizeClass::for_len(len as u64)?;
        let guard = self.lock();
        let index = self.take_recycled(class, me)?;
        drop(guard);
        Some(self.block(index, me, len))
    }

    /// Wraps a block that this process owns.
    pub(crate) fn block(&self, index: u32, me: u32, len: usize) -> Block {
        let descriptor = self.descriptor_unchecked(index);
        let (offset, size) = self.extent(descriptor).expect("a block that was just allocated");
        Block {
            arena: *self,
            index,
            owner: me,
            address: self.inner.segment.address(offset, size as usize),
            len: len.min(size as usize),
            capacity: size as usize,
            fresh: false,
        }
    }

    /// Allocates and returns the index. Never reaps: callers may hold a channel's lock.
    /// `zeroed` blocks read as zeros.
    pub(crate) fn alloc_index(&self, len: usize, me: u32, kind: u32, zeroed: bool) -> Result<u32, AllocError> {
        self.alloc_index_fresh(len, me, kind, zeroed).map(|(index, _)| index)
    }

    /// As [`alloc_index`](Self::alloc_index); also says whether its pages were never used before.
    fn alloc_index_fresh(&self, len: usize, me: u32, kind: u32, zeroed: bool) -> Result<(u32, bool), AllocError> {
        let wanted = len as u64;
        let class = SizeClass::for_len(wanted).ok_or(AllocError::Exhausted { wanted })?;
        let guard = self.lock();
        let (index, fresh) = self.take(class, me)?;
        drop(guard);
        let descriptor = self.descriptor_unchecked(index);
        if fresh {
            self.back(index, descriptor)?;
        }
        if zeroed {
            let (offset, size) = self.extent(descriptor).expect("a block that was just allocated");
            let address = self.inner.segment.address(offset, size as usize);
            // SAFETY: the block is `size` bytes long and owned by this process alone.
            unsafe { address.write_bytes(0, size as usize) };
        }
        store(&descriptor.kind, kind, Relaxed);
        Ok((index, fresh))
    }

    /// Takes a block off a free list or carves a new one; `true` if its pages are still to be had.
    /// The arena lock is held.
    fn take(&self, class: SizeClass, me: u32) -> Result<(u32, bool), AllocError> {
        let header = self.header();
        if let Some(index) = self.take_recycled(class, me) {
            return Ok((index, false));
        }
        self.make_room(class.extent())?;
        let head = &header.free[class.index()];
        if let Some(index) = head.load(Relaxed).checked_sub(1) {
            let descriptor = self.descriptor_unchecked(index);
            descriptor.backing.store(backing::BACKING, Relaxed);
            self.commit_bytes(class.size() as i64);
            self.pop(head, descriptor, me);
            return Ok((index, true));
        }
        self.carve(class, me)
    }

    /// Takes a block that has its pages off a free list. The arena lock is held.
    fn take_recycled(&self, class: SizeClass, me: u32) -> Option<u32> {
        let header = self.header();
        // A warm block that is somewhat too large beats a cold one of the right size.
        let largest = if class.is_small() { class.size() } else { class.size() + class.size() / 4 };
        for candidate in class.index() as u32.. {
            match SizeClass::from_index(candidate) {
                Some(other) if other.size() <= largest => {}
                _ => break,
            }
            let head = &header.free[candidate as usize];
            let Some(index) = head.load(Relaxed).checked_sub(1) else { continue };
            let descriptor = self.descriptor_unchecked(index);
            if descriptor.backing.load(Relaxed) == backing::BACKED {
                self.pop(head, descriptor, me);
                return Some(index);
            }
        }
        None
    }

    /// Unlinks the first block of a free list. Kill table: `arena/README.md`.
    fn pop(&self, head: &AtomicU32, descriptor: &Descriptor, me: u32) {
        store(&descriptor.owner, me, Relaxed);
        store(head, descriptor.next.load(Relaxed), Release); // commits
    }

    /// Links a block into its free list. Kill table: `arena/README.md`. The arena lock is held.
    pub(crate) fn push(&self, index: u32, descriptor: &Descriptor) {
        let class = descriptor.class.load(Relaxed) as usize;
        let Some(head) = self.header().free.get(class) else { return };
        let generation = descriptor.generation.load(Relaxed).wrapping_add(1);
        store(&descriptor.generation, generation, Relaxed);
        store(&descriptor.kind, kind::DATA, Relaxed);
        store(&descriptor.next, head.load(Relaxed), Relaxed);
        store(head, index + 1, Release); // commits
        store(&descriptor.owner, owner::FREE, Relaxed);
    }

    /// Gives a block of this process back.
    pub(crate) fn release(&self, index: u32) {
        let Some(descriptor) = self.descriptor(index) else { return };
        let guard = self.lock();
        self.push(index, descriptor);
        drop(guard);
        // All: what was given back may be too little for the one and enough for the other.
        self.header().freed.notify_all(&KernelFutex);
    }

    fn carve(&self, class: SizeClass, me: u32) -> Result<(u32, bool), AllocError> {
        let header = self.header();
        let first = header.descriptors.load(Relaxed);
        let exhausted = AllocError::Exhausted { wanted: class.size() };
        let frontier = match first {
            0 => DATA_AT,
            _ => {
                let last = self.descriptor_unchecked(first - 1);
                self.extent(last).map(|(offset, size)| offset + size).ok_or(exhausted.clone())?
            }
        };
        let count = (class.extent() / class.size()) as u32;
        if u64::from(first) + u64::from(count) > u64::from(MAX_BLOCKS)
            || frontier + class.extent() > self.inner.segment.len() as u64
        {
            return Err(exhausted);
        }
        let system = |errno: rustix::io::Errno| AllocError::System(errno.raw_os_error());
        let table_end = |count: u32| u64::from(count) * size_of::<Descriptor>() as u64;
        let backed = table_end(first).next_multiple_of(DESCRIPTOR_STEP).max(DESCRIPTOR_STEP);
        let needed = table_end(first + count).next_multiple_of(DESCRIPTOR_STEP);
        if needed > backed {
            let table = &self.inner.segment;
            table.allocate(DESCRIPTORS_AT + backed, needed - backed).map_err(system)?;
        }
        let small = class.is_small();
        if small {
            self.inner.segment.allocate(frontier, SLAB).map_err(system)?;
        }
        for nth in 0..count {
            let descriptor = self.descriptor_unchecked(first + nth);
            descriptor.offset.store(frontier + u64::from(nth) * class.size(), Relaxed);
            descriptor.class.store(class.index() as u32, Relaxed);
            descriptor.kind.store(kind::DATA, Relaxed);
            descriptor.next.store(0, Relaxed);
            let state = if small { backing::BACKED } else { backing::BACKING };
            descriptor.backing.store(state, Relaxed);
            store(&descriptor.owner, me, Relaxed);
        }
        self.commit_bytes(class.extent() as i64);
        store(&header.descriptors, first + count, Release); // commits
        for nth in (1..count).rev() {
            self.push(first + nth, self.descriptor_unchecked(first + nth));
        }
        self.count(Counter::FreshBlocks, 1);
        Ok((first, !small))
    }

    /// Gets the pages of a block that this process has just taken.
    fn back(&self, index: u32, descriptor: &Descriptor) -> Result<(), AllocError> {
        let (offset, size) = self.extent(descriptor).expect("a block that was just allocated");
        let outcome = self.inner.segment.allocate(offset, size);
        self.forget_populated(index);
        match outcome {
            Ok(()) => {
                store(&descriptor.backing, backing::BACKED, Release);
                Ok(())
            }
            Err(errno) => {
                let guard = self.lock();
                let _ = self.inner.segment.punch(offset, size);
                store(&descriptor.backing, backing::COLD, Relaxed);
                self.commit_bytes(-(size as i64));
                self.push(index, descriptor);
                drop(guard);
                Err(AllocError::System(errno.raw_os_error()))
            }
        }
    }

    /// Makes sure that `extent` more bytes stay within the limit, giving free blocks back to the
    /// kernel if need be. The arena lock is held.
    fn make_room(&self, extent: u64) -> Result<(), AllocError> {
        let header = self.header();
        let limit = header.limit.load(Relaxed);
        let fits = || header.committed.load(Relaxed).saturating_add(extent) <= limit;
        if fits() {
            return Ok(());
        }
        for head in header.free.iter().rev() {
            let mut next = head.load(Relaxed);
            // The list cannot be longer than the table, whatever its links say.
            for _ in 0..header.descriptors.load(Relaxed) {
                let Some(index) = next.checked_sub(1) else { break };
                let Some(descriptor) = self.descriptor(index) else { break };
                next = descriptor.next.load(Relaxed);
                self.cool(descriptor);
                if fits() {
                    return Ok(());
                }
            }
        }
        Err(AllocError::Limit { wanted: extent, committed: header.committed.load(Relaxed), limit })
    }

    /// Gives the pages of a free block back to the kernel. The arena lock is held.
    fn cool(&self, descriptor: &Descriptor) {
        let Some((offset, size)) = self.extent(descriptor) else { return };
        let small = SizeClass::from_index(descriptor.class.load(Relaxed)).is_none_or(SizeClass::is_small);
        if small || descriptor.backing.load(Relaxed) != backing::BACKED {
            return;
        }
        store(&descriptor.backing, backing::COLD, Relaxed);
        if self.inner.segment.punch(offset, size).is_ok() {
            self.commit_bytes(-(size as i64));
        } else {
            store(&descriptor.backing, backing::BACKED, Relaxed);
        }
    }

    /// The arena lock is held.
    pub(crate) fn commit_bytes(&self, change: i64) {
        let header = self.header();
        let committed = header.committed.load(Relaxed).saturating_add_signed(change);
        store64(&header.committed, committed, Relaxed);
        if committed > header.peak.load(Relaxed) {
            header.peak.store(committed, Relaxed);
        }
    }

    /// Gives free blocks back to the kernel until at most `keep` bytes of pages are held by blocks.
    /// Returns how many bytes were given back.
    pub fn trim(&self, keep: u64) -> u64 {
        let guard = self.lock();
        let before = self.header().committed.load(Relaxed);
        for index in 0..self.header().descriptors.load(Relaxed) {
            if self.header().committed.load(Relaxed) <= keep {
                break;
            }
            let descriptor = self.descriptor_unchecked(index);
            if descriptor.owner.load(Relaxed) == owner::FREE {
                self.cool(descriptor);
            }
        }
        drop(guard);
        before - self.header().committed.load(Relaxed).min(before)
    }

    /// Most bytes that blocks may hold from now on. Blocks in use stay, even beyond it.
    pub fn set_limit(&self, limit: u64) {
        self.header().limit.store(limit, Relaxed);
        self.header().freed.notify_all(&KernelFutex);
    }

    /// Sleeps until memory may have been given back, or `timeout`, or a signal. `check` is asked
    /// once more after the sleep was announced: if it says true there is no sleep.
    pub fn wait_freed(&self, timeout: Duration, check: impl FnOnce() -> bool) -> Sleep {
        let freed: &EventWord = &self.header().freed;
        let ticket = freed.announce();
        if check() {
            return Sleep::Woken;
        }
        freed.sleep(&KernelFutex, ticket, timeout)
    }

    /// Adds to one of this process's counters.
    #[inline]
    pub fn count(&self, counter: Counter, amount: u64) {
        let me = self.inner.me.get();
        if me != 0 {
            self.slot(me).counters[counter as usize].fetch_add(amount, Relaxed);
        }
    }

    /// A counter's sum over all processes that ever used the arena.
    pub fn counter(&self, counter: Counter) -> u64 {
        let which = counter as usize;
        debug_assert!(which < COUNTERS);
        let living: u64 = (1..=MAX_PARTICIPANTS as u32)
            .map(|slot| self.slot(slot))
            .filter(|slot| slot.state.load(Acquire) != crate::layout::slot_state::FREE)
            .map(|slot| slot.counters[which].load(Relaxed))
            .sum();
        // Messages are counted by their channels, which do so anyway: one atomic operation less for
        // every message.
        let of_channels = match counter {
            Counter::Messages => crate::channel::messages_sent(self),
            _ => 0,
        };
        living + of_channels + self.header().departed[which].load(Relaxed)
    }

    /// Figures about the arena, taken under its lock.
    pub fn statistics(&self) -> ArenaStatistics {
        let header = self.header();
        let guard = self.lock();
        let mut figures = ArenaStatistics {
            limit: header.limit.load(Relaxed),
            committed: header.committed.load(Relaxed),
            peak: header.peak.load(Relaxed),
            reserved: header.reserve.load(Relaxed),
            blocks: u64::from(header.descriptors.load(Relaxed)),
            ..ArenaStatistics::default()
        };
        for index in 0..header.descriptors.load(Relaxed) {
            let descriptor = self.descriptor_unchecked(index);
            let size = self.extent(descriptor).map_or(0, |(_, size)| size);
            if descriptor.owner.load(Relaxed) == owner::FREE {
                if descriptor.backing.load(Relaxed) != backing::COLD {
                    figures.free += size;
                }
                continue;
            }
            figures.in_use += size;
            figures.blocks_in_use += 1;
            match descriptor.kind.load(Relaxed) {
                kind::CHANNEL => figures.channels += 1,
                kind::BLOB => figures.blobs += 1,
                kind::SYNC => figures.locks += 1,
                _ => {}
            }
        }
        drop(guard);
        figures.participants = (1..=MAX_PARTICIPANTS as u32)
            .filter(|&slot| self.slot(slot).state.load(Relaxed) == crate::layout::slot_state::ALIVE)
            .count() as u64;
        figures
    }

    /// Checks what must always hold while no operation is under way; for tests.
    pub fn check_invariants(&self) -> Result<(), String> {
        let header = self.header();
        let _guard = self.lock();
        let count = header.descriptors.load(Relaxed);
        let mut listed = vec![false; count as usize];
        for (class, head) in header.free.iter().enumerate() {
            let mut next = head.load(Relaxed);
            while let Some(index) = next.checked_sub(1) {
                let descriptor = self.descriptor(index).ok_or("a free list leaves the table")?;
                let seen = &mut listed[index as usize];
                if std::mem::replace(seen, true) {
                    return Err(format!("block {index} is on a free list twice"));
                }
                if descriptor.class.load(Relaxed) as usize != class {
                    return Err(format!("block {index} is on the list of another class"));
                }
                if descriptor.owner.load(Relaxed) != owner::FREE {
                    return Err(format!("block {index} is free and owned"));
                }
                next = descriptor.next.load(Relaxed);
            }
        }
        let mut committed = 0;
        let mut frontier = DATA_AT;
        for index in 0..count {
            let descriptor = self.descriptor_unchecked(index);
            let (offset, size) = self.extent(descriptor).ok_or("a block outside the data area")?;
            if offset != frontier {
                return Err(format!("block {index} does not start where the last one ends"));
            }
            frontier += size;
            if descriptor.backing.load(Relaxed) != backing::COLD {
                committed += size;
            }
            if !listed[index as usize] && descriptor.owner.load(Relaxed) == owner::FREE {
                return Err(format!("block {index} is free and on no list"));
            }
        }
        if committed != header.committed.load(Relaxed) {
            return Err(format!("{committed} bytes are committed, the header says {}", header.committed.load(Relaxed)));
        }
        Ok(())
    }
}

/// Blocks of at least so many bytes are filled in turn when they are fresh.
const LARGE: usize = 1 << 20;
/// Blocks of at least so many bytes are entered into the page tables in one go.
const POPULATE_FROM: usize = 64 << 10;
/// Longest wait for one's turn.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The right to fill fresh memory. Bound to the thread that got it; ends when dropped.
#[derive(Debug)]
pub struct Turn {
    guard: Option<Guard<'static>>,
    header: &'static Header,
}

impl Turn {
    fn take(header: &'static Header) -> Option<Turn> {
        let guard = crate::lock::try_lock(&header.fresh_lock)?; // guards nothing that could be torn
        Some(Turn { guard: Some(guard), header })
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Header")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.guard.take());
        if !crate::crash::crashed() {
            self.header.freed.notify(&KernelFutex, 1);
        }
    }
}

/// Where a block lies, as messages say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct BlockRef {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) len: u64,
}

/// A block of shared memory that belongs to this process. Dropping it gives it back.
///
/// In a forked child, the child's copy of a `Block` belongs to the parent: dropping it does
/// nothing.
#[derive(Debug)]
pub struct Block {
    arena: Arena,
    index: u32,
    owner: u32,
    address: NonNull<u8>,
    len: usize,
    capacity: usize,
    /// Nobody has used its pages yet, as far as this handle knows.
    fresh: bool,
}

// SAFETY: a block is plain memory owned by one participant; nothing binds it to a thread.
unsafe impl Send for Block {}
// SAFETY: `&Block` only gives shared reads and addresses.
unsafe impl Sync for Block {}

impl Block {
    /// Bytes that were asked for (or sent).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the block holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the number of bytes in use; at most [`capacity`](Self::capacity).
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity);
        self.len = len;
    }

    /// Address of the first byte: 64-byte aligned, and page-aligned from 4 KiB on.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len <= capacity` bytes of mapped memory, backed by pages, owned by this process
        // alone until the block is dropped or sent (both consume it).
        unsafe { core::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` excludes other views made through this handle.
        unsafe { core::slice::from_raw_parts_mut(self.address.as_ptr(), self.len) }
    }

    /// Enters the block's pages into this process's page tables, if that was not done before: to be
    /// called (without locks, and detached from any interpreter) before a large block is filled or
    /// handed to somebody who is going to read it.
    pub fn populate(&self) {
        let Some(populated) = &self.arena.inner.populated else { return };
        if self.capacity < POPULATE_FROM || self.arena.fd().is_none() || populated.contains(self.index) {
            return;
        }
        // SAFETY: the block's own range of our mapping of the segment.
        unsafe { memfd::populate(self.address, self.capacity, self.fresh) };
        populated.insert(self.index);
    }

    /// Whether [`populate`](Self::populate) has nothing to do.
    pub fn is_populated(&self) -> bool {
        let populated = self.arena.inner.populated.as_ref();
        self.capacity < POPULATE_FROM || populated.is_none_or(|set| set.contains(self.index))
    }

    /// The arena that the block lies in.
    pub fn arena(&self) -> Arena {
        self.arena
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    pub(crate) fn reference(&self) -> BlockRef {
        let descriptor = self.arena.descriptor_unchecked(self.index);
        BlockRef { index: self.index, generation: descriptor.generation.load(Relaxed), len: self.len as u64 }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.arena.inner.me.get() == self.owner && !crate::crash::crashed() {
            self.arena.release(self.index);
        }
    }
}

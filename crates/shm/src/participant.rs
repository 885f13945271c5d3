//! Who uses a segment, who of them is still alive, and taking back what the dead held.
//!
//! A participant id is `generation << 16 | slot + 1`; zero is nobody. A process has one id per
//! arena. A forked child never uses its parent's: the parent reserves a slot for it before the
//! fork, with as many handles on channels and blobs as it holds itself (the child inherits them),
//! and the child confirms it. A child that dies before that, or a fork that fails, leaves a
//! reserved slot that is taken back at once if the parent has told the child's pid
//! ([`note_child`]), two seconds after the fork if the parent is gone, and else after a minute.
//! A child that comes even later finds that it has to get handles of its own (`Channel::adopt`).

use crate::arena::{Arena, Counter};
use crate::error::CreateError;
use crate::layout::{COUNTERS, MAX_PARTICIPANTS, Slot, backing, kind, owner, slot_state};
use crate::lock::{Guard, lock};
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::root;
use crate::sys::process::{self, ProcessId};
use std::cell::Cell;

/// After this long a reserved slot that nobody confirmed counts as a child that was never born.
const STILLBORN_NS: u64 = 60_000_000_000;
/// The same where the parent is gone: it may have died, or ended as daemons do, right after the
/// fork, and its child may be about to confirm.
const ORPHAN_NS: u64 = 2_000_000_000;

thread_local! {
    /// Slots reserved by this thread for the child that it is about to fork, by arena. Kept per
    /// thread: the child continues the thread that forked, and two threads may fork at a time.
    static RESERVED: Cell<[u32; 64]> = const { Cell::new([0; 64]) };
    /// The same after the fork, in the parent, until it knows the child's pid.
    static FORKED: Cell<[u32; 64]> = const { Cell::new([0; 64]) };
}

impl Arena {
    /// This process's participant id, registering it on first use.
    #[inline]
    pub(crate) fn me(&self) -> Result<u32, CreateError> {
        match self.inner.me.get() {
            0 => self.register(),
            me => Ok(me),
        }
    }

    pub(crate) fn lock_roots(&self) -> Guard<'static> {
        // Nothing to repair: slots commit by their state word, roots by their kind word, and what
        // a dead process left half done is finished when it is reaped.
        let guard = lock(&self.header().roots_lock);
        if guard.owner_died() {
            self.header().reap_wanted.store(1, Relaxed);
        }
        guard
    }

    #[cold]
    fn register(&self) -> Result<u32, CreateError> {
        let id = process::current();
        let guard = self.lock_roots();
        let me = self.inner.me.get();
        if me != 0 {
            return Ok(me); // another thread of this process was faster
        }
        let me = match self.free_slot() {
            Some(me) => me,
            None => {
                self.reap_locked(&guard);
                self.free_slot().ok_or(CreateError::TooManyProcesses)?
            }
        };
        self.occupy(me, id);
        drop(guard);
        Ok(me)
    }

    /// A free slot, with its next generation. The roots lock is held.
    fn free_slot(&self) -> Option<u32> {
        let index =
            (1..=MAX_PARTICIPANTS as u32).find(|&index| self.slot(index).state.load(Acquire) == slot_state::FREE)?;
        let slot = self.slot(index);
        // Generation 0xffff with slot 0xffff would read as "held by a channel"; slots end at 1024.
        let generation = slot.generation.load(Relaxed).wrapping_add(1) & 0xffff;
        slot.generation.store(generation, Relaxed);
        for counter in &slot.counters {
            counter.store(0, Relaxed);
        }
        Some(generation << 16 | index)
    }

    fn occupy(&self, me: u32, id: ProcessId) {
        let slot = self.slot(me);
        slot.pid.store(id.pid, Relaxed);
        slot.start_time.store(id.start_time, Relaxed);
        slot.state.store(slot_state::ALIVE, Release); // commits
        self.inner.me.set(me);
        self.count(Counter::Processes, 1);
    }

    /// Whether `participant` is registered and was not reaped. Sure while the roots lock is held.
    pub(crate) fn is_current(&self, participant: u32) -> bool {
        let slot = self.slot(participant);
        participant != 0
            && slot.generation.load(Relaxed) == participant >> 16
            && slot.state.load(Acquire) == slot_state::ALIVE
    }

    /// Whether participant `me` (this process) came to be by an announced fork.
    pub(crate) fn inherited(&self, me: u32) -> bool {
        me != 0 && self.inner.inherited.load(Relaxed) == me
    }

    /// Whether `participant` is dead or was reaped. Asks the system, which takes some ten
    /// microseconds; a wrong "no" becomes right soon.
    pub(crate) fn is_gone(&self, participant: u32) -> bool {
        !self.is_current(participant) || self.is_dead(self.slot(participant))
    }

    /// Whether the participant in a slot is dead and was not reaped yet.
    pub(crate) fn is_slot_dead(&self, index: u32) -> bool {
        self.is_dead(self.slot(index))
    }

    /// Says that somebody was found dead: whoever has time reaps.
    pub(crate) fn want_reaping(&self) {
        self.header().reap_wanted.store(1, Relaxed);
    }

    fn is_dead(&self, slot: &Slot) -> bool {
        match slot.state.load(Acquire) {
            slot_state::DYING => true,
            slot_state::ALIVE => {
                let pid = slot.pid.load(Relaxed);
                let start_time = slot.start_time.load(Relaxed);
                pid == 0 || !process::is_alive(ProcessId { pid, start_time })
            }
            slot_state::RESERVED => {
                let age = process::monotonic_ns().saturating_sub(slot.reserved_at.load(Relaxed));
                let pid = slot.pid.load(Relaxed);
                age > STILLBORN_NS
                    || (age > ORPHAN_NS && !self.is_current(slot.reserved_by.load(Relaxed)))
                    || (pid != 0 && !process::is_alive(ProcessId { pid, start_time: 0 }))
            }
            _ => false,
        }
    }

    /// Looks for participants that died and takes back what they held: their blocks, their handles
    /// on channels and blobs, their slots. Returns how many there were.
    ///
    /// Costs some ten microseconds per living participant; never called while a lock is held.
    pub fn reap(&self) -> usize {
        let guard = self.lock_roots();
        let reaped = self.reap_locked(&guard);
        drop(guard);
        if reaped > 0 {
            self.header().freed.notify_all(&crate::wait::KernelFutex);
        }
        reaped
    }

    /// Reaps if somebody has noticed a death since the last time.
    pub fn reap_if_wanted(&self) -> usize {
        if self.header().reap_wanted.load(Relaxed) == 0 { 0 } else { self.reap() }
    }

    fn reap_locked(&self, _roots: &Guard<'_>) -> usize {
        self.header().reap_wanted.store(0, Relaxed);
        let dead: Vec<u32> = (1..=MAX_PARTICIPANTS as u32)
            .filter(|&index| self.is_dead(self.slot(index)))
            .map(|index| self.slot(index).generation.load(Relaxed) << 16 | index)
            .collect();
        if dead.is_empty() {
            return 0;
        }
        for &id in &dead {
            self.slot(id).state.store(slot_state::DYING, Release);
        }
        // Blocks that a channel or blob still refers to outlive their maker. Everything else that
        // is owned by the dead can be reached by nobody: what a living process takes out of a
        // channel gets its new owner before it leaves the ring, and the survey below looks at
        // each ring under its locks.
        let mut reachable = Reachable::default();
        root::survey(self, &dead, &mut reachable);
        let guard = self.lock();
        for index in 0..self.header().descriptors.load(Relaxed) {
            let Some(descriptor) = self.descriptor(index) else { break };
            let holder = descriptor.owner.load(Relaxed);
            if !dead.contains(&holder) {
                continue;
            }
            if reachable.contains(index) {
                // A consumer may be taking it at this moment; then it is the consumer's.
                let _ = descriptor.owner.compare_exchange(holder, owner::HELD, Relaxed, Relaxed);
                continue;
            }
            if descriptor.backing.load(Relaxed) == backing::BACKING {
                // Died while getting its pages; some may exist.
                if let Some((offset, size)) = self.extent(descriptor) {
                    let _ = self.inner.segment.punch(offset, size);
                    descriptor.backing.store(backing::COLD, Relaxed);
                    self.commit_bytes(-(size as i64));
                }
            }
            self.push(index, descriptor);
        }
        drop(guard);
        for &id in &dead {
            let slot = self.slot(id);
            for which in 0..COUNTERS {
                let amount = slot.counters[which].swap(0, Relaxed);
                self.header().departed[which].fetch_add(amount, Relaxed);
            }
            slot.state.store(slot_state::FREE, Release); // commits
        }
        dead.len()
    }

    /// Pids of the processes that are registered, whether they still live or not.
    pub fn participants(&self) -> Vec<u32> {
        (1..=MAX_PARTICIPANTS as u32)
            .map(|index| self.slot(index))
            .filter(|slot| slot.state.load(Acquire) == slot_state::ALIVE)
            .map(|slot| slot.pid.load(Relaxed))
            .collect()
    }

    fn reserve_for_child(&self) -> u32 {
        let parent = self.inner.me.get();
        if parent == 0 {
            return 0; // this process has nothing here that a child could inherit
        }
        let guard = self.lock_roots();
        let free = self.free_slot().or_else(|| {
            self.reap_locked(&guard);
            self.free_slot()
        });
        let Some(child) = free else { return 0 };
        let slot = self.slot(child);
        slot.pid.store(0, Relaxed);
        slot.reserved_by.store(parent, Relaxed);
        slot.reserved_at.store(process::monotonic_ns(), Relaxed);
        slot.state.store(slot_state::RESERVED, Release); // commits
        root::inherit_handles(self, parent, child);
        child
    }

    fn confirm_in_child(&self, reserved: u32) {
        if reserved == 0 {
            return;
        }
        let id = process::current();
        let guard = self.lock_roots();
        let slot = self.slot(reserved);
        if slot.state.load(Acquire) == slot_state::RESERVED && slot.generation.load(Relaxed) == reserved >> 16 {
            self.inner.inherited.store(reserved, Relaxed);
            self.occupy(reserved, id);
        }
        drop(guard);
    }

    fn note_child(&self, reserved: u32, pid: u32) {
        if reserved == 0 {
            return;
        }
        let guard = self.lock_roots();
        let slot = self.slot(reserved);
        if slot.state.load(Acquire) == slot_state::RESERVED && slot.generation.load(Relaxed) == reserved >> 16 {
            slot.pid.store(pid, Relaxed);
        }
        drop(guard);
    }
}

/// To be called in the parent before a fork that continues as a Python process.
pub fn before_fork() {
    crate::view::before_fork(); // first: it makes blobs, on which the child gets handles below
    let mut reserved = [0; 64];
    for arena in Arena::all() {
        if let Some(index) = arena.index() {
            reserved[index] = arena.reserve_for_child();
        }
    }
    RESERVED.set(reserved);
}

/// To be called in the parent after the fork.
pub fn after_fork_in_parent() {
    FORKED.set(RESERVED.replace([0; 64]));
}

/// To be called in the parent, on the thread that forked, as soon as it knows the child's pid.
/// Not necessary; but a child that dies before it could speak up is then noticed at once, and not
/// after a minute.
pub fn note_child(pid: u32) {
    let reserved = FORKED.replace([0; 64]);
    for arena in Arena::all() {
        if let Some(index) = arena.index() {
            arena.note_child(reserved[index], pid);
        }
    }
}

/// To be called in the child after the fork.
pub fn after_fork_in_child() {
    let reserved = RESERVED.replace([0; 64]);
    for arena in Arena::all() {
        if let Some(index) = arena.index() {
            arena.confirm_in_child(reserved[index]);
        }
    }
}

/// Set of block indices.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    bits: Vec<u64>,
}

impl Reachable {
    pub(crate) fn insert(&mut self, index: u32) {
        let word = index as usize / 64;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (index % 64);
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.bits.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// Whether a descriptor's kind is one that keeps other blocks alive.
pub(crate) fn is_root(kind_word: u32) -> bool {
    matches!(kind_word, kind::CHANNEL | kind::BLOB | kind::LIST | kind::DICT | kind::SYNC)
}

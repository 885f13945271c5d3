//! The side of the recorder: makes the memory file, and empties the slots while they are written.
//!
//! Everything in a slot was written by another process, which may be at any instruction, or dead: whatever the words say,
//! reading them ends and gives records.

use super::layout::{FILE, Header, MAGIC, OPEN_SPANS, OWNERS_AT, SLOT, SLOTS, SLOTS_AT, VERSION};
use super::memory::SlotMemory;
use super::proc::Account;
use super::ring::Words;
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::Segment;
use crate::sys::memfd;
use rustix::fd::{AsRawFd, OwnedFd};
use std::io;
use std::os::fd::AsFd;

/// The memory file of a run.
pub struct Reader {
    segment: Segment,
    file: OwnedFd,
}

/// One process's slot, as it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId {
    index: usize,
    owner: u64,
}

impl SlotId {
    /// Number of the process that claimed it.
    pub fn pid(self) -> u32 {
        self.owner as u32
    }
}

/// What a process says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// Its number; 0: it has claimed the slot and written nothing yet.
    pub pid: u32,
    /// Who asked for it.
    pub parent: u32,
    /// Monotonic nanosecond at which it took the slot.
    pub begun: u64,
    /// Clock ticks after boot at which it was born.
    pub started: u64,
    /// A string's number: how it was started.
    pub method: u32,
    /// A string's number: its name.
    pub name: u32,
    /// Records that found no room.
    pub dropped: u64,
    /// Faults of the hooks.
    pub errors: u64,
    /// Records that found room.
    pub written: u64,
    /// Locks taken without waiting.
    pub free_locks: u64,
    /// Its last account, if it has written one.
    pub last: Option<Account>,
    /// Its exit code, if it has written one.
    pub exit_code: Option<i32>,
}

impl Reader {
    /// A new memory file.
    pub fn create() -> io::Result<Reader> {
        let file = memfd::create(FILE as u64)?;
        let segment = Segment::map(file.try_clone()?, FILE)?;
        let header = segment.at::<Header>(0);
        header.recorder.store(u64::from(std::process::id()), Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(Reader { segment, file })
    }

    /// The path by which other processes of the same user open it, for as long as this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn owner(&self, index: usize) -> &AtomicU64 {
        self.segment.at::<AtomicU64>((OWNERS_AT + index * 8) as u64)
    }

    fn memory(&self, index: usize) -> SlotMemory {
        let base = self.segment.address((SLOTS_AT + index * SLOT) as u64, SLOT);
        // SAFETY: whole pages of a segment, which stays mapped for as long as it lives; slots lie at multiples of pages.
        unsafe { SlotMemory::new(base) }
    }

    /// The slots that are taken at the moment.
    pub fn slots(&self) -> Vec<SlotId> {
        (0..SLOTS)
            .filter_map(|index| {
                let owner = self.owner(index).load(Ordering::Acquire);
                (owner != 0).then_some(SlotId { index, owner })
            })
            .collect()
    }

    /// What the process says of itself.
    pub fn state(&self, slot: SlotId) -> SlotState {
        let memory = self.memory(slot.index);
        let words = memory.slot();
        let pid = words.pid.load(Ordering::Acquire);
        let ended = words.ended.load(Ordering::Acquire);
        let last = core::array::from_fn(|at| words.last[at].load(Ordering::Relaxed));
        SlotState {
            pid,
            parent: words.parent.load(Ordering::Relaxed),
            begun: words.begun.load(Ordering::Relaxed),
            started: words.started.load(Ordering::Relaxed),
            method: words.method.load(Ordering::Relaxed),
            name: words.name.load(Ordering::Relaxed),
            dropped: words.dropped.load(Ordering::Relaxed),
            errors: words.errors.load(Ordering::Relaxed),
            written: words.written.load(Ordering::Relaxed),
            free_locks: words.locks_free.load(Ordering::Relaxed),
            last: (ended >= 1).then(|| Account::from_words(last)),
            exit_code: (ended >= 2).then(|| words.exit_code.load(Ordering::Relaxed) as i32),
        }
    }

    /// What the hooks of the process have cost: kind of records (0: none), calls, nanoseconds without the calls themselves.
    pub fn hooks(&self, slot: SlotId) -> Vec<(u16, u64, u64)> {
        let memory = self.memory(slot.index);
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let of = |(kind, [calls, time]): (usize, &[AtomicU64; 2])| (kind as u16, load(calls), load(time));
        memory.slot().hooks.iter().enumerate().map(of).filter(|(_, calls, _)| *calls > 0).collect()
    }

    /// What a hooked call costs beside what its hook can measure, in nanoseconds, as the run's first process found.
    pub fn per_call(&self) -> u64 {
        self.segment.at::<Header>(0).per_call.load(Ordering::Relaxed)
    }

    /// Takes the records that are there. `dead`: nobody writes any more.
    pub fn drain(&self, slot: SlotId, dead: bool, take: impl FnMut(Words)) {
        self.memory(slot.index).ring().drain(dead, take);
    }

    /// Whether more than half of the ring is full.
    pub fn is_filling(&self, slot: SlotId) -> bool {
        let memory = self.memory(slot.index);
        let ring = memory.ring();
        let used = ring.head.load(Ordering::Relaxed).wrapping_sub(ring.tail.load(Ordering::Relaxed));
        used > ring.cells.len() as u64 / 2
    }

    /// The strings from byte `from` on, and where to go on.
    pub fn strings(&self, slot: SlotId, from: usize) -> (Vec<String>, usize) {
        self.memory(slot.index).strings(from)
    }

    /// What the process's threads are in, the outermost span first; as records without an end.
    pub fn open_spans(&self, slot: SlotId) -> Vec<Words> {
        let memory = self.memory(slot.index);
        let mut found = Vec::new();
        for thread in memory.open_threads() {
            if thread.tid.load(Ordering::Acquire) == 0 {
                continue;
            }
            let depth = (thread.depth.load(Ordering::Acquire) as usize).min(OPEN_SPANS);
            for cell in &thread.spans[..depth] {
                found.push(core::array::from_fn(|at| cell.0[at].load(Ordering::Relaxed)));
            }
        }
        found
    }

    /// Gives the slot of a dead process to the next one.
    pub fn free(&self, slot: SlotId) {
        // All zero again before somebody claims it.
        let (offset, len) = ((SLOTS_AT + slot.index * SLOT) as u64, SLOT as u64);
        if memfd::punch(self.file.as_fd(), offset, len).is_ok() {
            let _ = self.owner(slot.index).compare_exchange(slot.owner, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Tells the processes that nobody reads any more.
    pub fn stop(&self) {
        self.segment.at::<Header>(0).stopped.store(1, Ordering::Relaxed);
    }
}

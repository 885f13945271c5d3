//! The side of the processes that are recorded.
//!
//! A process opens the memory file by the path `/proc/RECORDER/fd/N`, maps its slot and closes the file again: the program
//! finds no descriptor that it does not know. Writing takes no lock and no system call.

use super::layout::{
    FILE, Header, MAGIC, OPEN_SPANS, OPEN_THREADS, OWNERS_AT, OpenThread, SLOT, SLOTS, SLOTS_AT, VERSION,
};
use super::memory::SlotMemory;
use super::ring::Words;
use crate::primitive::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sys::fork::WipedWord;
use crate::sys::{memfd, process};
use core::cell::Cell as Local;
use core::ptr::NonNull;
use rustix::fd::{AsFd, OwnedFd};
use std::ffi::{CStr, CString};
use std::io;

/// What a process says of itself when it begins to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity<'a> {
    /// Process number of who asked for this process; 0: the run's first.
    pub parent: u32,
    /// How it was started.
    pub method: &'a str,
    /// Its name, if known yet.
    pub name: &'a str,
}

/// This process's slot.
pub struct Writer {
    memory: SlotMemory,
    shared: NonNull<u8>,
    path: CString,
    pid: u32,
    /// Held while a string is added.
    strings: AtomicU32,
}

// SAFETY: all access to the mapping is atomic; strings are added under the flag.
unsafe impl Send for Writer {}
// SAFETY: as for Send.
unsafe impl Sync for Writer {}

/// The one in force; null: nothing is recorded.
static CURRENT: AtomicPtr<Writer> = AtomicPtr::new(core::ptr::null_mut());
/// Says whether `CURRENT` is this process's, or still its parent's. Made once, never freed.
static MINE: AtomicPtr<WipedWord> = AtomicPtr::new(core::ptr::null_mut());

/// The writer of this process, while it is recorded.
#[inline]
pub fn writer() -> Option<&'static Writer> {
    let writer = CURRENT.load(Ordering::Acquire);
    if writer.is_null() {
        return None;
    }
    let mine = MINE.load(Ordering::Relaxed);
    // SAFETY: set before CURRENT ever was, and never freed.
    if unsafe { (*mine).get() } == 0 {
        return None; // a forked child that has not taken a slot of its own
    }
    // SAFETY: made by `Box::into_raw` in `start` and never freed.
    Some(unsafe { &*writer })
}

fn open(path: &CStr) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // The number of a descriptor can have been given to something else by now.
    if memfd::len(file.as_fd())? != FILE as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a recording's memory file"));
    }
    Ok(file)
}

fn map(file: &OwnedFd, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
    Ok(memfd::map_part(file.as_fd(), offset as u64, len)?)
}

fn owners(shared: NonNull<u8>) -> &'static [AtomicU64] {
    // SAFETY: the first SLOTS_AT bytes of the file are mapped from `shared` on, for ever; atomics.
    unsafe { core::slice::from_raw_parts(shared.byte_add(OWNERS_AT).cast().as_ptr(), SLOTS) }
}

fn header(shared: NonNull<u8>) -> &'static Header {
    // SAFETY: as in `owners`; the structure is smaller than OWNERS_AT.
    unsafe { shared.cast().as_ref() }
}

/// Begins to write: this process, from now on, into the memory file at `path`. Does nothing if it does already.
///
/// Errors: the file cannot be had (the recorder has ended, or belongs to another user), or all slots are taken.
pub fn start(path: &CStr, identity: Identity<'_>) -> io::Result<()> {
    if writer().is_some() {
        return Ok(());
    }
    if MINE.load(Ordering::Relaxed).is_null() {
        MINE.store(Box::into_raw(Box::new(WipedWord::new()?)), Ordering::Relaxed);
    }
    let file = open(path)?;
    let shared = map(&file, 0, SLOTS_AT)?;
    if header(shared).magic.load(Ordering::Relaxed) != MAGIC
        || header(shared).version.load(Ordering::Relaxed) != VERSION
    {
        // SAFETY: mapped just above, and nothing refers to it.
        unsafe { memfd::unmap(shared, SLOTS_AT) };
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a recording of another version of breakeven"));
    }
    take_slot(&file, path, shared, identity, None)
}

/// Claims a slot, and makes it the current one.
fn take_slot(
    file: &OwnedFd,
    path: &CStr,
    shared: NonNull<u8>,
    identity: Identity<'_>,
    inherit: Option<SlotMemory>,
) -> io::Result<()> {
    let me = process::current();
    let owners = owners(shared);
    let claims = header(shared).claims.fetch_add(1, Ordering::Relaxed);
    let mine = u64::from(me.pid) | (claims & 0xffff_ffff) << 32;
    let first = me.pid as usize;
    let index = (first..first + SLOTS)
        .map(|index| index % SLOTS)
        .find(|&index| owners[index].compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok())
        .ok_or_else(|| io::Error::other("more processes than a recording has room for"))?;
    let base = match map(file, SLOTS_AT + index * SLOT, SLOT) {
        Ok(base) => base,
        Err(error) => {
            owners[index].store(0, Ordering::Release);
            return Err(error);
        }
    };
    // SAFETY: just mapped; unmapped only by `stop` and in a forked child, when nothing uses it any more.
    let memory = unsafe { SlotMemory::new(base) };
    if let Some(inherit) = inherit {
        memory.inherit_strings(inherit);
    }
    let slot = memory.slot();
    slot.parent.store(identity.parent, Ordering::Relaxed);
    slot.begun.store(process::monotonic_ns(), Ordering::Relaxed);
    slot.started.store(me.start_time, Ordering::Relaxed);
    let writer = Writer { memory, shared, path: path.to_owned(), pid: me.pid, strings: AtomicU32::new(0) };
    slot.method.store(writer.intern(identity.method), Ordering::Relaxed);
    slot.name.store(writer.intern(identity.name), Ordering::Relaxed);
    slot.pid.store(me.pid, Ordering::Release);
    CURRENT.store(Box::into_raw(Box::new(writer)), Ordering::Release);
    // SAFETY: see `writer`.
    unsafe { (*MINE.load(Ordering::Relaxed)).set(1) };
    Ok(())
}

/// In a forked child, before it records anything: a slot of its own, with its parent's strings. Without one (the recorder
/// has gone) the child is not recorded.
pub fn after_fork_in_child(method: &str) -> io::Result<bool> {
    let inherited = CURRENT.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if inherited.is_null() {
        return Ok(false);
    }
    // SAFETY: see `writer`. The parent's mapping is a copy here and stays until the end of this function.
    let parent = unsafe { &*inherited };
    let outcome = if parent.is_stopped() {
        Ok(false)
    } else {
        let identity = Identity { parent: parent.pid, method, name: "" };
        open(&parent.path)
            .and_then(|file| take_slot(&file, &parent.path, parent.shared, identity, Some(parent.memory)))
            .map(|()| true)
    };
    // SAFETY: a forked child has one thread, this one, and it refers to the parent's slot no more.
    unsafe { memfd::unmap(parent.memory.base(), SLOT) };
    outcome
}

/// Writes no more. `unmap`: no other thread can be within a function of this module.
pub fn stop(unmap: bool) {
    let writer = CURRENT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if writer.is_null() || !unmap {
        return;
    }
    // SAFETY: see `writer`; as the caller says, nobody else looks at it any more.
    let writer = unsafe { Box::from_raw(writer) };
    // SAFETY: as above; both were mapped by `start` or `take_slot`.
    unsafe {
        memfd::unmap(writer.memory.base(), SLOT);
        memfd::unmap(writer.shared, SLOTS_AT);
    }
}

/// What a thread knows of itself.
struct Here {
    /// The process for which the rest is valid.
    pid: Local<u32>,
    tid: Local<u32>,
    /// Its entry in the table of open spans, from 1; 0: none was free.
    open: Local<u32>,
    depth: Local<u32>,
}

thread_local! {
    static HERE: Here = const { Here { pid: Local::new(0), tid: Local::new(0), open: Local::new(0), depth: Local::new(0) } };
    static LEAVING: Leaving = const { Leaving };
}

/// Gives a thread's entry back when the thread ends.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = HERE.try_with(|here| {
            if let Some(writer) = writer()
                && here.pid.get() == writer.pid
                && let Some(open) = writer.open_thread(here)
            {
                open.depth.store(0, Ordering::Relaxed);
                open.tid.store(0, Ordering::Release);
            }
        });
    }
}

impl Writer {
    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The calling thread, as the kernel numbers threads.
    #[inline]
    pub fn thread(&self) -> u32 {
        HERE.with(|here| {
            if here.pid.get() != self.pid {
                self.enter(here);
            }
            here.tid.get()
        })
    }

    #[cold]
    fn enter(&self, here: &Here) {
        here.pid.set(self.pid);
        here.depth.set(0);
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        here.tid.set(tid);
        let threads = self.memory.open_threads();
        let first = tid as usize;
        let found = (first..first + OPEN_THREADS)
            .map(|at| at % OPEN_THREADS)
            .find(|&at| threads[at].tid.compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        here.open.set(found.map_or(0, |at| at as u32 + 1));
        let _ = LEAVING.try_with(|_| ()); // from now on it is dropped with the thread
    }

    #[inline]
    fn open_thread(&self, here: &Here) -> Option<&OpenThread> {
        self.memory.open_threads().get((here.open.get() as usize).wrapping_sub(1))
    }

    /// Says what the calling thread is in now: a record whose end is not known. Word 6 must not be 0.
    #[inline]
    pub fn open(&self, words: &Words) {
        self.thread();
        HERE.with(|here| {
            let depth = here.depth.get();
            here.depth.set(depth + 1);
            if let Some(open) = self.open_thread(here) {
                if let Some(cell) = open.spans.get(depth as usize) {
                    for (word, value) in cell.0.iter().zip(words) {
                        word.store(*value, Ordering::Relaxed);
                    }
                }
                crate::crash::store(&open.depth, depth + 1, Ordering::Release);
            }
        });
    }

    /// The innermost open span of the calling thread has ended.
    #[inline]
    pub fn close(&self) {
        HERE.with(|here| {
            if here.pid.get() != self.pid {
                return; // forked inside the span: the child has none open
            }
            let depth = here.depth.get().saturating_sub(1);
            here.depth.set(depth);
            if let Some(open) = self.open_thread(here) {
                crate::crash::store(&open.depth, depth, Ordering::Release);
            }
        });
    }

    /// Adds a record. `false`: no room, it was counted.
    #[inline]
    pub fn push(&self, words: &Words) -> bool {
        let kept = self.memory.ring().push(words);
        if kept {
            self.memory.slot().written.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    /// A number for a text; 0 for an empty one, and if there is no room. The same text gets another number each time.
    pub fn intern(&self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        // Nobody who holds it waits for anything, and a fork stops all threads outside of it.
        while self.strings.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        let number = self.memory.add_string(text).unwrap_or(0);
        self.strings.store(0, Ordering::Release);
        number
    }

    /// Changes the process's name.
    pub fn set_name(&self, number: u32) {
        self.memory.slot().name.store(number, Ordering::Relaxed);
    }

    /// Changes who asked for this process, and how it was started.
    pub fn set_origin(&self, parent: u32, method: u32) {
        let slot = self.memory.slot();
        slot.parent.store(parent, Ordering::Relaxed);
        slot.method.store(method, Ordering::Relaxed);
    }

    /// Counts a fault of a hook.
    pub fn count_error(&self) {
        self.memory.slot().errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lock that was taken without waiting.
    #[inline]
    pub fn count_free_lock(&self) {
        self.memory.slot().locks_free.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a call that went through a hook of a kind (0: of none), and the nanoseconds that the hook took of it.
    #[inline]
    pub fn add_cost(&self, kind: u16, nanoseconds: u64) {
        if let Some([calls, time]) = self.memory.slot().hooks.get(usize::from(kind)) {
            calls.fetch_add(1, Ordering::Relaxed);
            time.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Calls that went through a hook of a kind so far, and the nanoseconds of the hooks.
    pub fn cost(&self, kind: u16) -> (u64, u64) {
        let of = self.memory.slot().hooks.get(usize::from(kind));
        of.map_or((0, 0), |[calls, time]| (calls.load(Ordering::Relaxed), time.load(Ordering::Relaxed)))
    }

    /// Says what a hooked call costs beside what its hook can measure, in nanoseconds; for the whole run.
    pub fn set_per_call(&self, nanoseconds: u64) {
        header(self.shared).per_call.store(nanoseconds, Ordering::Relaxed);
    }

    /// Records written so far, and those that found no room.
    pub fn counts(&self) -> (u64, u64) {
        let slot = self.memory.slot();
        (slot.written.load(Ordering::Relaxed), slot.dropped.load(Ordering::Relaxed))
    }

    /// Locks taken without waiting so far.
    pub fn free_locks(&self) -> u64 {
        self.memory.slot().locks_free.load(Ordering::Relaxed)
    }

    /// Whether the recording has ended.
    pub fn is_stopped(&self) -> bool {
        header(self.shared).stopped.load(Ordering::Relaxed) != 0
    }

    /// Writes down the process's account, as of now: it is about to end, by this code if that is known.
    pub fn finish(&self, exit_code: Option<i32>) {
        let slot = self.memory.slot();
        let account = super::proc::own_account();
        for (word, value) in slot.last.iter().zip(account.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        if let Some(code) = exit_code {
            slot.exit_code.store(code as u32, Ordering::Relaxed);
        }
        let known = if exit_code.is_some() { 2 } else { 1 };
        slot.ended.fetch_max(known, Ordering::Release);
    }
}

const _: () = assert!(OPEN_SPANS > 0);

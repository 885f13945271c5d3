//! Memory that the kernel wipes in forked children: knowing, without a system call, that one is a
//! child, and not taking the parent's page tables for one's own.

use crate::primitive::AtomicU32;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ptr::NonNull;

/// A word that the kernel zeroes in every forked child (`MADV_WIPEONFORK`), whoever forks and
/// however. It holds this process's participant id; zero means "not registered, or a child".
pub(crate) struct WipedWord {
    page: NonNull<AtomicU32>,
    /// Where the kernel lacks `MADV_WIPEONFORK`: the pid for which the word is valid.
    fallback_pid: Option<AtomicU32>,
}

// SAFETY: the page is only accessed as an atomic, and is never unmapped.
unsafe impl Sync for WipedWord {}
// SAFETY: as above; nothing in it is bound to a thread.
unsafe impl Send for WipedWord {}

impl WipedWord {
    pub(crate) fn new() -> Result<WipedWord, rustix::io::Errno> {
        const PAGE: usize = 4096;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                core::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        // SAFETY: the range was mapped just above; the advice only concerns future forks.
        let wiped = unsafe { rustix::mm::madvise(page, PAGE, Advice::LinuxWipeOnFork) }.is_ok();
        Ok(WipedWord {
            page: NonNull::new(page.cast()).ok_or(rustix::io::Errno::NOMEM)?,
            fallback_pid: (!wiped).then(|| AtomicU32::new(0)),
        })
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped for ever, aligned, and zero-initialised by the kernel.
        unsafe { self.page.as_ref() }
    }

    #[inline]
    pub(crate) fn get(&self) -> u32 {
        use crate::primitive::Ordering::Relaxed;
        let value = self.word().load(Relaxed);
        match &self.fallback_pid {
            None => value,
            Some(pid) if pid.load(Relaxed) == std::process::id() => value,
            Some(_) => 0,
        }
    }

    pub(crate) fn set(&self, value: u32) {
        use crate::primitive::Ordering::Relaxed;
        if let Some(pid) = &self.fallback_pid {
            pid.store(std::process::id(), Relaxed);
        }
        self.word().store(value, Relaxed);
    }
}

/// A set of small numbers that is empty in every forked child, whoever forks and however.
pub(crate) struct WipedSet {
    words: NonNull<AtomicU32>,
    len: u32,
}

// SAFETY: the memory is only accessed as atomics, and is never unmapped.
unsafe impl Sync for WipedSet {}
// SAFETY: as above; nothing in it is bound to a thread.
unsafe impl Send for WipedSet {}

impl WipedSet {
    /// A set for numbers below `len`; `None` where the kernel cannot wipe memory at a fork.
    pub(crate) fn new(len: u32) -> Option<WipedSet> {
        let bytes = (len.div_ceil(8) as usize).next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice; the advice only
        // concerns it and future forks.
        unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let null = core::ptr::null_mut();
            let pages = rustix::mm::mmap_anonymous(null, bytes, access, MapFlags::PRIVATE).ok()?;
            rustix::mm::madvise(pages, bytes, Advice::LinuxWipeOnFork).ok()?;
            Some(WipedSet { words: NonNull::new(pages.cast())?, len })
        }
    }

    fn word(&self, number: u32) -> Option<(&AtomicU32, u32)> {
        if number >= self.len {
            return None;
        }
        // SAFETY: one bit for each number below `len` was mapped, for ever, and zeroed.
        let word = unsafe { self.words.add(number as usize / 32).as_ref() };
        Some((word, 1 << (number % 32)))
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        use crate::primitive::Ordering::Relaxed;
        self.word(number).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    pub(crate) fn insert(&self, number: u32) {
        use crate::primitive::Ordering::Relaxed;
        if let Some((word, bit)) = self.word(number) {
            word.fetch_or(bit, Relaxed);
        }
    }

    pub(crate) fn remove(&self, number: u32) {
        use crate::primitive::Ordering::Relaxed;
        if let Some((word, bit)) = self.word(number) {
            word.fetch_and(!bit, Relaxed);
        }
    }
}

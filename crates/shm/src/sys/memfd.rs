//! Anonymous shared files and their mappings.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;

/// Creates an anonymous memory file of `len` bytes, none of which is backed by pages yet.
pub(crate) fn create(len: u64) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::memfd_create("breakeven", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&fd, len)?;
    Ok(fd)
}

/// The file's identity, equal for all descriptors of one memory file.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

/// The file's length in bytes.
pub(crate) fn len(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(rustix::fs::fstat(fd)?.st_size as u64)
}

/// Maps the first `len` bytes of the file, shared and writable.
pub(crate) fn map_shared(fd: BorrowedFd<'_>, len: usize) -> Result<NonNull<u8>, Errno> {
    map_part(fd, 0, len)
}

/// Maps `len` bytes at `offset`, shared and writable, at an address of the kernel's choice.
pub(crate) fn map_part(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a null hint lets the kernel choose an unused range, so no existing memory of this
    // process is affected; `len` is non-zero (checked by every caller's constant layout).
    let base = unsafe {
        rustix::mm::mmap(
            core::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
            fd,
            offset,
        )?
    };
    // A core dump of a Python process should not contain the whole reserved range. Best effort.
    // SAFETY: the range was mapped just above and DONTDUMP changes no memory contents.
    let _ = unsafe { rustix::mm::madvise(base, len, rustix::mm::Advice::LinuxDontDump) };
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}

/// Maps `len` bytes at `offset` copy-on-write, at an address of the kernel's choice.
pub(crate) fn map_private(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: as in `map_part`: a fresh range chosen by the kernel.
    let base = unsafe {
        rustix::mm::mmap(
            core::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
            fd,
            offset,
        )?
    };
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}

/// Replaces `[address, address + len)`, part of an existing mapping of the same file at `offset`,
/// by a copy-on-write (`private`) or shared mapping of the same bytes.
///
/// # Safety
/// The range must be page-aligned, lie wholly inside a mapping that the caller owns, and show the
/// same file range before and after, so that references into it stay valid.
pub(crate) unsafe fn remap(
    fd: BorrowedFd<'_>,
    address: NonNull<u8>,
    offset: u64,
    len: usize,
    private: bool,
) -> Result<(), Errno> {
    let sharing = if private { MapFlags::PRIVATE } else { MapFlags::SHARED };
    // SAFETY: MAP_FIXED replaces exactly the caller's own range, by this function's contract.
    unsafe {
        rustix::mm::mmap(
            address.as_ptr().cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            sharing | MapFlags::FIXED | MapFlags::NORESERVE,
            fd,
            offset,
        )?;
    }
    Ok(())
}

/// Unmaps a range made by [`map_private`].
///
/// # Safety
/// Nothing may refer to the range any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, len: usize) {
    // SAFETY: forwarded from the caller's contract.
    let _ = unsafe { rustix::mm::munmap(address.as_ptr().cast(), len) };
}

/// Makes sure that pages exist for the range: after success, touching it cannot raise SIGBUS for
/// want of memory.
pub(crate) fn allocate<Fd: AsFd>(fd: Fd, offset: u64, len: u64) -> Result<(), Errno> {
    loop {
        match rustix::fs::fallocate(&fd, FallocateFlags::empty(), offset, len) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Enters the pages of the range into this process's page tables in one go, which is several times
/// cheaper than the faults that touching them would take. Best effort: kernels before 5.14 do not
/// know it, and then the faults are taken.
///
/// Pages with contents are entered as a reader would, which a kernel does sixteen at a time (54 MB:
/// 5 ms instead of 10); in a shared mapping of a memory file they can be written to all the same.
/// `fresh` pages, which have yet to be cleared, are had faster as by a writer (16 ms instead of 23).
///
/// # Safety
/// The range must be part of a mapping of the caller's.
pub(crate) unsafe fn populate(address: NonNull<u8>, len: usize, fresh: bool) {
    use rustix::mm::Advice;
    let advice = if fresh { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    // SAFETY: the caller's own mapping; populating changes no memory contents.
    let _ = unsafe { rustix::mm::madvise(address.as_ptr().cast(), len, advice) };
}

/// Gives the pages of the range back to the kernel; the range reads as zeros afterwards.
pub(crate) fn punch<Fd: AsFd>(fd: Fd, offset: u64, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(&fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

/// An event counter that is readable while it is above zero.
pub(crate) fn eventfd() -> Result<OwnedFd, Errno> {
    use rustix::event::EventfdFlags;
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Raises an eventfd. A counter that is already at its maximum is readable anyway.
pub(crate) fn raise(fd: BorrowedFd<'_>) {
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Lowers an eventfd to zero.
pub(crate) fn lower(fd: BorrowedFd<'_>) {
    let mut counter = [0u8; 8];
    let _ = rustix::io::read(fd, &mut counter);
}

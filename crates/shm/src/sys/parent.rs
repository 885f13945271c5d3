//! Ending when the parent process has ended, in whatever way it did, and whatever this process is doing: computing in
//! code that does not return to the interpreter, say.
//!
//! The kernel sends a signal of our choice when the thread that forked us ends (`PR_SET_PDEATHSIG`), and again for each
//! thread of the parent that takes us over from it. So the signal says "look", not "end": the handler asks who the parent
//! is now, and ends the process only if that is another.
//!
//! | who started us | first notice | proof |
//! |---|---|---|
//! | the parent itself (fork, spawn) | its death signal | `getppid()` has changed |
//! | a server, for the parent (forkserver) | the server's death signal; `SIGIO`'s like on the parent's pipe | the pipe's other end is closed, or the parent's pidfd is readable |
//!
//! The signal is the highest real-time signal that nobody in this process has a use for. A program that takes it away
//! later, or blocks it, loses this; who runs a loop should look at `getppid()` now and then as well.

use crate::primitive::{AtomicU32, Ordering::Relaxed};
use std::io;
use std::os::fd::RawFd;

/// How long after the server's end the parent's end is waited for: it may be the cause, and takes a moment.
const CAUSE_MS: libc::c_int = 200;

/// No descriptor.
const NONE: u32 = u32::MAX;

/// The process for which the rest is valid: a child of it inherits the handler and must not act on it.
static ME: AtomicU32 = AtomicU32::new(0);
/// The kernel's idea of our parent when the watch began.
static STARTER: AtomicU32 = AtomicU32::new(0);
/// Pipe whose other end the parent holds; `NONE` if the starter is the parent.
static PIPE: AtomicU32 = AtomicU32::new(NONE);
/// The parent's pidfd, where the starter is not the parent and the kernel gives us one.
static PARENT: AtomicU32 = AtomicU32::new(NONE);

/// Is there something to be read on `fd`, or is its other end closed? Waits for at most `timeout` milliseconds.
fn is_ready(fd: RawFd, wanted: libc::c_short, timeout: libc::c_int) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd on the stack; `poll` is async-signal-safe, and a descriptor that is closed by now gives
    // POLLNVAL, which is not asked for.
    let found = unsafe { libc::poll(&raw mut poll, 1, timeout) };
    found > 0 && poll.revents & wanted != 0
}

/// Async-signal-safe.
fn parent_is_gone() -> bool {
    // SAFETY: cannot fail, async-signal-safe.
    let orphaned = unsafe { libc::getppid() } as u32 != STARTER.load(Relaxed);
    let pipe = PIPE.load(Relaxed);
    if pipe == NONE {
        return orphaned;
    }
    if is_ready(pipe as RawFd, libc::POLLHUP, 0) {
        return true;
    }
    let parent = PARENT.load(Relaxed);
    orphaned && parent != NONE && is_ready(parent as RawFd, libc::POLLIN, CAUSE_MS)
}

extern "C" fn look(_signal: libc::c_int) {
    // SAFETY: only async-signal-safe functions: getpid, getppid, poll, _exit; `errno`, which they may change, is this
    // thread's own and restored.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        if libc::getpid() as u32 == ME.load(Relaxed) && parent_is_gone() {
            libc::_exit(1);
        }
        *errno = kept;
    }
}

/// What the process does on a signal.
fn disposition(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; the kernel fills in `action`, all of whose bit patterns are valid.
    unsafe {
        (libc::sigaction(signal, core::ptr::null(), action.as_mut_ptr()) == 0)
            .then(|| action.assume_init().sa_sigaction)
    }
}

/// The signal to use: ours from before a fork, or the highest that nobody uses.
fn choose() -> io::Result<libc::c_int> {
    let ours = look as extern "C" fn(libc::c_int) as libc::sighandler_t;
    let signals = || (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
    signals()
        .find(|&signal| disposition(signal) == Some(ours))
        .or_else(|| signals().find(|&signal| disposition(signal) == Some(libc::SIG_DFL)))
        .ok_or_else(|| io::Error::other("the program has handlers for all real-time signals"))
}

/// From now on this process ends (with exit code 1, without any clean-up) as soon as its parent has ended. At once if
/// that has happened already.
///
/// To be called by a thread that stays for as long as the process: the kernel keeps the request with the thread.
///
/// - `parent`: number of the process that counts as the parent.
/// - `pipe`: a pipe whose other end only the parent (and children of its) holds open. Needed where another process has
///   started this one on the parent's behalf; without effect otherwise.
///
/// Errors: no real-time signal is to be had, or the kernel refuses; `pipe` is missing where it is needed (InvalidInput).
pub fn end_with_parent(parent: u32, pipe: Option<RawFd>) -> io::Result<()> {
    let check = |status: libc::c_int| if status == -1 { Err(io::Error::last_os_error()) } else { Ok(status) };
    // SAFETY: neither can fail.
    let (me, starter) = unsafe { (libc::getpid() as u32, libc::getppid() as u32) };
    let direct = starter == parent;
    let pipe = match pipe {
        _ if direct => None,
        Some(pipe) => Some(pipe),
        // Either it is gone already, or it is not who the caller thinks.
        None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the parent is another process")),
    };
    let signal = choose()?;
    let inherited = ME.swap(0, Relaxed) != me; // nobody's, until all of it is valid
    let old = PARENT.swap(NONE, Relaxed);
    if old != NONE && !inherited {
        // SAFETY: ours, from an earlier call in this process; the handler does not see it any more.
        unsafe { libc::close(old as RawFd) };
    }
    STARTER.store(starter, Relaxed);
    PIPE.store(pipe.map_or(NONE, |pipe| pipe as u32), Relaxed);
    if !direct {
        // SAFETY: a system call on plain numbers; the descriptor that it returns is nobody else's. It fails if the
        // parent is gone, which the pipe tells, or is not to be seen from here.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, parent as libc::pid_t, 0) };
        PARENT.store(u32::try_from(fd).unwrap_or(NONE), Relaxed);
    }
    ME.store(me, Relaxed);
    // SAFETY: the handler is async-signal-safe (see `look`) and stays for ever; the structures are local. SA_RESTART: a
    // signal that means nothing must not interrupt what the program is doing; SA_ONSTACK: other runtimes in the process
    // (Go's) demand it of all handlers.
    unsafe {
        let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = look as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        check(libc::sigaction(signal, &raw const action, core::ptr::null_mut()))?;
        let mut unblocked = core::mem::MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&raw mut unblocked);
        libc::sigaddset(&raw mut unblocked, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const unblocked, core::ptr::null_mut());
        check(libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0, 0, 0))?;
        if let Some(pipe) = pipe {
            check(libc::fcntl(pipe, F_SETSIG, signal))?;
            check(libc::fcntl(pipe, libc::F_SETOWN, me as libc::pid_t))?;
            let flags = check(libc::fcntl(pipe, libc::F_GETFL))?;
            check(libc::fcntl(pipe, libc::F_SETFL, flags | libc::O_ASYNC))?;
        }
        // It may have ended before all this was in place.
        if parent_is_gone() {
            libc::_exit(1);
        }
    }
    Ok(())
}

/// Which signal a descriptor with `O_ASYNC` sends; the same number on all architectures of Linux.
const F_SETSIG: libc::c_int = 10;

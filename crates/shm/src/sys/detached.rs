//! Starting a program that is nobody's child: neither `wait` nor SIGCHLD shows it to this process.
//!
//! `execve` sets the signal that a process sends at its end to SIGCHLD, whatever `clone` was told, so
//! a direct child always shows. Hence two clones:
//!
//! ```text
//!  this process ──clone, no exit signal──> intermediate ──clone──> the program
//!       │                                       │                     │ arranges descriptors, execve
//!       │                                       │ <── resumed ────────┘
//!       │                                       └ ends; the program becomes an orphan (of init, or
//!       │ <── resumed ──────────────────────────┘ of the nearest subreaper)
//!       └ reaps the intermediate with __WCLONE, for which `wait()` and `waitpid(-1)` do not look
//! ```
//!
//! Both clones share this process's memory (`CLONE_VM`), so no page table is copied however large the
//! process is, and both suspend whoever made them (`CLONE_VFORK`), so nobody else runs on memory that
//! they use. What runs in them follows the rules for signal handlers, and more: no allocation, no
//! lock, no unwinding; everything is prepared before, and what failed is written to a plain structure.
//!
//! Where this process is itself the one that orphans go to (process 1 of a container, a subreaper),
//! the program does become its child; nothing can be done about it.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use rustix::fd::RawFd;
use rustix::io::Errno;

/// Enough for the few calls that the clones make.
const STACK: usize = 64 * 1024;

/// At most so many descriptors can be handed over.
pub const MAX_DESCRIPTORS: usize = 16;

/// What the clones need, prepared before, and what they report.
struct Launch {
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    /// The descriptors to hand over; replaced by duplicates out of the way of their final numbers.
    descriptors: [c_int; MAX_DESCRIPTORS],
    count: c_int,
    /// The end of the second stack.
    stack: *mut c_void,
    pid: c_int,
    error: c_int,
}

/// Starts the program at `path` as an orphan and returns its pid.
///
/// It gets `descriptors[0]` as descriptor 0, `descriptors[1]` as 1, and so on, and no other. It
/// starts with all signals blocked: it can set up what it wants to do about them in peace.
///
/// # Errors
/// What the kernel said: about making the process, its descriptors, or executing the program.
/// `BADF` for a descriptor that is not open, `INVAL` for more than [`MAX_DESCRIPTORS`].
pub fn start_detached(
    path: &CStr,
    arguments: &[&CStr],
    environment: &[&CStr],
    descriptors: &[RawFd],
) -> Result<u32, Errno> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::INVAL);
    }
    let pointers = |strings: &[&CStr]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // u128: stacks are aligned to 16 bytes.
    let mut stacks = vec![0u128; 2 * STACK / 16];
    let middle = stacks[STACK / 16..].as_mut_ptr();
    let end = stacks.as_mut_ptr_range().end;
    let mut launch = Launch {
        path: path.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        descriptors: [-1; MAX_DESCRIPTORS],
        count: descriptors.len() as c_int,
        stack: end.cast(),
        pid: 0,
        error: 0,
    };
    launch.descriptors[..descriptors.len()].copy_from_slice(descriptors);
    let launch: *mut Launch = &raw mut launch;

    let mask = block_signals();
    // SAFETY: the stack's end is 16-byte aligned and it and `launch` outlive the clone: CLONE_VFORK
    // suspends this thread until the clone has ended. `intermediate` keeps the rules of the module
    // docs. Signal handlers cannot run in the clones on our memory, since all signals are blocked.
    let pid = unsafe { libc::clone(intermediate, middle.cast(), libc::CLONE_VM | libc::CLONE_VFORK, launch.cast()) };
    let cloned = if pid < 0 { Err(last_error()) } else { Ok(()) };
    if pid > 0 {
        let mut status = 0;
        // SAFETY: plain system call on locals. An interruption is impossible, for signals are blocked.
        unsafe { libc::waitpid(pid, &raw mut status, libc::__WCLONE) };
    }
    restore_signals(&mask);
    cloned?;
    // SAFETY: the clones have ended or executed another program; nobody else knows the structure.
    let (pid, error) = unsafe { ((*launch).pid, (*launch).error) };
    drop(stacks);
    match error {
        0 if pid > 0 => Ok(pid as u32),
        0 => Err(Errno::AGAIN), // the intermediate was killed before it came to anything
        error => Err(Errno::from_raw_os_error(error)),
    }
}

/// The first clone: makes the second and ends.
extern "C" fn intermediate(argument: *mut c_void) -> c_int {
    let launch: *mut Launch = argument.cast();
    // SAFETY: `argument` is the structure of `start_detached`, which is suspended; likewise this
    // function is, until the program runs. The second half of the stacks is used by nobody else.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(program, (*launch).stack, flags, argument);
        if pid < 0 {
            (*launch).error = errno();
        } else {
            (*launch).pid = pid;
        }
    }
    0 // glibc and musl end the clone with this status, by the system call
}

/// The second clone: becomes the program.
extern "C" fn program(argument: *mut c_void) -> c_int {
    let launch: *mut Launch = argument.cast();
    // SAFETY: as in `intermediate`. The clones have a descriptor table of their own (no CLONE_FILES),
    // so nothing here touches the descriptors of the process that is suspended.
    unsafe {
        let count = (*launch).count;
        // First out of the way: a source may have the number that another is to get.
        for index in 0..count as usize {
            let place = &raw mut (*launch).descriptors[index];
            *place = libc::fcntl(*place, libc::F_DUPFD_CLOEXEC, count);
            if *place < 0 {
                (*launch).error = errno();
                return 127;
            }
        }
        for index in 0..count as usize {
            if libc::dup2((*launch).descriptors[index], index as c_int) < 0 {
                (*launch).error = errno();
                return 127;
            }
        }
        if libc::syscall(libc::SYS_close_range, count, c_int::MAX, 0) != 0 {
            // Kernels before 5.9. Python's own descriptors close themselves; this is for others'.
            for descriptor in count..1024 {
                libc::close(descriptor);
            }
        }
        libc::execve((*launch).path, (*launch).argv, (*launch).envp);
        (*launch).error = errno();
    }
    127
}

/// The C library's `errno`: that of the suspended thread, whose thread-local storage the clones use.
fn errno() -> c_int {
    // SAFETY: the location is valid for as long as the thread exists, and that is suspended.
    unsafe { *libc::__errno_location() }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(errno())
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: works on locals; a zeroed `sigset_t` is a valid place to write a set to.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (core::mem::zeroed(), core::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the set was filled in by `block_signals`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::from_ref(mask), ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsRawFd;
    use std::io::Read;

    fn run(path: &CStr, script: &CStr, descriptors: &[RawFd]) -> Result<u32, Errno> {
        start_detached(path, &[c"sh", c"-c", script], &[c"GREETING=hello"], descriptors)
    }

    #[test]
    fn the_program_runs_with_its_environment_and_descriptors_and_is_no_child() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        let script = c"echo $GREETING $PPID; ls /proc/self/fd; exec sleep 1000";
        let pid = run(c"/bin/sh", script, &[null.as_raw_fd(), write.as_raw_fd()]).unwrap() as c_int;
        drop(write);
        let mut status = 0;
        // SAFETY: plain system call on a local.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
        assert_eq!(waited, -1, "it is our child");
        let mut said = Vec::new();
        let mut byte = [0];
        // Until the last number of the listing: its own descriptor for the directory comes third.
        while said.iter().filter(|&&byte| byte == b'\n').count() < 4 {
            read.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        let said = String::from_utf8(said).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("hello "), "{said}");
        assert_ne!(lines[0], format!("hello {}", std::process::id()));
        assert_eq!(lines[1..3], ["0", "1"], "{said}");
        // SAFETY: sends a signal to the process that was started above.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_here() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(run(c"/nowhere/at/all", c"", &[null.as_raw_fd()]), Err(Errno::NOENT));
        let many = [null.as_raw_fd(); MAX_DESCRIPTORS + 1];
        assert_eq!(run(c"/bin/sh", c"", &many), Err(Errno::INVAL));
        assert_eq!(run(c"/bin/sh", c"", &[-1]), Err(Errno::BADF));
    }
}

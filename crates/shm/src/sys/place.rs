//! On which CPU a process wakes up.
//!
//! Who is woken shall run beside who wakes it. The kernel looks for an idle CPU, but on a virtual
//! machine it takes an idle one for one that the host has taken away (`vcpu_is_preempted`), and the
//! two then take turns on one CPU, with others idle.

use rustix::io;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Keeps the process, which sleeps, off the CPU of this thread, if nothing else wants to run on this
/// machine just now; says whether it did.
///
/// The process has to give itself back the CPUs that it had. Where others run, nobody knows which CPU is
/// free, and the kernel's choice stands.
///
/// # Errors
/// The process has gone, or belongs to somebody else.
pub fn keep_apart(pid: u32) -> io::Result<bool> {
    if running() != Some(1) {
        return Ok(false);
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(io::Errno::SRCH) };
    let mut cpus = sched_getaffinity(Some(pid))?;
    cpus.unset(sched_getcpu());
    if cpus == CpuSet::new() {
        return Ok(false);
    }
    sched_setaffinity(Some(pid), &cpus)?;
    Ok(true)
}

/// How many threads of this machine run or want to, this one included; None where the kernel does not tell.
fn running() -> Option<u32> {
    parse(&std::fs::read("/proc/loadavg").ok()?)
}

/// The fourth field of `/proc/loadavg`, before the slash.
fn parse(line: &[u8]) -> Option<u32> {
    let field = core::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(3)?;
    field.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_running_threads_is_read() {
        assert_eq!(parse(b"1.38 2.34 2.13 8/125 27380\n"), Some(8));
        assert_eq!(parse(b"1.38 2.34 2.13\n"), None);
        assert_eq!(parse(b""), None);
        assert!(running().is_none_or(|number| number >= 1));
    }

    #[test]
    fn a_process_is_kept_off_this_cpu_or_left_alone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let before = sched_getaffinity(Some(pid)).unwrap();
        let moved = keep_apart(child.id()).unwrap();
        let after = sched_getaffinity(Some(pid)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let less = if moved { 1 } else { 0 };
        assert_eq!(after.count() + less, before.count());
        assert!(after.count() > 0);
    }

    #[test]
    fn nobody_is_moved_who_is_not_there() {
        // Whether the process is looked at depends on what else runs.
        assert!(matches!(keep_apart(u32::MAX), Ok(false) | Err(io::Errno::SRCH)));
    }
}

//! Who we are, and whether somebody else still lives.

use rustix::process::Pid;

/// Identity of a process: a pid alone is reused, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`; 0 where `/proc` cannot be read.
    pub(crate) start_time: u64,
}

/// The calling process.
pub(crate) fn current() -> ProcessId {
    let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
    let start_time = match read_stat(pid) {
        Stat::Is { start_time, .. } => start_time,
        Stat::Gone | Stat::Unknown => 0,
    };
    ProcessId { pid, start_time }
}

/// Whether `id` can still execute instructions. A zombie cannot.
pub(crate) fn is_alive(id: ProcessId) -> bool {
    match read_stat(id.pid) {
        Stat::Is { state, start_time } => {
            !matches!(state, b'Z' | b'X' | b'x') && (id.start_time == 0 || start_time == id.start_time)
        }
        Stat::Gone => false,
        // Without /proc the signal test is what remains; it takes a zombie for alive.
        Stat::Unknown => match i32::try_from(id.pid).ok().and_then(Pid::from_raw) {
            Some(pid) => rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH),
            None => false,
        },
    }
}

enum Stat {
    Is { state: u8, start_time: u64 },
    Gone,
    Unknown,
}

fn read_stat(pid: u32) -> Stat {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(line) => parse_stat(&line).map_or(Stat::Unknown, |(state, start_time)| Stat::Is { state, start_time }),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Stat::Gone,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if std::path::Path::new("/proc/self/stat").exists() { Stat::Gone } else { Stat::Unknown }
        }
        Err(_) => Stat::Unknown,
    }
}

/// The fields of a `/proc/PID/stat` from the third, the state, on. The command name in parentheses
/// may itself contain blanks and parentheses, so fields are counted from the last `)`.
pub(crate) fn stat_fields(line: &[u8]) -> Option<core::str::SplitAsciiWhitespace<'_>> {
    let after_name = line.iter().rposition(|&byte| byte == b')')? + 1;
    Some(core::str::from_utf8(line.get(after_name..)?).ok()?.split_ascii_whitespace())
}

/// State and start time from the text of `/proc/PID/stat`.
fn parse_stat(line: &[u8]) -> Option<(u8, u64)> {
    let mut fields = stat_fields(line)?;
    let state = *fields.next()?.as_bytes().first()?;
    // Field 3 (state) was taken; field 22 is the 19th of what remains.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many cores this process may use.
pub(crate) fn usable_cores() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = b"7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(line), Some((b'S', 4242)));
        assert_eq!(parse_stat(b"7 (x"), None);
    }

    #[test]
    fn we_live_and_a_reaped_or_renumbered_process_does_not() {
        let me = current();
        assert!(is_alive(me));
        assert!(!is_alive(ProcessId { start_time: me.start_time + 1, ..me }));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId { pid: child.id(), start_time: 0 };
        while is_alive(id) {
            std::thread::yield_now(); // until it is a zombie
        }
        child.wait().unwrap();
        assert!(!is_alive(id));
    }
}

//! What the kernel knows of processes and threads: `/proc`, read as cheaply as it can be.

use crate::sys::process::monotonic_ns;
use rustix::fd::OwnedFd;
use std::fs;

/// A process's account at a moment. Cumulative since its begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Monotonic nanosecond.
    pub at: u64,
    /// CPU nanoseconds of all threads.
    pub cpu: u64,
    /// Of these, in the kernel.
    pub system: u64,
    /// Page faults without disk.
    pub minor_faults: u64,
    /// Page faults with disk.
    pub major_faults: u64,
    /// Bytes in memory (at the end: the most there ever were).
    pub resident: u64,
}

impl Account {
    pub(super) fn to_words(self) -> [u64; 8] {
        [self.at, self.cpu, self.system, self.minor_faults, self.major_faults, self.resident, 0, 0]
    }

    pub(super) fn from_words(words: [u64; 8]) -> Account {
        let [at, cpu, system, minor_faults, major_faults, resident, ..] = words;
        Account { at, cpu, system, minor_faults, major_faults, resident }
    }
}

/// The calling process's account.
pub(super) fn own_account() -> Account {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills in the structure, for which any bytes are valid.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Account {
        at: monotonic_ns(),
        cpu: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        system: nanoseconds(usage.ru_stime),
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
        resident: usage.ru_maxrss as u64 * 1024,
    }
}

/// CPU nanoseconds of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A thread's account at a moment. Cumulative since its begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadAccount {
    /// Monotonic nanosecond.
    pub at: u64,
    /// Nanoseconds on a CPU.
    pub cpu: u64,
    /// Nanoseconds runnable, but not running.
    pub delay: u64,
    /// Page faults without disk.
    pub minor_faults: u64,
    /// Page faults with disk.
    pub major_faults: u64,
    /// Context switches of its own will.
    pub voluntary: u64,
    /// Context switches against its will.
    pub involuntary: u64,
    /// The kernel's letter.
    pub state: u8,
}

/// The fields of a `stat` file after the command, from `state` (field 3) on.
fn fields(line: &[u8]) -> Option<Vec<&str>> {
    Some(crate::sys::process::stat_fields(line)?.collect())
}

fn number<T: core::str::FromStr>(fields: &[&str], field: usize) -> Option<T> {
    fields.get(field.checked_sub(3)?)?.parse().ok()
}

/// A file of `/proc` that is read again and again.
#[derive(Debug)]
struct Kept {
    path: String,
    file: Option<OwnedFd>,
}

impl Kept {
    fn new(path: String) -> Kept {
        Kept { path, file: None }
    }

    fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        use rustix::fs::{Mode, OFlags};
        if self.file.is_none() {
            self.file = rustix::fs::open(&*self.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        }
        let length = rustix::io::pread(self.file.as_ref()?, &mut *buffer, 0).ok()?;
        buffer.get(..length)
    }
}

/// One thread that is watched.
#[derive(Debug)]
pub struct WatchedThread {
    /// As the kernel numbers it.
    pub tid: u32,
    schedstat: Kept,
    stat: Kept,
    status: Kept,
    last: ThreadAccount,
}

impl WatchedThread {
    fn new(pid: u32, tid: u32) -> WatchedThread {
        let file = |name: &str| Kept::new(format!("/proc/{pid}/task/{tid}/{name}"));
        WatchedThread {
            tid,
            schedstat: file("schedstat"),
            stat: file("stat"),
            status: file("status"),
            last: ThreadAccount::default(),
        }
    }

    /// Its account now; `None`: it has ended. `switches`: look at the context switches too, else they are as last time.
    pub fn sample(&mut self, switches: bool) -> Option<ThreadAccount> {
        let mut buffer = [0; 4096];
        let at = monotonic_ns();
        let schedstat = core::str::from_utf8(self.schedstat.read(&mut buffer)?).ok()?;
        let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0));
        let (cpu, delay) = (numbers.next()?, numbers.next()?);
        let line = self.stat.read(&mut buffer)?;
        let fields = fields(line)?;
        let mut account = ThreadAccount {
            at,
            cpu,
            delay,
            state: *fields.first()?.as_bytes().first()?,
            minor_faults: number(&fields, 10)?,
            major_faults: number(&fields, 12)?,
            ..self.last
        };
        if matches!(account.state, b'Z' | b'X') {
            return None;
        }
        if switches && let Some(status) = self.status.read(&mut buffer).and_then(|text| core::str::from_utf8(text).ok())
        {
            for line in status.lines().rev() {
                let Some((key, value)) = line.split_once(':') else { continue };
                match key {
                    "nonvoluntary_ctxt_switches" => account.involuntary = value.trim().parse().unwrap_or(0),
                    "voluntary_ctxt_switches" => {
                        account.voluntary = value.trim().parse().unwrap_or(0);
                        break;
                    }
                    _ => {}
                }
            }
        }
        self.last = account;
        Some(account)
    }
}

/// One process that is watched.
#[derive(Debug)]
pub struct WatchedProcess {
    /// As the kernel numbers it.
    pub pid: u32,
    /// Clock ticks after boot at which it was born.
    pub started: u64,
    /// Its threads that have not ended.
    pub threads: Vec<WatchedThread>,
    stat: Kept,
    page: u64,
    tick: u64,
}

/// What a look at a process gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It lives.
    Alive(Account),
    /// It has ended, with this status as `wait` would give it, and nobody has asked for it yet.
    Zombie(i32),
    /// It is not there any more.
    Gone,
}

impl WatchedProcess {
    /// Begins to watch; `None`: it has gone.
    pub fn new(pid: u32) -> Option<WatchedProcess> {
        // SAFETY: only asks for a constant of the system.
        let tick = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
        let mut process = WatchedProcess {
            pid,
            started: 0,
            threads: Vec::new(),
            stat: Kept::new(format!("/proc/{pid}/stat")),
            page: rustix::param::page_size() as u64,
            tick: 1_000_000_000 / tick,
        };
        let mut buffer = [0; 1024];
        process.started = number(&fields(process.stat.read(&mut buffer)?)?, 22)?;
        Some(process)
    }

    /// The process's account now.
    pub fn sample(&mut self) -> Look {
        let mut buffer = [0; 1024];
        self.read(&mut buffer).unwrap_or(Look::Gone)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<Look> {
        let at = monotonic_ns();
        let line = self.stat.read(buffer)?;
        let fields = fields(line)?;
        if number(&fields, 22) != Some(self.started) {
            return None;
        }
        if matches!(*fields.first()?, "Z" | "X") {
            return Some(Look::Zombie(number(&fields, 52).unwrap_or(0)));
        }
        let (user, system): (u64, u64) = (number(&fields, 14)?, number(&fields, 15)?);
        Some(Look::Alive(Account {
            at,
            cpu: (user + system) * self.tick,
            system: system * self.tick,
            minor_faults: number(&fields, 10)?,
            major_faults: number(&fields, 12)?,
            resident: number::<u64>(&fields, 24)? * self.page,
        }))
    }

    /// Finds threads that have begun since the last time. Those that end are to be taken off by the caller.
    pub fn find_threads(&mut self) {
        for tid in thread_ids(self.pid) {
            if !self.threads.iter().any(|thread| thread.tid == tid) {
                self.threads.push(WatchedThread::new(self.pid, tid));
            }
        }
    }

    /// Bytes that it shares with nobody. Costs the kernel a walk over its page tables: not to be asked often.
    pub fn private(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let mut bytes = 0;
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("Private_Clean:").or_else(|| line.strip_prefix("Private_Dirty:")) {
                bytes += value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024;
            }
        }
        Some(bytes)
    }
}

fn thread_ids(pid: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

/// Numbers of all processes that can be seen.
pub fn process_ids() -> Vec<u32> {
    numbers_in("/proc")
}

fn numbers_in(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's parent as the kernel has it, and its command's name.
pub fn parent_of(pid: u32) -> Option<(u32, String)> {
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let from = line.iter().position(|&byte| byte == b'(')? + 1;
    let to = line.iter().rposition(|&byte| byte == b')')?;
    let name = String::from_utf8_lossy(line.get(from..to)?).into_owned();
    Some((number(&fields(&line)?, 4)?, name))
}

/// A process's arguments.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    text.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The monotonic nanosecond that is `started` clock ticks after boot. Coarse: ticks are of 10 ms.
pub fn when_started(started: u64) -> u64 {
    // SAFETY: only asks for a constant of the system.
    let tick = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot = boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64;
    // The clock of `started` goes on while the machine is suspended, the monotonic one does not.
    let suspended = boot.saturating_sub(monotonic_ns());
    (started * (1_000_000_000 / tick)).saturating_sub(suspended)
}

/// Waits until `fd` (negative: nothing) is readable, for at most `milliseconds`, or until a signal comes.
pub fn is_readable(fd: i32, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd on the stack; the kernel ignores negative descriptors.
    let found = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
    found > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_find_ourselves() {
        let me = std::process::id();
        assert!(process_ids().contains(&me));
        let mut process = WatchedProcess::new(me).unwrap();
        let Look::Alive(account) = process.sample() else { panic!("we live") };
        assert!(account.resident > 0);
        process.find_threads();
        assert!(process.threads.iter_mut().any(|thread| thread.sample(true).is_some()));
        let born = when_started(process.started);
        assert!(born < monotonic_ns() && parent_of(me).is_some() && !command_line(me).is_empty());
    }

    #[test]
    fn a_process_that_has_ended_is_a_zombie_and_then_gone() {
        let mut command = std::process::Command::new("sh");
        let mut child = command.args(["-c", "read x; exit 3"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut process = WatchedProcess::new(child.id()).unwrap();
        assert!(matches!(process.sample(), Look::Alive(_)));
        drop(child.stdin.take());
        let status = loop {
            match process.sample() {
                Look::Zombie(status) => break status,
                Look::Alive(_) => std::thread::yield_now(),
                Look::Gone => panic!("nobody has waited for it"),
            }
        };
        assert_eq!(status, 3 << 8);
        child.wait().unwrap();
        assert_eq!(process.sample(), Look::Gone);
    }
}

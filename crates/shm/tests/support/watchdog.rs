//! Ends a test program of many processes that hangs, and says what everybody was doing.
//!
//! The signal handler only starts the program anew as a reporter, which then has all the time and
//! memory that it needs: it writes down each process of the family, where it waits in the kernel,
//! on which lock or event (with the word as it is now, and the file and offset that it lies at,
//! which are equal in all processes), the return addresses on its stack, and a backtrace where
//! there is gdb. A traced process is woken from its sleep, so that comes last.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

/// First argument of the program when it is started to report.
const REPORT: &str = "--what-is-everybody-doing";
/// For so many seconds the reporter may take.
const REPORT_SECONDS: libc::c_uint = 60;
/// So many processes are looked at closely.
const MOST: usize = 12;

/// Ends everything, loudly, unless called again within `seconds`; 0 for never.
pub fn watchdog(seconds: u32) {
    // SAFETY: installs a handler that only makes calls which handlers may make.
    unsafe {
        libc::signal(libc::SIGALRM, hang as *const () as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

/// What the program is about to do, in a few letters: the name that the report (and `ps`) shows for
/// this process, and for those that it forks from now on.
pub fn about_to(what: &str) {
    let mut name = [0u8; 16];
    let len = what.len().min(15);
    name[..len].copy_from_slice(&what.as_bytes()[..len]);
    // SAFETY: a system call about ourselves, with a string that ends in a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

extern "C" fn hang(_: libc::c_int) {
    let text = b"\nHANG: the watchdog ran out; the seed is above\n";
    // SAFETY: system calls only. The child is made without `fork`, which runs handlers of the C
    // library that may wait for the very thread that was interrupted; it does nothing but exec. The
    // test's other processes go with this one (PDEATHSIG).
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(REPORT_SECONDS);
        let none = 0usize;
        let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD as usize, none, none, none, none);
        if child == 0 {
            let program = c"/proc/self/exe".as_ptr();
            let arguments = [program, c"--what-is-everybody-doing".as_ptr(), core::ptr::null()];
            libc::execv(program, arguments.as_ptr());
            libc::_exit(1);
        }
        libc::waitpid(child as libc::pid_t, core::ptr::null_mut(), 0);
        libc::_exit(9);
    }
}

/// Whether this process was started to report; then it has done so.
pub fn reported() -> bool {
    let wanted = std::env::args().nth(1).as_deref() == Some(REPORT);
    if wanted {
        let root = std::os::unix::process::parent_id() as i32;
        eprint!("{}", report(root));
        for process in family(root).iter().filter(|process| process.state != "Z").take(MOST) {
            eprint!("{}", backtrace(process.pid));
        }
    }
    wanted
}

struct Process {
    pid: i32,
    parent: i32,
    name: String,
    state: String,
}

fn processes() -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold blanks and parentheses.
        let (before, after) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split(' ');
        let state = fields.next()?.to_owned();
        Some(Process { pid, parent: fields.next()?.parse().ok()?, name: name.to_owned(), state })
    })
    .collect()
}

/// Process `root` and all that stem from it, but for this one.
fn family(root: i32) -> Vec<Process> {
    let all = processes();
    let parent_of = |pid: i32| all.iter().find(|process| process.pid == pid).map(|process| process.parent);
    let stems = |process: &Process| {
        let line = std::iter::successors(Some(process.pid), |&pid| parent_of(pid));
        line.take(100).any(|pid| pid == root) && process.pid != std::process::id() as i32
    };
    let wanted: Vec<bool> = all.iter().map(stems).collect();
    all.into_iter().zip(wanted).filter_map(|(process, wanted)| wanted.then_some(process)).collect()
}

/// What the program of process `root` and all that stem from it are doing, as `/proc` says it.
pub fn report(root: i32) -> String {
    let family = family(root);
    let living: Vec<&Process> = family.iter().filter(|process| process.state != "Z").collect();
    let mut text = format!(
        "HANG: {} processes that live, {} zombies; names say what the program was about to do when it forked them\n",
        living.len(),
        family.len() - living.len()
    );
    for process in living.iter().take(MOST) {
        let Process { pid, parent, name, state } = process;
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let _ = writeln!(text, "HANG: {pid} (of {parent}) '{name}' {state}, in the kernel: {wchan}");
        describe(&mut text, *pid);
    }
    text
}

/// A mapping of a process.
struct Mapping {
    start: u64,
    end: u64,
    executable: bool,
    offset: u64,
    file: String,
}

fn mappings(pid: i32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let executable = fields.next()?.contains('x');
            let offset = hex(fields.next()?)?;
            let file = fields.nth(2).unwrap_or("").rsplit('/').next()?.to_owned();
            Some(Mapping { start: hex(start)?, end: hex(end)?, executable, offset, file })
        })
        .collect()
}

/// The system call that a process is in, with the words that it sleeps on, and its stack.
fn describe(text: &mut String, pid: i32) {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let words: Vec<u64> = call
        .split_ascii_whitespace()
        .filter_map(|word| match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => word.parse().ok(),
        })
        .collect();
    let maps = mappings(pid);
    let place = |address: u64| {
        let found = maps.iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
        found.map(|mapping| (mapping, format!("{}+{:#x}", mapping.file, address - mapping.start + mapping.offset)))
    };
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return };
    let [number, arguments @ .., stack, _] = words.as_slice() else {
        let _ = writeln!(text, "HANG:   system call: {}", call.trim());
        return;
    };
    let _ = write!(text, "HANG:   system call {number}");
    if *number == libc::SYS_futex as u64 && arguments.len() > 3 {
        let mut word = [0; 4];
        let _ = memory.read_at(&mut word, arguments[0]);
        let at = place(arguments[0]).map_or_else(|| "nowhere".to_owned(), |(_, at)| at);
        let how = if arguments[3] == 0 { "for ever" } else { "with a timeout" };
        let (word, expected) = (u32::from_ne_bytes(word), arguments[2] as u32);
        let _ =
            write!(text, ": futex at {at}, expects {expected:#x}, is {word:#x} (tid {}), {how}", word & 0x3fff_ffff);
    }
    let mut bytes = [0; 8192];
    let len = memory.read_at(&mut bytes, *stack).unwrap_or(0);
    let returns = bytes[..len]
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
        .filter_map(|word| place(word).filter(|(mapping, _)| mapping.executable))
        .take(16);
    let _ = write!(text, "\nHANG:   stack:");
    for (_, at) in returns {
        let _ = write!(text, " {at}");
    }
    text.push('\n');
}

/// Where a process stands in its source, if there is gdb. Wakes it from a sleep.
fn backtrace(pid: i32) -> String {
    let output = Command::new("timeout")
        .args(["15", "gdb", "-p", &pid.to_string(), "-batch", "-ex", "bt 14"])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else { return String::new() };
    let mut text = format!("HANG: {pid}, by gdb:\n");
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('#')) {
        let _ = writeln!(text, "HANG:   {line}");
    }
    text
}

//! A run as it was recorded: what the supervisor has collected from the rings, and what the kernel said.
//!
//! The supervisor (the process of the `breakeven why` command) starts the program, empties the rings of its processes now
//! and then, samples the kernel's accounts of all their threads, and makes one [`Recording`] of it at the end. A recording
//! can be saved and read back; everything else (attribution, findings, predictions, exports) is a pure function of it.

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// What was run, and how it ended.
    pub program: Program,
    /// Monotonic nanosecond at which the supervisor started the program.
    pub start: u64,
    /// Monotonic nanosecond at which the program had ended.
    pub end: u64,
    /// Cores that the program could use (affinity and cgroup quota).
    pub cores: u32,
    /// What this machine charges; none if it could not be measured.
    pub charges: Option<Charges>,
    /// CPU seconds that the supervisor took while the program ran.
    pub supervisor_seconds: f64,
    /// The program's processes, its first one first, then in the order of their births.
    pub processes: Vec<Process>,
}

/// What was run, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Program {
    /// As the user typed it, without ours: `["script.py", "--fast"]`, `["-m", "package"]`.
    pub argv: Vec<String>,
    /// The interpreter's version.
    pub python: String,
    /// The working directory.
    pub directory: String,
    /// Exit code; negative: the signal that ended it; none: unknown.
    pub exit_code: Option<i32>,
    /// Wall-clock time of the start, seconds since 1970.
    pub started: f64,
    /// `plain`, or `breakeven` for `why --run`.
    pub transport: String,
}

/// What the machine charges, measured with plain CPython primitives on the machine that ran the program. Seconds. The
/// supervisor's measurement, kept in the user's cache with the boot id; `breakeven_plan::MachineCharges` is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Charges {
    /// `Process.start` and `join` of an empty target, fork.
    pub fork: f64,
    /// The same with forkserver, the server being up.
    pub forkserver: f64,
    /// The same with spawn.
    pub spawn: f64,
    /// A thread's start and join.
    pub thread: f64,
    /// One small message through an `mp.SimpleQueue`, both sides' CPU time.
    pub message: f64,
    /// The same through an `mp.Queue` with its feeder thread.
    pub queue_message: f64,
    /// One byte through a pipe, both sides' CPU time.
    pub pipe_byte: f64,
    /// Pickling and unpickling a byte of a large bytes object or array.
    pub pickle_byte: f64,
    /// One task through `Pool.imap` with chunksize 1, wall time in a saturated pool of one worker.
    pub pool_task: f64,
    /// One task through a `ProcessPoolExecutor`, the same.
    pub executor_task: f64,
    /// From waking a sleeping process until it runs.
    pub wake: f64,
    /// The first touch of a fresh page.
    pub page_fault: f64,
    /// A manager's round trip.
    pub manager_call: f64,
    /// An uncontended `acquire` and `release` of an `mp.Lock`.
    pub lock: f64,
    /// The same, with CPU time of both, where two processes do so all the time.
    #[serde(default = "typical_lock_shared")]
    pub lock_shared: f64,
    /// An interpreter that starts, imports `multiprocessing`, and ends.
    #[serde(default = "typical_interpreter")]
    pub interpreter: f64,
    /// The first write to a page that a forked child shares with its parent: it is copied.
    #[serde(default = "typical_page_copy")]
    pub page_copy: f64,
    /// Giving a page back.
    #[serde(default = "typical_page_free")]
    pub page_free: f64,
}

fn typical_interpreter() -> f64 {
    27e-3
}

fn typical_lock_shared() -> f64 {
    0.6e-6
}

fn typical_page_free() -> f64 {
    0.2e-6
}

fn typical_page_copy() -> f64 {
    4.5e-6
}

/// One process of the run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// As the kernel numbers it.
    pub pid: u32,
    /// The process of the run that asked for it (with forkserver not the one that the kernel calls parent); 0: the first.
    pub parent: u32,
    /// Its name: multiprocessing's, or that of the command.
    pub name: String,
    /// How it was started: `main`, `fork`, `spawn`, `forkserver`, `loky`, `other` (a child without hooks, such as a
    /// compiler or the resource tracker).
    pub method: String,
    /// Monotonic nanosecond of its birth.
    pub start: u64,
    /// Monotonic nanosecond of its end (of the recording, if it was still there).
    pub end: u64,
    /// Exit code; negative: signal; none: unknown.
    pub exit_code: Option<i32>,
    /// Its records, by their begin.
    pub records: Vec<Record>,
    /// What `site` and `name` refer to; entry 0 is empty. A site is `file:line`, or `file:line function`.
    pub strings: Vec<String>,
    /// Records that found the ring full.
    pub dropped: u64,
    /// Its threads, the first one first.
    pub threads: Vec<Thread>,
    /// Memory and faults over time, oldest first. The last one is the state at the end, as exactly as it could be had.
    pub samples: Vec<ProcessSample>,
}

/// One thread of a process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thread {
    /// As the kernel numbers it.
    pub tid: u32,
    /// What it is for.
    pub role: Role,
    /// Its name in Python, if it has one.
    pub name: String,
    /// Its account over time, oldest first; cumulative.
    pub samples: Vec<ThreadSample>,
}

/// What a thread is for. The program's own threads have no role of the standard library's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The first thread of its process.
    #[default]
    Main,
    /// Started by the program: `threading.Thread`.
    User,
    /// A worker of a `ThreadPool` or `ThreadPoolExecutor`.
    ThreadWorker,
    /// The feeder of a `multiprocessing.Queue`.
    Feeder,
    /// `Pool`'s thread that starts and replaces workers.
    WorkerHandler,
    /// `Pool`'s thread that pickles and sends tasks.
    TaskHandler,
    /// `Pool`'s thread that receives and unpickles results.
    ResultHandler,
    /// `ProcessPoolExecutor`'s manager thread.
    ExecutorManager,
    /// A manager server's thread.
    ManagerServer,
    /// Not Python's: a BLAS or OpenMP pool's, or another library's.
    Native,
}

impl Role {
    /// Every role with the name that `Thread` records carry.
    pub const NAMES: [(Self, &'static str); 10] = [
        (Self::Main, "main"),
        (Self::User, "user"),
        (Self::ThreadWorker, "thread_worker"),
        (Self::Feeder, "feeder"),
        (Self::WorkerHandler, "worker_handler"),
        (Self::TaskHandler, "task_handler"),
        (Self::ResultHandler, "result_handler"),
        (Self::ExecutorManager, "executor_manager"),
        (Self::ManagerServer, "manager_server"),
        (Self::Native, "native"),
    ];

    /// The role's name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(role, _)| *role == self).map_or("main", |(_, name)| name)
    }

    /// The role with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }
}

/// A thread's account at a moment, from `/proc/PID/task/TID/{schedstat,stat}`. Cumulative since the thread's begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadSample {
    /// Monotonic nanosecond.
    pub at: u64,
    /// Nanoseconds on a CPU.
    pub cpu: u64,
    /// Nanoseconds runnable, but not running (`schedstat`'s second number).
    pub delay: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Context switches of its own will: it waited for something.
    pub voluntary: u64,
    /// Context switches against its will: somebody else's turn.
    pub involuntary: u64,
    /// `R`, `S`, `D` ...: the kernel's letter.
    pub state: u8,
}

/// A process's account at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessSample {
    /// Monotonic nanosecond.
    pub at: u64,
    /// CPU nanoseconds of all its threads, those that have ended included.
    pub cpu: u64,
    /// Of these, in the kernel (from clock ticks: coarse).
    pub system: u64,
    /// Page faults without disk, all threads.
    pub minor_faults: u64,
    /// Page faults with disk, all threads.
    pub major_faults: u64,
    /// Bytes in memory.
    pub resident: u64,
    /// Bytes in memory that it shares with nobody; 0 where that was not looked at.
    pub private: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back() {
        for (role, name) in Role::NAMES {
            assert_eq!(role.name(), name);
            assert_eq!(Role::from_name(name), Some(role));
        }
        assert_eq!(Role::from_name("nobody"), None);
    }
}

//! What a recording says: the contract between the analysis, which makes a [`Report`], and everything that shows one.
//!
//! As JSON this is what `breakeven why --json` writes (docs/why-json.md has the schema; [`Report::SCHEMA`] is its version).
//! Fields are added, never renamed: somebody's script reads them. Times are seconds; moments are seconds after the start.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::recording::{Charges, Program};

/// A run, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this form, [`Report::SCHEMA`].
    pub schema: u32,
    /// breakeven's version.
    pub version: String,
    /// What was run, and how it ended.
    pub program: Program,
    /// Cores that the program could use.
    pub cores: u32,
    /// Wall-clock seconds of the run.
    pub elapsed: f64,
    /// Seconds of all its processes' lives: the whole that the shares are shares of.
    pub process_seconds: f64,
    /// CPU seconds of all processes.
    pub cpu_seconds: f64,
    /// The verdict.
    pub primary: Primary,
    /// Where the time went, largest first, `compute` among them. The shares add up to 1.
    pub causes: Vec<CauseShare>,
    /// The primary cause explained, and up to two more; empty for a healthy program.
    pub findings: Vec<Finding>,
    /// What could be changed: first what removes the primary cause, then the others, those that gain most first. `serial` is
    /// always among them if it could be predicted.
    pub fixes: Vec<Fix>,
    /// Predicted time of the program by number of workers.
    pub curve: Vec<CurvePoint>,
    /// What the model was given.
    pub workload: Option<WorkloadFacts>,
    /// The processes in the order of their births.
    pub processes: Vec<ProcessReport>,
    /// What the machine charges.
    pub charges: Option<Charges>,
    /// What the recording itself cost.
    pub recorder: Recorder,
    /// Things that the reader should know: dropped records, processes without hooks, a program that was killed.
    pub remarks: Vec<String>,
    /// With `--repeat`: every run of the program, in their order; the rest of the report is that of the run in the middle.
    /// Else empty (`analyze` leaves it so; the command fills it).
    #[serde(default)]
    pub runs: Vec<Run>,
}

impl Report {
    /// Version of the JSON form.
    pub const SCHEMA: u32 = 1;
}

/// One of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// Wall-clock seconds.
    pub elapsed: f64,
    /// CPU seconds of all processes.
    pub cpu_seconds: f64,
    /// Its verdict.
    pub primary: Cause,
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Primary {
    /// The cause; [`Cause::None`] for a healthy program.
    pub cause: Cause,
    /// One sentence in a person's words, with the number and the place.
    pub headline: String,
    /// Seconds that the program would take without it, if that can be said.
    pub without_it: Option<f64>,
}

/// A cause's part of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CauseShare {
    /// The cause.
    pub cause: Cause,
    /// Seconds, over all processes.
    pub core_seconds: f64,
    /// Part of [`Report::process_seconds`], from 0 to 1.
    pub share: f64,
}

/// A cause, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// The cause.
    pub cause: Cause,
    /// Its part of the process-seconds.
    pub share: f64,
    /// Its part in seconds.
    pub core_seconds: f64,
    /// Wall-clock seconds that the run would be shorter without it, as well as the model knows.
    pub costs_seconds: Option<f64>,
    /// One sentence: what happens.
    pub headline: String,
    /// Numbers that show it, one sentence each.
    pub evidence: Vec<String>,
    /// Where in the user's code, the most expensive first.
    pub places: Vec<Place>,
    /// What to do, in a sentence or two.
    pub advice: String,
    /// The change for that very line, as code; `- ` and `+ ` lines.
    pub sketch: Option<String>,
}

/// A place in the user's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Place {
    /// Path, as Python knows it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// The function around it, if known.
    pub function: Option<String>,
    /// The line, if it could be read.
    pub source: Option<String>,
    /// What happens there: "40 tasks of 210 MB".
    pub what: String,
}

/// A change and what it would gain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fix {
    /// What kind of change.
    pub kind: FixKind,
    /// `file:line`, or nothing if it is not at one place.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// Predicted seconds of the whole run.
    pub predicted_seconds: f64,
    /// The interval that the prediction should lie in.
    pub low: f64,
    /// The other end of the interval.
    pub high: f64,
    /// Elapsed over predicted.
    pub predicted_speedup: f64,
    /// One sentence: what to change and why it helps.
    pub explanation: String,
    /// Whether the program's text must be changed; if not, `--verify` can try it.
    pub needs_edit: bool,
    /// With how many workers, where the change is their number.
    #[serde(default)]
    pub workers: Option<u32>,
    /// What `--verify` measured (`analyze` leaves it empty; the command fills it).
    pub measured_seconds: Option<f64>,
}

/// The kinds of change. Names stand in JSON and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FixKind {
    /// The plain loop, in one process.
    Serial,
    /// Threads instead of processes.
    Threads,
    /// Coroutines for waiting work.
    Asyncio,
    /// More items in a task.
    Chunking,
    /// Send once to each worker, by the initializer (or a global, under fork).
    Initializer,
    /// Put large arrays where all processes see them.
    SharedMemory,
    /// Fewer workers.
    FewerWorkers,
    /// More of them (the program used fewer than there are cores).
    MoreWorkers,
    /// Keep BLAS to one thread in each worker.
    LimitBlasThreads,
    /// One pool for the program's life.
    PoolReuse,
    /// Collect results without a manager.
    AvoidManager,
    /// More in one message.
    BatchMessages,
    /// Work shared out otherwise, so that nobody is left with the rest or waited for: smaller or ordered tasks, all handed
    /// over before the first is waited for, less done by the main process or under a lock.
    Rebalance,
    /// NumPy instead of the loop.
    Vectorise,
    /// Processes instead of threads.
    Processes,
    /// `breakeven run`, no edit.
    Run,
}

impl FixKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Serial,
        Self::Threads,
        Self::Asyncio,
        Self::Chunking,
        Self::Initializer,
        Self::SharedMemory,
        Self::FewerWorkers,
        Self::MoreWorkers,
        Self::LimitBlasThreads,
        Self::PoolReuse,
        Self::AvoidManager,
        Self::BatchMessages,
        Self::Rebalance,
        Self::Vectorise,
        Self::Processes,
        Self::Run,
    ];

    /// The kind's name, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Threads => "threads",
            Self::Asyncio => "asyncio",
            Self::Chunking => "chunking",
            Self::Initializer => "initializer",
            Self::SharedMemory => "shared_memory",
            Self::FewerWorkers => "fewer_workers",
            Self::MoreWorkers => "more_workers",
            Self::LimitBlasThreads => "limit_blas_threads",
            Self::PoolReuse => "pool_reuse",
            Self::AvoidManager => "avoid_manager",
            Self::BatchMessages => "batch_messages",
            Self::Rebalance => "rebalance",
            Self::Vectorise => "vectorise",
            Self::Processes => "processes",
            Self::Run => "run",
        }
    }

    /// The kind with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// A point of the break-even curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CurvePoint {
    /// Workers.
    pub workers: u32,
    /// Predicted seconds of the whole run.
    pub seconds: f64,
    /// The interval.
    pub low: f64,
    /// The other end of the interval.
    pub high: f64,
    /// Beyond this machine's cores.
    pub extrapolated: bool,
}

/// What the model was given about the parallel part of the program.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadFacts {
    /// Items, by the tasks' records.
    pub items: u64,
    /// Tasks (messages).
    pub tasks: u64,
    /// Mean seconds of an item by itself.
    pub seconds: f64,
    /// Standard deviation over mean, of tasks.
    pub spread: f64,
    /// Mean bytes of an item's arguments.
    pub bytes_in: f64,
    /// Mean bytes of an item's result.
    pub bytes_out: f64,
    /// Share of the time in which it sleeps or waits for input.
    pub sleep_share: f64,
    /// Wall-clock seconds outside of the parallel part.
    pub outside: f64,
    /// Workers that there were.
    pub workers: u32,
}

/// One process, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessReport {
    /// As the kernel numbers it.
    pub pid: u32,
    /// Who asked for it; 0: the first.
    pub parent: u32,
    /// Its name.
    pub name: String,
    /// `main`, `worker` of a pool or executor, `process`, `manager`, `helper`, `other`.
    pub role: String,
    /// How it was started.
    pub method: String,
    /// Seconds after the run's start.
    pub start: f64,
    /// Seconds after the run's start at which it ended.
    pub end: f64,
    /// Exit code; negative: signal.
    pub exit_code: Option<i32>,
    /// Seconds on a CPU, all threads.
    pub cpu_seconds: f64,
    /// Seconds runnable but not running, all threads.
    pub delay_seconds: f64,
    /// Page faults without disk.
    pub minor_faults: u64,
    /// Page faults with disk.
    pub major_faults: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
    /// Most bytes in memory.
    pub peak_memory: u64,
    /// Most threads at a time.
    pub threads: u32,
    /// BLAS and OpenMP libraries with their numbers of threads.
    pub blas: Vec<(String, u32)>,
    /// Tasks that it ran.
    pub tasks: u64,
    /// Where its time went, largest first.
    pub causes: Vec<CauseShare>,
    /// Its life as slices, one cause each, without gaps, neighbours of one cause merged; at most 2,000 (the shortest give
    /// way to their neighbours).
    pub timeline: Vec<Slice>,
}

/// A stretch of a process's life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Slice {
    /// Seconds after the run's start.
    pub start: f64,
    /// Seconds after the run's start.
    pub end: f64,
    /// What the time went into.
    pub cause: Cause,
}

/// What the recording cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recorder {
    /// Records written.
    pub records: u64,
    /// Records that found their ring full.
    pub dropped: u64,
    /// Seconds in the hooks, in all processes together, by their own measurement.
    pub hook_seconds: f64,
    /// CPU seconds of the supervisor while the program ran.
    pub supervisor_seconds: f64,
    /// Part of the elapsed time that the hooks took, of the cores that the program kept busy.
    pub overhead: f64,
}

#[cfg(test)]
mod tests {
    use super::FixKind;

    #[test]
    fn kinds_have_the_names_that_json_has() {
        for kind in FixKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(FixKind::from_name(kind.name()), Some(*kind));
        }
    }
}

//! Recordings made by hand: for tests that read as specifications, and to try a report without a program.
//!
//! ```
//! use breakeven_trace::build::Build;
//! use breakeven_trace::{Cause, RecordKind, analyze};
//!
//! let mut run = Build::new(2, 10.0);
//! let main = run.main();
//! run.pool(main, 7, "Pool", 2, "script.py:5");
//! run.span(main, RecordKind::Submit, 0.1, 0.1).object(7).link(1).value(2).site("script.py:6");
//! run.span(main, RecordKind::Result, 0.1, 9.9).object(7).link(1);
//! for (number, until) in [(1, 1.1), (2, 9.9)] {
//!     let worker = run.child(main, "fork", 0.1, 10.0);
//!     run.span(worker, RecordKind::Task, 0.1, until).object(7).link(number).busy();
//!     run.span(worker, RecordKind::Recv, until, 10.0).object(3).asleep();
//! }
//! assert_eq!(analyze(&run.finish()).primary.cause, Cause::Imbalance);
//! ```

use crate::record::{Flags, Record, RecordKind};
use crate::recording::{Process, ProcessSample, Recording, Role, Thread, ThreadSample};

/// Nanosecond of the monotonic clock at which built runs start.
pub const START: u64 = 5_000_000_000_000;

/// A recording in the making. Moments are seconds after the start.
#[derive(Debug, Clone)]
pub struct Build {
    recording: Recording,
}

/// A span that was just added, to say more about it.
#[derive(Debug)]
pub struct Span<'a> {
    process: &'a mut Process,
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

impl Build {
    /// A run of so many seconds on so many cores, with its first process.
    pub fn new(cores: u32, seconds: f64) -> Self {
        let end = START + nanoseconds(seconds);
        let main = Process {
            pid: 100,
            name: "MainProcess".to_owned(),
            method: "main".to_owned(),
            start: START,
            end,
            strings: vec![String::new()],
            threads: vec![Thread { tid: 100, ..Thread::default() }],
            ..Process::default()
        };
        Self { recording: Recording { start: START, end, cores, processes: vec![main], ..Recording::default() } }
    }

    /// The first process.
    pub fn main(&self) -> usize {
        0
    }

    /// One more process, asked for by `parent`.
    pub fn child(&mut self, parent: usize, method: &str, begin: f64, end: f64) -> usize {
        let number = self.recording.processes.len();
        let pid = 100 + 50 * number as u32;
        let parent = self.recording.processes[parent].pid;
        self.recording.processes.push(Process {
            pid,
            parent,
            name: format!("Process-{number}"),
            method: method.to_owned(),
            start: START + nanoseconds(begin),
            end: START + nanoseconds(end),
            strings: vec![String::new()],
            threads: vec![Thread { tid: pid, ..Thread::default() }],
            ..Process::default()
        });
        number
    }

    /// One more thread of a process; its number among them (the main thread is 0).
    pub fn thread(&mut self, process: usize, role: Role) -> usize {
        let process = &mut self.recording.processes[process];
        let number = process.threads.len();
        process.threads.push(Thread { tid: process.pid + number as u32, role, ..Thread::default() });
        number
    }

    /// The number of a process, as `Join` and `Start` have it for an object.
    pub fn pid(&self, process: usize) -> u64 {
        u64::from(self.recording.processes[process].pid)
    }

    /// A span of a process's main thread.
    pub fn span(&mut self, process: usize, kind: RecordKind, begin: f64, end: f64) -> Span<'_> {
        self.span_of(process, 0, kind, begin, end)
    }

    /// A span of one of its threads.
    pub fn span_of(&mut self, process: usize, thread: usize, kind: RecordKind, begin: f64, end: f64) -> Span<'_> {
        let process = &mut self.recording.processes[process];
        process.records.push(Record {
            begin: START + nanoseconds(begin),
            end: START + nanoseconds(end),
            cpu: Record::NOT_MEASURED,
            value: 0,
            object: 0,
            link: 0,
            thread: process.threads[thread].tid,
            kind,
            flags: Flags::default(),
            site: 0,
            name: 0,
        });
        Span { process }
    }

    /// A pool that is made in no time.
    pub fn pool(&mut self, process: usize, pool: u64, class: &str, workers: u64, site: &str) {
        self.span(process, RecordKind::Pool, 0.0, 0.0).object(pool).value(workers).name(class).site(site);
    }

    /// What the kernel says of a thread at a moment: seconds on a core and seconds runnable, since it began.
    pub fn sample(&mut self, process: usize, thread: usize, at: f64, cpu: f64, delay: f64) -> &mut ThreadSample {
        let samples = &mut self.recording.processes[process].threads[thread].samples;
        samples.push(ThreadSample {
            at: START + nanoseconds(at),
            cpu: nanoseconds(cpu),
            delay: nanoseconds(delay),
            state: b'S',
            ..ThreadSample::default()
        });
        let last = samples.len() - 1;
        &mut samples[last]
    }

    /// What the kernel says of a process at a moment.
    pub fn memory(&mut self, process: usize, at: f64, resident: u64, private: u64) {
        let at = START + nanoseconds(at);
        let sample = ProcessSample { at, resident, private, ..ProcessSample::default() };
        self.recording.processes[process].samples.push(sample);
    }

    /// The recording, to change what has no function here.
    pub fn recording(&mut self) -> &mut Recording {
        &mut self.recording
    }

    /// Done: records in the order of their begins.
    pub fn finish(mut self) -> Recording {
        for process in &mut self.recording.processes {
            process.records.sort_by_key(|record| record.begin);
        }
        self.recording
    }
}

impl Span<'_> {
    fn record(&mut self) -> &mut Record {
        let last = self.process.records.len() - 1;
        &mut self.process.records[last]
    }

    fn string(&mut self, text: &str) -> u32 {
        let strings = &mut self.process.strings;
        let known = strings.iter().position(|string| string == text);
        known.unwrap_or_else(|| {
            strings.push(text.to_owned());
            strings.len() - 1
        }) as u32
    }

    /// All of it on a core.
    pub fn busy(mut self) -> Self {
        let record = self.record();
        record.cpu = record.duration();
        self
    }

    /// None of it on a core.
    pub fn asleep(mut self) -> Self {
        self.record().cpu = 0;
        self
    }

    /// So many seconds of it on a core.
    pub fn cpu(mut self, seconds: f64) -> Self {
        self.record().cpu = nanoseconds(seconds);
        self
    }

    /// Bytes, items or a count.
    pub fn value(mut self, value: u64) -> Self {
        self.record().value = value;
        self
    }

    /// The queue, pipe, lock, pool or process.
    pub fn object(mut self, object: u64) -> Self {
        self.record().object = object;
        self
    }

    /// The task or message.
    pub fn link(mut self, link: u64) -> Self {
        self.record().link = link;
        self
    }

    /// A type, function or method.
    pub fn name(mut self, name: &str) -> Self {
        self.record().name = self.string(name);
        self
    }

    /// `file:line`.
    pub fn site(mut self, site: &str) -> Self {
        self.record().site = self.string(site);
        self
    }
}

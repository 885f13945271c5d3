//! One cause for each moment of each process; and for each moment of the run, what its end depended on.
//!
//! A running thread's moment has its span's cause. A waiting one's has that of what the other end is doing at that moment,
//! followed from wait to wait, at most [`DEPTH`] of them: who waits for each other in a circle waits for a message that is
//! on its way.
//!
//! Two accounts come out:
//!
//! - [`Account::causes`]: each process's life by cause. They add up to the whole.
//! - [`Account::path`]: the first process's life by cause, its waits followed: what the run's *end* depended on, moment by
//!   moment. In stretches in which the program fills all cores, the end depends on all that runs, so these are divided by
//!   what ran.

use std::collections::BTreeMap;

use crate::cause::Cause;
use crate::pairing::{Pairs, Target, text};
use crate::record::{Record, RecordKind};
use crate::recording::{Charges, Recording, Role};
use crate::timeline::{Leaf, OWN, ProcessLine, State, Stretch};

/// Number of causes.
pub(crate) const CAUSES: usize = Cause::ALL.len();
/// Waits that are followed one from another.
const DEPTH: u32 = 12;
/// Parts in which one wait is looked at, at most, where the other end does many small things.
const PARTS: u64 = 48;
/// A wait as long as this part of the run gets one of them, a longer one more.
const FINE: f64 = 4096.0;
/// Parts of the run for what is looked at statistically (how many ran at a time).
pub(crate) const BUCKETS: usize = 1024;

/// What a moment of a wait turned out to be.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    cause: Cause,
    /// The process that is to blame.
    process: u32,
    /// Whether it runs code of the program's own there.
    own: bool,
    /// Until when nothing changes.
    until: u64,
    /// Whether somebody does something: not asleep, nor a message on its way.
    active: bool,
    /// Whether it would, had others left it a core.
    late: bool,
}

/// What the end of the run depended on, in one part of it; seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    /// By cause, over the first process's life, waits followed.
    pub path: [f64; CAUSES],
    /// The first process's life, with what somebody else's load made late.
    pub covered: f64,
    /// Of `Compute`: by the first process itself.
    pub own: f64,
    /// Of `Startup`: the first process's own interpreter and imports, which the serial program has too.
    pub boot: f64,
    /// On cores, by cause, over all threads of all processes.
    pub ran: [f64; CAUSES],
    /// Runnable, over all threads.
    pub delayed: f64,
    /// Of the program's own work: running or runnable, over all threads.
    pub could: f64,
    /// Of the program's own work: on cores, by the first process's main thread.
    pub main_ran: f64,
    /// Of `Memory`: page faults of the first process itself, which the serial program has too.
    pub own_memory: f64,
    /// Of `IoWait`: the first process itself sleeps.
    pub own_sleep: f64,
    /// On cores, in threads of libraries (BLAS).
    pub native: f64,
}

impl Part {
    /// Core-seconds that ran.
    pub fn busy(&self) -> f64 {
        self.ran.iter().sum()
    }
}

/// What a line of the user's program had to do with a cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct SiteFacts {
    pub seconds: f64,
    pub bytes: u64,
    pub count: u64,
    pub name: String,
}

/// Both accounts.
#[derive(Debug)]
pub(crate) struct Account {
    /// By process: seconds by cause.
    pub causes: Vec<[f64; CAUSES]>,
    /// By process: its life as slices, neighbours of one cause merged.
    pub slices: Vec<Vec<(u64, u64, Cause)>>,
    /// The run in [`BUCKETS`] parts.
    pub parts: Vec<Part>,
    /// Seconds of a part.
    pub width: f64,
    /// By cause and place (`file:line function`).
    pub sites: BTreeMap<(Cause, String), SiteFacts>,
    /// Steps of following waits: what the bound on the work is tested by.
    pub steps: u64,
}

pub(crate) struct Attributor<'a> {
    pub recording: &'a Recording,
    pub charges: &'a Charges,
    pub lines: &'a [ProcessLine],
    pub pairs: &'a Pairs,
    /// By process: what it is.
    pub roles: &'a [ProcessRole],
    /// The last target of each thread: asked for again and again while a long wait is followed.
    targets: BTreeMap<(u32, u32), (u32, Target)>,
    /// By process and part: how many threads want its interpreter's lock, where it is always held; else 0.
    gil: Vec<BTreeMap<usize, f64>>,
    /// By part of the run: cores in use.
    busy: Vec<f64>,
    steps: u64,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessRole {
    /// The program.
    Main,
    /// Runs tasks of a pool or an executor.
    Worker,
    /// A `Process` of the program's.
    Process,
    /// A manager's server.
    Manager,
    /// The resource tracker and its like.
    Helper,
    /// A child without hooks: a compiler, a shell.
    Other,
}

impl ProcessRole {
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Worker => "worker",
            Self::Process => "process",
            Self::Manager => "manager",
            Self::Helper => "helper",
            Self::Other => "other",
        }
    }

    /// Whether its life is part of the whole: helpers only wait, for the standard library's sake.
    pub fn counts(self) -> bool {
        self != Self::Helper
    }
}

/// A process without records whose number is that of one with records which lived at the same time: the same process, seen
/// by the supervisor before its first record came.
pub(crate) fn is_phantom(recording: &Recording, number: usize) -> bool {
    let this = &recording.processes[number];
    number > 0
        && this.records.is_empty()
        && this.method == "other"
        && recording.processes.iter().any(|other| {
            other.pid == this.pid && !other.records.is_empty() && other.start <= this.end && this.start <= other.end
        })
}

/// Tells what each process is.
pub(crate) fn process_roles(recording: &Recording) -> Vec<ProcessRole> {
    let role = |(number, process): (usize, &crate::recording::Process)| {
        if number == 0 {
            return ProcessRole::Main;
        }
        if is_phantom(recording, number) {
            return ProcessRole::Helper;
        }
        let has = |kinds: &[RecordKind]| process.records.iter().any(|record| kinds.contains(&record.kind));
        let name = process.name.to_lowercase();
        if name.contains("resource_tracker") || name.contains("resource-tracker") || name == "forkserver" {
            ProcessRole::Helper
        } else if has(&[RecordKind::Serve]) || name.contains("manager") && !has(&[RecordKind::Task, RecordKind::Run]) {
            ProcessRole::Manager
        } else if has(&[RecordKind::Run]) {
            ProcessRole::Process
        } else if has(&[RecordKind::Task]) || name.contains("poolworker") || name.contains("loky") {
            ProcessRole::Worker
        } else if process.records.iter().all(|record| record.kind == RecordKind::Cost) && process.method == "other" {
            ProcessRole::Other
        } else if process.method == "forkserver" && !has(&[RecordKind::Born, RecordKind::Boot]) {
            ProcessRole::Helper
        } else {
            ProcessRole::Process
        }
    };
    recording.processes.iter().enumerate().map(role).collect()
}

impl<'a> Attributor<'a> {
    pub fn new(
        recording: &'a Recording,
        charges: &'a Charges,
        lines: &'a [ProcessLine],
        pairs: &'a Pairs,
        roles: &'a [ProcessRole],
    ) -> Self {
        let gil = vec![BTreeMap::new(); lines.len()];
        Self { recording, charges, lines, pairs, roles, targets: BTreeMap::new(), gil, busy: Vec::new(), steps: 0 }
    }

    fn record(&self, process: u32, index: u32) -> &'a Record {
        &self.recording.processes[process as usize].records[index as usize]
    }

    fn width(&self) -> f64 {
        (self.recording.end.saturating_sub(self.recording.start)).max(1) as f64 / BUCKETS as f64
    }

    /// Gives the part of the run and the nanoseconds in it for each part that an interval touches.
    fn spread(&self, begin: u64, end: u64, mut give: impl FnMut(usize, f64)) {
        let (width, start) = (self.width(), self.recording.start);
        let begin = begin.max(start);
        let end = end.min(self.recording.end);
        if begin >= end {
            return;
        }
        let (from, to) = ((begin - start) as f64, (end - start) as f64);
        let last = BUCKETS - 1;
        let (a, b) = (((from / width) as usize).min(last), ((to / width) as usize).min(last));
        for part in a..=b {
            let low = from.max(part as f64 * width);
            let high = if part == last { to } else { to.min((part + 1) as f64 * width) };
            if high > low {
                give(part, high - low);
            }
        }
    }

    /// Is there a span of a kind around a record (itself included)?
    fn within(&self, process: u32, record: u32, kinds: &[RecordKind]) -> bool {
        let mut at = record;
        for _ in 0..32 {
            if at == OWN {
                return false;
            }
            if kinds.contains(&self.record(process, at).kind) {
                return true;
            }
            at = self.lines[process as usize].enclosing[at as usize];
        }
        false
    }

    /// The cause of small work on messages, by what they are for.
    fn small(&self, process: u32, thread: u32, record: u32) -> Cause {
        use RecordKind as K;
        let role = self.lines[process as usize].threads[thread as usize].role;
        if self.roles[process as usize] == ProcessRole::Manager
            || role == Role::ManagerServer
            || self.within(process, record, &[K::Call, K::Serve])
        {
            return Cause::Rpc;
        }
        match role {
            Role::TaskHandler | Role::ResultHandler | Role::ExecutorManager => return Cause::Granularity,
            Role::WorkerHandler => return Cause::Startup,
            Role::Feeder => {
                // An executor's call queue has a feeder too; its messages are tasks.
                return if self.has_pool(process) { Cause::Granularity } else { Cause::QueueContention };
            }
            _ => {}
        }
        // A worker's own queue traffic is its tasks; inside of a task it is the program's.
        if self.roles[process as usize] == ProcessRole::Worker && !self.within(process, record, &[K::Task]) {
            return Cause::Granularity;
        }
        if self.within(process, record, &[K::Put, K::Get, K::LockWait]) {
            return Cause::QueueContention;
        }
        Cause::Granularity
    }

    fn has_pool(&self, process: u32) -> bool {
        self.lines[process as usize]
            .threads
            .iter()
            .any(|thread| matches!(thread.role, Role::ExecutorManager | Role::TaskHandler))
    }

    /// The cause of a running thread's moment.
    fn running(&self, process: u32, thread: u32, leaf: &Leaf) -> Cause {
        use RecordKind as K;
        let line = &self.lines[process as usize];
        let role = line.threads[thread as usize].role;
        let what = self.roles[process as usize];
        if leaf.record == OWN {
            return match role {
                Role::Main | Role::User | Role::ThreadWorker => match what {
                    ProcessRole::Manager => Cause::Rpc,
                    ProcessRole::Worker | ProcessRole::Process if role == Role::Main => self.outside(process, leaf),
                    ProcessRole::Main if role == Role::Main && self.is_launch(process, leaf) => Cause::Startup,
                    _ => Cause::Compute,
                },
                Role::Native => Cause::Compute,
                // A generator's code, or a callback's, runs in the pool's threads; what these do themselves is short.
                Role::TaskHandler | Role::ResultHandler if leaf.run as f64 * 1e-9 > 10.0 * self.charges.message => {
                    Cause::Compute
                }
                _ => self.small(process, thread, OWN),
            };
        }
        let record = self.record(process, leaf.record);
        match record.kind {
            K::Boot | K::Import | K::Initializer | K::Start | K::Pool | K::Close | K::Join => Cause::Startup,
            K::Run | K::Task | K::Produce => Cause::Compute,
            K::Call | K::Serve => Cause::Rpc,
            K::Dump | K::Load | K::Send | K::Recv => self.message(process, thread, leaf.record),
            K::LockWait if self.crowd(process, record) => Cause::Oversubscription,
            K::LockWait => match self.small(process, thread, leaf.record) {
                Cause::Granularity if !self.is_plumbing(process, thread, leaf.record) => Cause::QueueContention,
                cause => cause,
            },
            _ => self.small(process, thread, leaf.record),
        }
    }

    /// Whether a thread's span belongs to the pools' own traffic.
    fn is_plumbing(&self, process: u32, thread: u32, record: u32) -> bool {
        !self.lines[process as usize].threads[thread as usize].is_own()
            || self.roles[process as usize] == ProcessRole::Worker && !self.within(process, record, &[RecordKind::Task])
    }

    /// A barrier at which more processes meet than there are cores.
    fn crowd(&self, process: u32, wait: &Record) -> bool {
        text(self.recording, process, wait.name).contains("Barrier")
            && self.pairs.parties(wait.object) > self.recording.cores.max(1) as usize
    }

    /// Pickling, or moving, or only what each message costs anyway.
    fn message(&self, process: u32, thread: u32, index: u32) -> Cause {
        let record = self.record(process, index);
        let pickles = matches!(record.kind, RecordKind::Dump | RecordKind::Load);
        let took = self.lines[process as usize].exclusive[index as usize] as f64 * 1e-9;
        // A span of one that sent nothing large costs what any message does. The time alone would not do: it may have
        // been interrupted.
        if record.value <= 2048 || record.value < 65_536 && took <= self.charges.message {
            return self.small(process, thread, index);
        }
        if pickles && !is_copying(text(self.recording, process, record.name), record.value, took) {
            Cause::Serialize
        } else {
            Cause::Transfer
        }
    }

    /// The first process before its first span: the interpreter.
    fn is_launch(&self, process: u32, leaf: &Leaf) -> bool {
        let records = &self.recording.processes[process as usize].records;
        let first = records
            .iter()
            .find(|record| !matches!(record.kind, RecordKind::Blas | RecordKind::Cost))
            .map_or(0, |record| record.begin);
        leaf.end <= first && leaf.begin == self.lines[process as usize].begin
    }

    /// A child's own code outside of all spans: before its first task and after its last one it starts and ends, between
    /// tasks it fetches the next.
    fn outside(&self, process: u32, leaf: &Leaf) -> Cause {
        let records = &self.recording.processes[process as usize].records;
        if records.iter().all(|record| record.kind == RecordKind::Cost) {
            return Cause::Compute; // a child without hooks
        }
        let (mut first, mut last) = self.work_span(process);
        if first > last {
            (first, last) = (u64::MAX, 0);
        }
        if leaf.end <= first || leaf.begin >= last { Cause::Startup } else { Cause::Granularity }
    }

    fn work_span(&self, process: u32) -> (u64, u64) {
        self.pairs.work.get(process as usize).copied().unwrap_or((u64::MAX, 0))
    }

    /// Where a waiting thread's moment went.
    fn resolve(&mut self, process: u32, thread: u32, moment: u64, depth: u32) -> Outcome {
        self.steps += 1;
        let lines = self.lines;
        let line = &lines[process as usize].threads[thread as usize];
        let Some(index) = line.leaf_at(moment) else {
            let whole = &lines[process as usize];
            // A feeder comes to life with the first put: until then it is for the thread that will put.
            if thread > 0 && moment < line.begin && whole.begin <= moment && moment < whole.end && depth > 0 {
                let found = self.resolve(process, 0, moment, depth - 1);
                return Outcome { until: found.until.min(line.begin), ..found };
            }
            // Not yet born, or gone: coming up, or winding up.
            let until = if moment < line.begin { line.begin } else { u64::MAX };
            return Outcome { cause: Cause::Startup, process, own: false, until, active: true, late: false };
        };
        let leaf = &line.leaves[index];
        let (state, until) = leaf.state_at(moment);
        self.outcome(process, thread, leaf, state, moment, until, depth)
    }

    #[expect(clippy::too_many_arguments)]
    fn outcome(
        &mut self,
        process: u32,
        thread: u32,
        leaf: &Leaf,
        state: State,
        moment: u64,
        until: u64,
        depth: u32,
    ) -> Outcome {
        let cause = self.running(process, thread, leaf);
        match state {
            State::Running => {
                Outcome { cause, process, own: cause == Cause::Compute, until, active: true, late: false }
            }
            State::Faulting => {
                let cause = if cause == Cause::Compute { Cause::Memory } else { cause };
                Outcome { cause, process, own: false, until, active: true, late: false }
            }
            State::Delayed => {
                let filled = cause == Cause::Compute && self.is_full(moment);
                let cause = if filled { Cause::Oversubscription } else { cause };
                Outcome { cause, process, own: cause == Cause::Compute, until, active: true, late: !filled }
            }
            State::Waiting if depth == 0 => self.in_flight(process, thread, leaf, until),
            State::Waiting => self.waiting(process, thread, leaf, moment, until, depth),
        }
    }

    /// Whether the program itself fills the cores at a moment.
    fn is_full(&self, moment: u64) -> bool {
        let part = (moment.saturating_sub(self.recording.start) as f64 / self.width()) as usize;
        self.busy.get(part.min(BUCKETS - 1)).is_some_and(|busy| *busy >= 0.75 * f64::from(self.recording.cores.max(1)))
    }

    /// Everybody waits for each other: a message is on its way, or somebody was just woken.
    fn in_flight(&self, process: u32, thread: u32, leaf: &Leaf, until: u64) -> Outcome {
        let cause = if leaf.record == OWN {
            Cause::Granularity
        } else if matches!(self.record(process, leaf.record).kind, RecordKind::Recv | RecordKind::Send) {
            self.message(process, thread, leaf.record)
        } else if matches!(self.record(process, leaf.record).kind, RecordKind::Join | RecordKind::Close) {
            Cause::Startup
        } else {
            self.small(process, thread, leaf.record)
        };
        Outcome { cause, process, own: false, until, active: false, late: false }
    }

    fn waiting(&mut self, process: u32, thread: u32, leaf: &Leaf, moment: u64, until: u64, depth: u32) -> Outcome {
        use RecordKind as K;
        let (record, kind) = match leaf.record {
            OWN => (None, None),
            index => (Some(self.record(process, index)), Some(self.record(process, index).kind)),
        };
        let cached = self.targets.get(&(process, thread)).filter(|(of, _)| *of == leaf.record && leaf.record != OWN);
        let target = match cached {
            Some((_, target)) => *target,
            None => {
                let target = self.pairs.target(self.recording, self.lines, process, thread, leaf.record);
                self.targets.insert((process, thread), (leaf.record, target));
                target
            }
        };
        let found = match target {
            Target::Unknown => return self.nobody(process, thread, leaf, moment, until, depth),
            Target::Thread(p, t) if (p, t) == (process, thread) => {
                return self.nobody(process, thread, leaf, moment, until, depth);
            }
            Target::Thread(p, t) => self.resolve(p, t, moment, depth - 1),
            Target::Process(p) => self.of_process(p, moment, depth - 1),
            Target::Task(spot) => self.of_task(process, thread, spot, moment, depth - 1),
        };
        let mut outcome = Outcome { until: found.until.min(until), ..found };
        let Some(record) = record else { return outcome };
        // Bytes on their way: the writer is inside of its `send`, or has ended it.
        if kind == Some(K::Recv) && !outcome.active && record.value > 65_536 {
            outcome.cause = Cause::Transfer;
        }
        if kind == Some(K::LockWait) && outcome.own {
            outcome.own = false;
            outcome.cause = if text(self.recording, process, record.name).contains("Barrier") {
                if self.crowd(process, record) { Cause::Oversubscription } else { Cause::Imbalance }
            } else if self.is_plumbing(process, thread, leaf.record) {
                self.seen_from(process, outcome.process)
            } else if self.pairs.usual_hold(record.object) as f64 * 1e-9 > 50.0 * self.charges.message {
                Cause::NotParallel // not the lock is what costs, but what is done under it
            } else {
                Cause::QueueContention
            };
            return outcome;
        }
        if outcome.own {
            outcome.cause = self.seen_from(process, outcome.process);
        }
        outcome
    }

    /// What another process's own work is to one that waits for it.
    fn seen_from(&self, waiter: u32, worker: u32) -> Cause {
        if waiter == worker || self.pairs.is_ancestor(waiter, worker) {
            Cause::Compute
        } else if self.pairs.is_ancestor(worker, waiter) {
            Cause::SerialFraction
        } else {
            Cause::Imbalance
        }
    }

    fn of_process(&mut self, process: u32, moment: u64, depth: u32) -> Outcome {
        self.steps += 1;
        let lines = self.lines;
        let line = &lines[process as usize];
        let Some(index) = line.stretch_at(moment) else {
            let until = if moment < line.begin { line.begin } else { u64::MAX };
            return Outcome { cause: Cause::Startup, process, own: false, until, active: true, late: false };
        };
        let stretch = line.stretches[index];
        let leaf = &line.threads[stretch.thread as usize].leaves[stretch.leaf as usize];
        self.outcome(process, stretch.thread, leaf, stretch.state, moment, stretch.end, depth)
    }

    /// A result at a moment: its worker, until it has sent it; then the thread that takes it in.
    fn of_task(&mut self, waiter: u32, thread: u32, task: crate::pairing::Spot, moment: u64, depth: u32) -> Outcome {
        let lines = self.lines;
        let line = &lines[task.process as usize].threads[task.thread as usize];
        let mut sends = moment < task.end;
        if !sends && let Some(index) = line.leaf_at(moment) {
            let record = line.leaves[index].record;
            use RecordKind as K;
            let kinds = [K::Dump, K::Send, K::Put, K::LockWait];
            sends = record != OWN && self.within(task.process, record, &kinds);
        }
        if sends {
            return self.resolve(task.process, task.thread, moment, depth);
        }
        let taker = lines[waiter as usize].threads.iter().position(|thread| {
            matches!(thread.role, Role::ResultHandler | Role::ExecutorManager)
                && thread.begin <= moment
                && moment < thread.end
        });
        if let Some(taker) = taker
            && taker as u32 != thread
            && let Some(index) = lines[waiter as usize].threads[taker].leaf_at(moment)
        {
            let leaf = &lines[waiter as usize].threads[taker].leaves[index];
            let (state, until) = leaf.state_at(moment);
            if state != State::Waiting {
                return self.outcome(waiter, taker as u32, leaf, state, moment, until, depth);
            }
            return Outcome {
                cause: Cause::Granularity,
                process: waiter,
                own: false,
                until,
                active: false,
                late: false,
            };
        }
        Outcome { cause: Cause::Granularity, process: waiter, own: false, until: u64::MAX, active: false, late: false }
    }

    /// Asleep with nobody to wait for.
    fn nobody(&mut self, process: u32, thread: u32, leaf: &Leaf, moment: u64, until: u64, depth: u32) -> Outcome {
        use RecordKind as K;
        let lines = self.lines;
        // A parent that sleeps while its children work waits for them, whatever it calls.
        let pairs = self.pairs;
        let mut fallback = until;
        if depth > 1 && (leaf.record == OWN || leaf.waits) {
            let alive = pairs.children[process as usize].iter().copied().filter(|&child| {
                let line = &lines[child as usize];
                line.begin <= moment
                    && moment < line.end
                    && matches!(self.roles[child as usize], ProcessRole::Worker | ProcessRole::Process)
            });
            let children: Vec<u32> = alive.take(64).collect();
            for child in children {
                let line = &lines[child as usize];
                let Some(index) = line.stretch_at(moment) else { continue };
                let stretch = line.stretches[index];
                fallback = fallback.min(stretch.end);
                if stretch.state != State::Waiting {
                    let leaf = &line.threads[stretch.thread as usize].leaves[stretch.leaf as usize];
                    let found =
                        self.outcome(child, stretch.thread, leaf, stretch.state, moment, stretch.end, depth - 1);
                    return Outcome { until: found.until.min(until), ..found };
                }
            }
        }
        if leaf.record != OWN {
            let kind = self.record(process, leaf.record).kind;
            let cause = match kind {
                K::Boot | K::Import | K::Initializer | K::Start | K::Pool => Some(Cause::Startup),
                K::Join | K::Close => Some(Cause::Startup),
                K::Call => Some(Cause::Rpc),
                K::LockWait => Some(self.running(process, thread, leaf)),
                K::Dump | K::Load => Some(self.message(process, thread, leaf.record)),
                K::Send => Some(self.message(process, thread, leaf.record)),
                _ => None,
            };
            if let Some(cause) = cause {
                return Outcome { cause, process, own: false, until: fallback, active: false, late: false };
            }
        }
        Outcome { cause: Cause::IoWait, process, own: false, until: fallback, active: false, late: false }
    }

    /// Finds out how many run at a time, and out where threads wait for an interpreter's lock.
    fn survey(&mut self, parts: &mut [Part]) {
        let width = self.width();
        let cores = f64::from(self.recording.cores.max(1));
        for (process, line) in self.lines.iter().enumerate().filter(|(process, _)| self.roles[*process].counts()) {
            let python = line.threads.iter().filter(|thread| thread.is_own()).count();
            let mut held: Vec<f64> = Vec::new();
            let mut want: Vec<f64> = Vec::new();
            let mut ask: Vec<f64> = Vec::new();
            let mut helped: Vec<f64> = Vec::new();
            if python > 1 {
                helped.resize(BUCKETS, 0.0);
                ask.resize(BUCKETS, 0.0);
                held.resize(BUCKETS, 0.0);
                want.resize(BUCKETS, 0.0);
            }
            for (number, thread) in line.threads.iter().enumerate() {
                for leaf in &thread.leaves {
                    let cause = self.running(process as u32, number as u32, leaf);
                    let duration = leaf.duration() as f64;
                    let (run, fault) = (leaf.run as f64 / duration, leaf.fault as f64 / duration);
                    let delay = leaf.delay as f64 / duration;
                    // A thread that asks for the lock again and again, rather than sleeping until something comes.
                    let asks =
                        if thread.restless > 60.0 && !leaf.waits { leaf.asleep() as f64 / duration } else { 0.0 };
                    let is_python = thread.is_own() && !leaf.waits;
                    let (mut spread, native) = (Vec::new(), thread.role == Role::Native);
                    self.spread(leaf.begin, leaf.end, |part, time| spread.push((part, time)));
                    for (part, time) in spread {
                        let seconds = time * 1e-9;
                        if cause == Cause::Compute {
                            let copied = if process == 0 { 0.0 } else { fault };
                            parts[part].ran[Cause::Compute as usize] += seconds * (run - copied);
                            parts[part].ran[Cause::Memory as usize] += seconds * copied;
                            parts[part].could += seconds * (run + delay);
                            if process == 0 && number == 0 {
                                parts[part].main_ran += seconds * run;
                            }
                        } else {
                            parts[part].ran[cause as usize] += seconds * run;
                        }
                        parts[part].delayed += seconds * delay;
                        if native {
                            parts[part].native += seconds * run;
                            if let Some(helped) = helped.get_mut(part) {
                                *helped += time * run / width;
                            }
                        }
                        if python > 1 && thread.role != Role::Native {
                            held[part] += time * run / width;
                            if is_python {
                                want[part] += time * (run + delay + asks) / width;
                                ask[part] += time * asks / width;
                            }
                        }
                    }
                }
            }
            for part in 0..held.len() {
                // One at a time runs, or would if others left it a core; and there are some that ask.
                // Where a library's threads run, it is these that the others wait for.
                let one = held[part] < 1.25 && want[part] - ask[part] > 0.7 && helped[part] < 0.25;
                if one && want[part] >= 1.5 && ask[part] > 0.4 {
                    self.gil[process].insert(part, want[part].min(cores));
                }
            }
        }
    }

    /// Makes both accounts.
    pub fn run(mut self) -> Account {
        let mut parts = vec![Part::default(); BUCKETS];
        self.survey(&mut parts);
        let width = self.width() * 1e-9;
        self.busy = parts.iter().map(|part| part.busy() / width.max(1e-12)).collect();
        let mut account = Account {
            causes: vec![[0.0; CAUSES]; self.lines.len()],
            slices: vec![Vec::new(); self.lines.len()],
            parts,
            width,
            sites: BTreeMap::new(),
            steps: 0,
        };
        let lines = self.lines;
        for (process, line) in lines.iter().enumerate() {
            for stretch in &line.stretches {
                self.stretch(process as u32, stretch, &mut account);
            }
        }
        self.places(&mut account);
        account.steps = self.steps;
        account
    }

    /// Books a stretch, waits followed.
    fn stretch(&mut self, process: u32, stretch: &Stretch, account: &mut Account) {
        let lines = self.lines;
        let leaf = &lines[process as usize].threads[stretch.thread as usize].leaves[stretch.leaf as usize];
        // Short waits are looked at once or twice, so that the whole takes no longer than the number of stretches.
        let whole = self.recording.end.saturating_sub(self.recording.start).max(1);
        let share = (stretch.end - stretch.begin) as f64 / whole as f64 * FINE;
        let parts = (share as u64).clamp(2, PARTS);
        let mut at = stretch.begin;
        let mut count = 0;
        while at < stretch.end {
            let found = self.outcome(process, stretch.thread, leaf, stretch.state, at, stretch.end, DEPTH);
            let mut until = found.until.clamp(at + 1, stretch.end);
            count += 1;
            if count >= parts {
                // Many small things: every so often is enough.
                until = until.max(at + (stretch.end - stretch.begin).div_ceil(parts)).min(stretch.end);
            }
            self.book(process, leaf, at, until, &found, account);
            at = until;
        }
    }

    fn book(&mut self, process: u32, leaf: &Leaf, begin: u64, end: u64, found: &Outcome, account: &mut Account) {
        let mut pieces = vec![(begin, end, found.cause)];
        // Where several threads want the interpreter, the moment would be shared out among the cores without its lock.
        if found.cause == Cause::Compute && !self.gil[found.process as usize].is_empty() {
            pieces.clear();
            let mut at = begin;
            let mut bounds = Vec::new();
            self.spread(begin, end, |part, time| bounds.push((part, time)));
            for (part, time) in bounds {
                let to = (at + time.round() as u64).min(end);
                let want = self.gil[found.process as usize].get(&part).copied().unwrap_or(1.0).max(1.0);
                let free = at + ((to - at) as f64 / want) as u64;
                pieces.push((at, free, Cause::Compute));
                pieces.push((free, to, Cause::Gil));
                at = to;
            }
            if at < end {
                pieces.push((at, end, Cause::Compute));
            }
        }
        for (from, to, cause) in pieces {
            if from >= to {
                continue;
            }
            account.causes[process as usize][cause as usize] += (to - from) as f64 * 1e-9;
            let slices = &mut account.slices[process as usize];
            match slices.last_mut() {
                Some(last) if last.2 == cause && last.1 == from => last.1 = to,
                _ => slices.push((from, to, cause)),
            }
            if process == 0 {
                let parts = &mut account.parts;
                self.spread(from, to, |part, time| parts[part].covered += time * 1e-9);
            }
            // Somebody else's load makes everything late; that is no reason to change what is late.
            if process == 0 && !(found.late && found.cause != Cause::Compute) {
                let own = cause == Cause::Compute && found.process == 0;
                let boot = cause == Cause::Startup
                    && found.process == 0
                    && (leaf.record == OWN
                        || matches!(self.record(0, leaf.record).kind, RecordKind::Import | RecordKind::Boot));
                let parts = &mut account.parts;
                self.spread(from, to, |part, time| {
                    let part = &mut parts[part];
                    part.path[cause as usize] += time * 1e-9;
                    if own {
                        part.own += time * 1e-9;
                    }
                    if boot {
                        part.boot += time * 1e-9;
                    }
                    if found.process == 0 && cause == Cause::Memory {
                        part.own_memory += time * 1e-9;
                    }
                    if found.process == 0 && cause == Cause::IoWait {
                        part.own_sleep += time * 1e-9;
                    }
                });
            }
        }
    }

    /// Which lines of the program the seconds of each cause belong to.
    fn places(&self, account: &mut Account) {
        for (process, line) in self.lines.iter().enumerate() {
            let process = process as u32;
            let strings = &self.recording.processes[process as usize].strings;
            // Strings by index first: there are few of them, and many leaves.
            let mut local: BTreeMap<(Cause, u32, u32, Option<u32>), SiteFacts> = BTreeMap::new();
            for (number, thread) in line.threads.iter().enumerate() {
                let mut counted = OWN;
                for leaf in &thread.leaves {
                    if leaf.record == OWN {
                        continue;
                    }
                    let record = self.record(process, leaf.record);
                    let cause = self.running(process, number as u32, leaf);
                    let (mut site, mut at, mut other) = (record.site, leaf.record, None);
                    for _ in 0..16 {
                        if site != 0 || at == OWN {
                            break;
                        }
                        let around = self.record(process, at);
                        site = around.site;
                        if site == 0
                            && around.kind == RecordKind::Task
                            && let Some(spot) = self.pairs.submission(around.object, around.link)
                        {
                            site = self.record(spot.process, spot.record).site;
                            other = Some(spot.process);
                        }
                        at = line.enclosing[at as usize];
                    }
                    let facts = local.entry((cause, site, record.name, other)).or_default();
                    let seconds = if leaf.waits { leaf.run.max(leaf.duration()) } else { leaf.run + leaf.delay };
                    facts.seconds += seconds as f64 * 1e-9;
                    if counted != leaf.record {
                        counted = leaf.record;
                        facts.count += 1;
                        if matches!(
                            record.kind,
                            RecordKind::Dump | RecordKind::Load | RecordKind::Send | RecordKind::Recv
                        ) {
                            facts.bytes = facts.bytes.saturating_add(record.value);
                        }
                    }
                }
            }
            for ((cause, site, name, other), facts) in local {
                let place = match other {
                    Some(other) => text(self.recording, other, site).to_owned(),
                    None => strings.get(site as usize).cloned().unwrap_or_default(),
                };
                let entry = account.sites.entry((cause, place)).or_default();
                if facts.seconds >= entry.seconds && name != 0 {
                    entry.name = strings.get(name as usize).cloned().unwrap_or_default();
                }
                entry.seconds += facts.seconds;
                entry.bytes = entry.bytes.saturating_add(facts.bytes);
                entry.count += facts.count;
            }
        }
    }
}

/// Whether a pickle of a type is nothing but its bytes: arrays and byte strings. Others are known by their speed, which no
/// pickle of objects reaches.
fn is_copying(name: &str, bytes: u64, seconds: f64) -> bool {
    let bare = name.rsplit([':', '.', ' ']).next().unwrap_or(name);
    matches!(bare, "ndarray" | "bytes" | "bytearray" | "array" | "memoryview")
        || bytes >= 65_536 && bytes as f64 > 400e6 * seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Build;
    use crate::timeline;

    /// Two processes that hand a small message back and forth so many times.
    fn ping_pong(messages: u32) -> Recording {
        let mut run = Build::new(2, f64::from(messages) * 1e-4);
        let child = run.child(0, "fork", 0.0, f64::from(messages) * 1e-4);
        for message in 0..messages {
            let at = f64::from(message) * 1e-4;
            for (process, begin, pipe) in [(0, at, 3), (child, at + 5e-5, 4)] {
                run.span(process, RecordKind::Recv, begin, begin + 5e-5).object(7 - pipe).value(50).cpu(1e-5);
                run.span(process, RecordKind::Send, begin + 5e-5, begin + 6e-5).object(pipe).value(50).busy();
            }
        }
        run.finish()
    }

    fn steps(messages: u32) -> u64 {
        let recording = ping_pong(messages);
        let charges = crate::analyze::DEFAULT_CHARGES;
        let lines = timeline::lines(&recording, &charges);
        let pairs = Pairs::new(&recording, &lines);
        let roles = process_roles(&recording);
        Attributor::new(&recording, &charges, &lines, &pairs, &roles).run().steps
    }

    #[test]
    fn the_work_grows_with_the_records_not_faster() {
        let (few, many) = (steps(2_000), steps(16_000));
        assert!(many < 9 * few, "{few} steps for 2,000 messages, {many} for 16,000");
        assert!(many < 100 * 16_000, "{many}");
    }
}

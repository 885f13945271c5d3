//! The plain loop: what the program would take without any parallelism, found in a recording of it with.
//!
//! The serial version of a program is one process with one thread that calls the same functions on the same data:
//!
//! | in the recording | in the plain loop |
//! |---|---|
//! | a task of a pool, an executor or joblib | the call of its function; its result is there |
//! | a `Process` or `Thread` of the program's own | a call of its target |
//! | producers and consumers | their work in turns; what one puts the other gets, without a queue |
//! | an initialiser in each worker | called once |
//! | imports in each interpreter | once, those that only parallelism needs not at all |
//! | a numerical library in several workers at once | it has all cores for itself |
//! | `sleep`, input, other programs | the same, one after the other |
//!
//! So of each thread only the CPU time of the program's own code counts (within tasks, targets and the first process), less
//! what lies beside each call of the standard library's (arguments, methods, our hooks), less what page faults took for
//! copies that only processes make; and what the program's own code slept.

use std::collections::BTreeMap;

use crate::attribute::ProcessRole;
use crate::facts::Facts;
use crate::record::{Record, RecordKind};
use crate::recording::{Charges, Role};
use crate::timeline::{Leaf, OWN, ProcessLine, ThreadLine};

/// The plain loop's seconds, and what is not in them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Serial {
    /// An interpreter comes up, and ends.
    pub launch: f64,
    /// Its imports.
    pub imports: f64,
    /// The first process's own code, outside of tasks.
    pub own: f64,
    /// What each worker's initialiser does, once.
    pub once: f64,
    /// The first process sleeps, outside of tasks.
    pub pause: f64,
    /// CPU time of tasks and targets.
    pub work: f64,
    /// They sleep.
    pub asleep: f64,
    /// CPU time of the transport in workers,
    pub worker_side: f64,
    /// and in the first process.
    pub parent_side: f64,
}

impl Serial {
    pub fn new(facts: &Facts<'_>) -> Self {
        let mut serial = Self::default();
        let beside = Beside::new(facts.charges);
        for number in 0..facts.lines.len() {
            serial.add_process(facts, &beside, number);
        }
        serial.once = facts
            .all(RecordKind::Initializer)
            .map(|(_, record)| if record.cpu == Record::NOT_MEASURED { record.duration() } else { record.cpu })
            .min()
            .unwrap_or(0) as f64
            * 1e-9;
        serial.pause = facts.own_sleep_outside();
        let locks = facts.lock_calls().min(0.9 * serial.work);
        serial.work -= locks;
        serial.worker_side += locks;
        if let Some(spin) = facts.spin {
            serial.own = (serial.own - spin.seconds).max(0.0);
        }
        serial
    }

    /// Before, between and after the work.
    pub fn outside(&self) -> f64 {
        self.launch + self.imports + self.own + self.once + self.pause
    }

    fn add_process(&mut self, facts: &Facts<'_>, beside: &Beside, number: usize) {
        use RecordKind as K;
        let (line, role) = (&facts.lines[number], facts.roles[number]);
        let records = &facts.recording.processes[number].records;
        if role == ProcessRole::Other {
            // Its own clock ticks: nothing else is known of it.
            let ran = facts.recording.processes[number].samples.last().map_or(0, |sample| sample.cpu);
            self.work += ran as f64 * 1e-9;
            return;
        }
        let native: u64 = sum_of(line.threads.iter().filter(|thread| thread.role == Role::Native));
        // A task that waits for its library's threads does not sleep: alone, it would be as fast as they are.
        let helped = native > sum_of(line.threads.iter()) / 8;
        let mut copies = if number == 0 { copied_by_forks(facts) } else { inherited(facts, number) };
        let page = page_copy(facts, number);
        let dearer = page / facts.charges.page_fault.max(1e-12);
        let slowed = slowed(line);
        let forks = facts.recording.processes.iter().filter(|child| child.method == "fork").map(|child| child.start);
        let first_fork = forks.min().unwrap_or(u64::MAX);
        // The recorder's own way to the program's first line, in place of which there is an interpreter's.
        let boot = records.iter().find(|record| record.kind == K::Boot).map_or(0, |boot| boot.end);
        if number == 0 && boot > 0 {
            self.launch += facts.charges.interpreter;
        }
        for (index, thread) in line.threads.iter().enumerate() {
            for (place, leaf) in thread.leaves.iter().enumerate() {
                let record = (leaf.record != OWN).then(|| &records[leaf.record as usize]);
                let kind = record.map(|record| record.kind);
                let run = (leaf.run as f64 * 1e-9 - beside.leaf(records, line, thread, place)).max(0.0);
                // A thread that asks for the interpreter's lock all the time does not sleep.
                let sleeps = if thread.restless > 60.0 || helped { 0.0 } else { leaf.asleep() as f64 * 1e-9 };
                match (number, index, kind) {
                    (0, 0, None) if leaf.end <= boot => {}
                    // The interpreter's end is in its charge; freeing what the program had in memory is not.
                    (0, 0, None) if boot > 0 && place + 1 == thread.leaves.len() => {
                        self.own += (run - 0.5 * facts.charges.interpreter).max(0.0);
                    }
                    // A parent, too, copies what it writes to after a fork.
                    (0, 0, None) if leaf.begin >= first_fork => {
                        let copied = (dearer * leaf.fault as f64 * 1e-9).min(copies).min(run);
                        copies -= copied;
                        self.own += run - copied;
                    }
                    (0, 0, Some(K::Boot)) => {}
                    (0, 0, Some(K::Import)) => {
                        if !facts.is_of_parallelism(leaf.record) {
                            self.imports += run;
                        }
                    }
                    (0, 0, None | Some(K::Task)) | (0, _, Some(K::Produce)) => self.own += run,
                    // A generator's code, or a callback's.
                    (0, _, None)
                        if matches!(thread.role, Role::TaskHandler | Role::ResultHandler)
                            && run > 10.0 * facts.charges.message =>
                    {
                        self.own += run;
                    }
                    (0, _, None) if thread.role == Role::User => {
                        self.work += run;
                        self.asleep += sleeps;
                    }
                    (_, _, Some(K::Task | K::Run)) => {
                        let copied = (dearer * leaf.fault as f64 * 1e-9).min(copies).min(0.95 * run);
                        copies -= copied;
                        self.work += slowed * (run - copied);
                        self.asleep += sleeps;
                    }
                    (0, _, Some(K::Start | K::Pool | K::Close | K::Join)) => {}
                    (0, ..) => self.parent_side += run,
                    (_, _, None | Some(K::Boot | K::Import | K::Initializer)) => {}
                    _ => self.worker_side += run,
                }
            }
        }
    }
}

fn sum_of<'a>(threads: impl Iterator<Item = &'a ThreadLine>) -> u64 {
    threads.flat_map(|thread| &thread.leaves).map(|leaf| leaf.run).sum()
}

/// Seconds that a process takes to copy a page: the charge, or what it spent in the kernel for each, as several that copy
/// at the same time get in each other's way.
fn page_copy(facts: &Facts<'_>, number: usize) -> f64 {
    let charge = facts.charges.page_copy;
    let last = facts.recording.processes[number].samples.last().copied().unwrap_or_default();
    (last.system as f64 * 1e-9 / last.minor_faults.max(1) as f64).clamp(charge, 3.0 * charge)
}

/// What is left of a process's work if its library's threads have the cores for themselves, as a part of it. They work in
/// step, so that they get on only while all of them have a core, and spin while one has none: with a share of `1/f` of the
/// cores each, that is one part in `f` of the time in which each of them runs.
fn slowed(line: &ProcessLine) -> f64 {
    let of = |native: bool, what: fn(&Leaf) -> u64| -> f64 {
        let threads = line.threads.iter().filter(|thread| (thread.role == Role::Native) == native);
        threads.flat_map(|thread| &thread.leaves).map(what).sum::<u64>() as f64
    };
    let (run, own) = (of(true, |leaf| leaf.run), of(false, |leaf| leaf.run));
    if run < 0.125 * (run + own) {
        return 1.0;
    }
    let (share, fold) = ((run / own.max(1.0)).min(1.0), (run + of(true, |leaf| leaf.delay)) / run);
    1.0 - share + share / fold
}

/// Seconds of page faults that a forked child would take to copy all that its parent had in memory.
fn inherited(facts: &Facts<'_>, number: usize) -> f64 {
    let process = &facts.recording.processes[number];
    if process.method != "fork" {
        return 0.0;
    }
    let parent = facts.recording.processes.iter().find(|one| one.pid == process.parent);
    let before = parent.and_then(|parent| parent.samples.iter().rev().find(|sample| sample.at <= process.start));
    let pages = before.map_or(0.0, |sample| sample.resident as f64 / 4096.0);
    // Those that any child copies before it begins are in the charge of a fork.
    let faults = process.samples.last().map_or(0.0, |sample| sample.minor_faults as f64);
    let at_birth = facts.charges.fork / facts.charges.page_copy.max(1e-12);
    pages.min((faults - at_birth).max(0.0)) * page_copy(facts, number)
}

/// The same of the first process, for all its forks.
fn copied_by_forks(facts: &Facts<'_>) -> f64 {
    let samples = &facts.recording.processes[0].samples;
    let forks = facts.recording.processes.iter().filter(|child| child.method == "fork");
    let resident = forks.filter_map(|child| {
        let before = samples.partition_point(|sample| sample.at <= child.start);
        samples.get(before.saturating_sub(1)).map(|sample| sample.resident)
    });
    resident.sum::<u64>() as f64 / 4096.0 * facts.charges.page_copy
}

/// What lies beside the spans of calls in the code that makes them: the call itself, the standard library's way to the
/// place that is recorded, the record.
#[derive(Debug)]
struct Beside {
    seconds: BTreeMap<RecordKind, f64>,
    other: f64,
}

impl Beside {
    fn new(charges: &Charges) -> Self {
        use RecordKind as K;
        // How many times as much as a free lock's two calls, by measurement: a method, a place in the program's code.
        let times = [(K::Result, 15.0), (K::Submit, 40.0), (K::Call, 25.0)].into_iter();
        let times = times.chain([K::Dump, K::Load, K::Send, K::Recv].map(|kind| (kind, 13.0)));
        Self { seconds: times.map(|(kind, times)| (kind, times * charges.lock)).collect(), other: 8.0 * charges.lock }
    }

    /// Of one leaf: half of it before a span, half after.
    fn leaf(&self, records: &[Record], line: &ProcessLine, thread: &ThreadLine, place: usize) -> f64 {
        let inner = thread.leaves[place].record;
        let of = |other: Option<&Leaf>| {
            let other = other.map_or(OWN, |leaf| leaf.record);
            if other == OWN || other == inner {
                return 0.0;
            }
            // The outermost of those within this one.
            let mut at = other;
            for _ in 0..32 {
                match line.enclosing[at as usize] {
                    outer if outer == inner => {
                        let kind = records[at as usize].kind;
                        return 0.5 * self.seconds.get(&kind).copied().unwrap_or(self.other);
                    }
                    OWN => return 0.0,
                    outer => at = outer,
                }
            }
            0.0
        };
        let before = place.checked_sub(1).and_then(|before| thread.leaves.get(before));
        of(before) + of(thread.leaves.get(place + 1))
    }
}

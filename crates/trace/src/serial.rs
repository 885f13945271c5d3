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
use crate::recording::{Charges, Process, Role};
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
    /// Of all that: what lies between one call and the next, where there is hardly anything but calls, so that it is hard to
    /// tell from what these cost.
    pub doubt: f64,
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
        let (first, pages) = received(records);
        let mut freed = pages * facts.charges.page_free;
        let forks = facts.recording.processes.iter().filter(|child| child.method == "fork").map(|child| child.start);
        let first_fork = forks.min().unwrap_or(u64::MAX);
        // The recorder's own way to the program's first line, in place of which there is an interpreter's.
        let boot = records.iter().find(|record| record.kind == K::Boot).map_or(0, |boot| boot.end);
        if number == 0 && boot > 0 {
            self.launch += facts.charges.interpreter;
        }
        for (index, thread) in line.threads.iter().enumerate() {
            let (mut between, mut calls) = (0.0, 0.0);
            for (place, leaf) in thread.leaves.iter().enumerate() {
                let record = (leaf.record != OWN).then(|| &records[leaf.record as usize]);
                let kind = record.map(|record| record.kind);
                let call = beside.leaf(records, line, thread, place);
                let run = (leaf.run as f64 * 1e-9 - call).max(0.0);
                if call > 0.0 && thread.is_own() {
                    between += run;
                    calls += call;
                }
                let run = if matches!(kind, None | Some(K::Task | K::Run)) && thread.is_own() && leaf.begin >= first {
                    let part = freed.min(run);
                    freed -= part;
                    run - part
                } else {
                    run
                };
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
            if calls > 0.25 * (calls + between) {
                self.doubt += 0.9 * between;
            }
        }
    }
}

/// Pages of large messages that a process received, and when it had the first: their memory goes back to the system, each
/// time, in the midst of the program's own code.
fn received(records: &[Record]) -> (u64, f64) {
    let large = records.iter().filter(|record| record.kind == RecordKind::Recv && record.value >= LARGE);
    large.fold((u64::MAX, 0.0), |(first, pages), record| (first.min(record.end), pages + record.value as f64 / 4096.0))
}

/// Bytes from which on memory comes from the system and goes back to it, each time: glibc's threshold.
const LARGE: u64 = 128 << 10;

fn sum_of<'a>(threads: impl Iterator<Item = &'a ThreadLine>) -> u64 {
    threads.flat_map(|thread| &thread.leaves).map(|leaf| leaf.run).sum()
}

/// Seconds that a process takes to copy a page: the charge, or what it spent in the kernel for each, as several that copy
/// at the same time get in each other's way.
fn page_copy(facts: &Facts<'_>, number: usize) -> f64 {
    let charge = facts.charges.page_copy;
    let last = facts.recording.processes[number].samples.last().copied().unwrap_or_default();
    (last.system as f64 * 1e-9 / faults(&facts.recording.processes[number]).max(1.0)).clamp(charge, 3.0 * charge)
}

/// Page faults of a process in its life.
fn faults(process: &Process) -> f64 {
    let threads: u64 = process.threads.iter().filter_map(|one| one.samples.last()).map(|one| one.minor_faults).sum();
    process.samples.last().map_or(0, |sample| sample.minor_faults).max(threads) as f64
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
    let faults = faults(process);
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

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::report::FixKind;
    use crate::{RecordKind as K, analyze};

    fn serial(run: Build) -> f64 {
        let report = analyze(&run.finish());
        report.fixes.iter().find(|fix| fix.kind == FixKind::Serial).expect("always there").predicted_seconds
    }

    #[test]
    fn the_recorders_way_to_the_program_is_an_interpreters_start() {
        let mut run = Build::new(2, 3.0);
        run.span(0, K::Boot, 0.9, 1.0);
        let child = run.child(0, "fork", 1.0, 3.0);
        run.span(child, K::Run, 1.0, 3.0).busy();
        let pid = run.pid(child);
        run.span(0, K::Join, 1.0, 3.0).object(pid).asleep();
        let expected = 2.0 + crate::analyze::DEFAULT_CHARGES.interpreter;
        let serial = serial(run);
        assert!((serial - expected).abs() < 1e-3, "{serial}");
    }

    #[test]
    fn what_only_parallelism_imports_is_not_imported() {
        let with = |module: &str, place: &str| {
            let mut run = Build::new(2, 2.0);
            run.span(0, K::Import, 0.0, 0.5).name(module).site(place).busy();
            let child = run.child(0, "fork", 0.5, 1.5);
            run.span(child, K::Run, 0.5, 1.5).busy();
            let pid = run.pid(child);
            run.span(0, K::Join, 0.5, 2.0).object(pid).asleep();
            serial(run)
        };
        let (own, lazy) = (with("numpy", "a.py:3 load"), with("multiprocessing.pool", "a.py:9 main"));
        assert!((own - lazy - 0.5).abs() < 1e-6, "{own} {lazy}");
        assert!((with("concurrent.futures.process", "a.py:1") - own).abs() < 1e-6, "a statement of the program's own");
    }

    #[test]
    fn who_sleeps_while_its_threads_work_does_not_pause() {
        let with = |busy: bool| {
            let mut run = Build::new(2, 1.0);
            for step in 0..=10u32 {
                run.sample(0, 0, 0.1 * f64::from(step), 0.0, 0.0).state = b'S';
            }
            let thread = run.thread(0, Role::User);
            for step in 0..=10u32 {
                let at = 0.1 * f64::from(step);
                run.sample(0, thread, at, if busy { at } else { 0.0 }, 0.0);
            }
            serial(run)
        };
        assert!((with(true) - 1.0).abs() < 0.05, "{}", with(true));
        assert!(with(false) > 0.9, "{}", with(false));
    }

    #[test]
    fn gaps_that_are_longer_than_usual_were_interrupted() {
        // 1,000 puts of 2 us with 2 us between them; each hundredth time somebody else runs for 5 ms.
        let mut run = Build::new(2, 0.1);
        let child = run.child(0, "fork", 0.0, 0.055);
        run.span(child, K::Run, 0.0, 0.055);
        let mut at = 0.0;
        for number in 0..1000 {
            at += if number % 100 == 50 { 5e-3 } else { 2e-6 };
            run.span(child, K::Put, at, at + 2e-6).object(3);
            at += 2e-6;
        }
        run.sample(child, 0, 0.055, 8e-3, 47e-3);
        let pid = run.pid(child);
        run.span(0, K::Join, 0.0, 0.1).object(pid).asleep();
        let serial = serial(run);
        assert!(serial < 12e-3, "{serial}");
    }

    #[test]
    fn threads_in_step_spin_while_one_has_no_core() {
        let with = |fold: f64| {
            let mut run = Build::new(2, 4.0);
            for _ in 0..2 {
                let child = run.child(0, "fork", 0.0, 4.0);
                run.span(child, K::Run, 0.0, 4.0).cpu(1.0);
                let native = run.thread(child, Role::Native);
                for number in [0, native] {
                    run.sample(child, number, 0.0, 0.0, 0.0);
                    run.sample(child, number, 4.0, 1.0, fold - 1.0);
                }
            }
            let pid = run.pid(1);
            run.span(0, K::Join, 0.0, 4.0).object(pid).asleep();
            serial(run)
        };
        assert!((with(4.0) - 0.5).abs() < 0.1, "{}", with(4.0));
        assert!((with(1.0) - 2.0).abs() < 0.1, "{}", with(1.0));
    }
}

//! What changes would gain: the break-even model, with what was measured in this run.

use breakeven_plan::StdlibRun;

use crate::attribute::ProcessRole;
use crate::cause::Cause;
use crate::causes;
use crate::facts::Facts;
use crate::record::RecordKind;
use crate::recording::Role;
use crate::report::{CurvePoint, WorkloadFacts};
use crate::timeline::OWN;

/// A run in the model's terms.
pub(crate) struct Model {
    pub run: StdlibRun,
    pub workers: u32,
    pub cores: u32,
    pub facts: WorkloadFacts,
    /// Seconds of the run that the model does not explain.
    pub residual: f64,
    pub elapsed: f64,
}

impl Model {
    pub fn new(facts: &Facts<'_>) -> Self {
        let mut work = 0.0;
        let mut asleep = 0.0;
        let mut outside = 0.0;
        let (mut worker_side, mut parent_side) = (0.0, 0.0);
        for (number, line) in facts.lines.iter().enumerate() {
            let role = facts.roles[number];
            let records = &facts.recording.processes[number].records;
            // Pages that a forked child writes first are copies that a single process would not make.
            let ours = line.threads.iter().filter(|thread| thread.role == Role::Native);
            let native: u64 = ours.flat_map(|thread| &thread.leaves).map(|leaf| leaf.run).sum();
            // A task that waits for its library's threads does not sleep: alone, it would be as fast as they are.
            let all: u64 = line.threads.iter().flat_map(|thread| &thread.leaves).map(|leaf| leaf.run).sum();
            let helped = native > all / 8;
            let mut copies = if number == 0 { 0.0 } else { inherited(facts, number) };
            for (index, thread) in line.threads.iter().enumerate() {
                for (place, leaf) in thread.leaves.iter().enumerate() {
                    // What a call costs around its span is not the work's.
                    let called = thread.leaves.get(place + 1).is_some_and(|next| {
                        next.record != leaf.record
                            && next.record != OWN
                            && line.enclosing[next.record as usize] == leaf.record
                    });
                    let run = (leaf.run as f64 * 1e-9 - if called { facts.per_call() } else { 0.0 }).max(0.0);
                    let kind = (leaf.record != OWN).then(|| records[leaf.record as usize].kind);
                    let is_task = kind.is_some_and(|kind| matches!(kind, RecordKind::Task | RecordKind::Run));
                    // A thread that asks for the interpreter's lock all the time does not sleep.
                    let sleeps = if thread.restless > 60.0 || helped { 0.0 } else { leaf.asleep() as f64 * 1e-9 };
                    match (number, index, kind) {
                        (0, _, Some(RecordKind::Produce)) => outside += run,
                        // Its `Boot` is the recorder's.
                        (0, 0, None | Some(RecordKind::Import | RecordKind::Task)) => outside += run,
                        (0, _, Some(RecordKind::Boot)) => {}
                        // A generator's code, or a callback's.
                        (0, _, None)
                            if matches!(thread.role, Role::TaskHandler | Role::ResultHandler)
                                && run > 10.0 * facts.charges.message =>
                        {
                            outside += run;
                        }
                        (0, _, None) if thread.role == Role::User => {
                            work += run;
                            asleep += sleeps;
                        }
                        _ if is_task => {
                            let copied = (leaf.fault as f64 * 1e-9).min(copies);
                            copies -= copied;
                            work += run - copied;
                            asleep += sleeps;
                        }
                        (_, _, None) if role == ProcessRole::Other => work += run,
                        (0, _, Some(RecordKind::Start | RecordKind::Pool | RecordKind::Close | RecordKind::Join)) => {}
                        (0, ..) => parent_side += run,
                        (_, _, Some(RecordKind::Boot | RecordKind::Import | RecordKind::Initializer)) => {}
                        (_, _, None) => {}
                        _ => worker_side += run,
                    }
                }
            }
        }
        // The serial program loads once what workers load each.
        let once = facts
            .all(RecordKind::Initializer)
            .map(|(_, record)| if record.cpu == u64::MAX { record.duration() } else { record.cpu })
            .min()
            .unwrap_or(0) as f64
            * 1e-9;
        outside += once + facts.own_sleep_outside();
        if let Some(spin) = facts.spin {
            outside = (outside - spin.seconds).max(0.0);
        }
        let locks = facts.free_locks().min(0.9 * work);
        work -= locks;
        worker_side += locks;
        let pool = facts.main_pool();
        let units = facts.units.len() as u64;
        let workers = pool.map_or(units as usize, |pool| pool.workers.max(facts.started_workers())).max(1) as u32;
        // Processes that only wait do so many times, and each of these could be waited for at the same time.
        let waits: u64 = if 2.0 * work < asleep { facts.units.iter().map(|unit| unit.waits).sum() } else { 0 };
        let tasks = pool.map_or(units.max(waits), |pool| pool.tasks).max(1);
        let items = pool.map_or(tasks, |pool| pool.items.max(pool.tasks)).max(1);
        let startup = causes::gain(facts, Cause::Startup);
        let started = facts.recording.processes.len().saturating_sub(1).max(1) as f64;
        let longest = pool.map_or_else(
            || facts.units.iter().map(|unit| unit.work).fold(0.0, f64::max),
            |pool| pool.longest.min((work + asleep) * pool.longest / pool.seconds.max(1e-9)),
        );
        let run = StdlibRun {
            outside,
            work,
            sleep: asleep,
            tasks,
            longest,
            start: startup / started.max(f64::from(workers)),
            worker_side,
            parent_side,
        };
        let (mut bytes_in, mut bytes_out) = (0.0, 0.0);
        for (process, record) in facts.all(RecordKind::Dump) {
            if process == 0 {
                bytes_in += record.value as f64;
            } else {
                bytes_out += record.value as f64;
            }
        }
        let cores = facts.recording.cores.max(1);
        let elapsed = facts.elapsed;
        let residual = elapsed - run.processes(workers, cores);
        let workload = WorkloadFacts {
            items,
            tasks,
            seconds: (work + asleep) / items as f64,
            spread: pool.map_or(0.0, crate::facts::PoolFacts::spread),
            bytes_in: bytes_in / items as f64,
            bytes_out: bytes_out / items as f64,
            sleep_share: if work + asleep > 0.0 { asleep / (work + asleep) } else { 0.0 },
            outside,
            workers,
        };
        Self { run, workers, cores, facts: workload, residual, elapsed }
    }

    /// The whole run with so many workers: the model, and what of this run it does not explain.
    pub fn with_workers(&self, workers: u32) -> f64 {
        self.run.processes(workers, self.cores) + self.residual.max(0.0)
    }

    pub fn curve(&self) -> Vec<CurvePoint> {
        // Each number on small machines, ever larger steps on large ones.
        let mut points: Vec<u32> = (1..=self.cores.min(16)).collect();
        points.extend((5..16).map(|power| 1 << power).take_while(|more| *more < self.cores));
        let cores = self.cores;
        for more in [cores, cores.saturating_mul(2), cores.saturating_mul(4), self.workers] {
            if !points.contains(&more) {
                points.push(more);
            }
        }
        points.sort_unstable();
        let point = |workers| {
            let seconds = if workers == self.workers { self.elapsed } else { self.with_workers(workers) };
            let far = (f64::from(workers) / f64::from(self.workers)).ln().abs();
            let (low, high) = interval(seconds, self.elapsed, 0.05 + 0.05 * far, self.residual);
            CurvePoint { workers, seconds, low, high, extrapolated: workers > self.cores }
        };
        points.into_iter().map(point).collect()
    }
}

/// Seconds of page faults that a forked child would take to copy all that its parent had in memory.
fn inherited(facts: &Facts<'_>, number: usize) -> f64 {
    let process = &facts.recording.processes[number];
    if process.method != "fork" {
        return 0.0;
    }
    let parent = facts.recording.processes.iter().find(|one| one.pid == process.parent);
    let before = parent.and_then(|parent| parent.samples.iter().rev().find(|sample| sample.at <= process.start));
    before.map_or(0.0, |sample| sample.resident as f64 / 4096.0 * facts.charges.page_fault)
}

/// Where a prediction should lie: its own error, and a share of what is unexplained.
pub(crate) fn interval(seconds: f64, elapsed: f64, error: f64, residual: f64) -> (f64, f64) {
    let half = error * seconds.max(0.2 * elapsed) + 0.25 * residual.abs().min(seconds);
    ((seconds - half).max(0.0), seconds + half)
}

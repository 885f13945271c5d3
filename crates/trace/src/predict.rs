//! What changes would gain: the break-even model, with what was measured in this run.

use breakeven_plan::StdlibRun;

use crate::cause::Cause;
use crate::causes;
use crate::facts::Facts;
use crate::record::RecordKind;
use crate::report::{CurvePoint, WorkloadFacts};
use crate::serial::Serial;

/// A run in the model's terms.
pub(crate) struct Model {
    pub run: StdlibRun,
    pub workers: u32,
    pub cores: u32,
    pub facts: WorkloadFacts,
    /// Seconds of the run that the model does not explain.
    pub residual: f64,
    /// Seconds of the plain loop that may be calls' own cost.
    pub doubt: f64,
    pub elapsed: f64,
}

impl Model {
    pub fn new(facts: &Facts<'_>) -> Self {
        let serial = Serial::new(facts);
        let Serial { work, asleep, worker_side, parent_side, .. } = serial;
        let outside = serial.outside();
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
        Self { run, workers, cores, facts: workload, residual, doubt: serial.doubt, elapsed }
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

/// Where a prediction should lie: its own error, and a share of what is unexplained.
pub(crate) fn interval(seconds: f64, elapsed: f64, error: f64, residual: f64) -> (f64, f64) {
    let half = error * seconds.max(0.2 * elapsed) + 0.25 * residual.abs().min(seconds);
    ((seconds - half).max(0.0), seconds + half)
}

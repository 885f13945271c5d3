//! What could be changed, and what each change would gain.
//!
//! The first change is the one that removes the primary cause; the others follow, those that gain most first. A change that
//! gains nothing is not proposed; the plain loop always is, as something to compare with.

use breakeven_plan::StdlibRun;

use crate::cause::Cause;
use crate::causes::{self, bytes, count, seconds};
use crate::facts::{Facts, Shape, at_line};
use crate::predict::{Model, interval};
use crate::record::RecordKind;
use crate::report::{Fix, FixKind};

/// What is worth proposing: this part of the elapsed time.
const WORTH: f64 = 0.05;

/// The changes, the one that removes the primary cause first.
pub(crate) fn fixes(facts: &Facts<'_>, model: &Model, primary: Cause) -> Vec<Fix> {
    let mut maker = Maker { facts, model, fixes: Vec::new() };
    if !facts.parallel {
        maker.add(Change::new(
            FixKind::Serial,
            facts.elapsed,
            0.02,
            "The program is the plain loop already.".to_owned(),
        ));
        return maker.fixes;
    }
    maker.serial();
    maker.waiting();
    maker.granularity();
    maker.bytes();
    maker.startup();
    maker.workers();
    maker.threads();
    maker.messages();
    maker.shares();
    maker.memory();
    maker.run();
    maker.ordered(primary)
}

/// A change that is proposed.
struct Change {
    kind: FixKind,
    place: Option<String>,
    predicted: f64,
    /// Relative error of the prediction.
    error: f64,
    workers: Option<u32>,
    needs_edit: bool,
    text: String,
}

impl Change {
    fn new(kind: FixKind, predicted: f64, error: f64, text: String) -> Self {
        Self { kind, place: None, predicted, error, workers: None, needs_edit: true, text }
    }

    fn at(self, place: Option<String>) -> Self {
        Self { place, ..self }
    }

    fn workers(self, workers: u32) -> Self {
        Self { workers: Some(workers), ..self }
    }

    fn without_edit(self) -> Self {
        Self { needs_edit: false, ..self }
    }
}

struct Maker<'f, 'a> {
    facts: &'f Facts<'a>,
    model: &'f Model,
    fixes: Vec<Fix>,
}

impl Maker<'_, '_> {
    fn add(&mut self, change: Change) {
        let elapsed = self.facts.elapsed;
        let predicted = change.predicted.max(0.0);
        if !matches!(change.kind, FixKind::Serial | FixKind::Run) && predicted > 0.98 * elapsed {
            return;
        }
        let residual = if change.kind == FixKind::Serial { 0.0 } else { self.model.residual };
        let (mut low, high) = interval(predicted, elapsed, change.error, residual);
        if change.kind == FixKind::Serial {
            low = (low - self.model.doubt).max(0.0);
        }
        if change.kind != FixKind::Serial && self.facts.parallel {
            // What is left can be less than what the cause was seen to cost: down to the work itself.
            low = low.min(self.floor());
        }
        self.fixes.push(Fix {
            kind: change.kind,
            place: change.place,
            predicted_seconds: predicted,
            low,
            high,
            predicted_speedup: if predicted > 0.0 { elapsed / predicted } else { 1.0 },
            explanation: change.text,
            needs_edit: change.needs_edit,
            workers: change.workers,
            measured_seconds: None,
        });
    }

    /// The work on all cores, and nothing that parallelism costs.
    fn floor(&self) -> f64 {
        let run = &self.model.run;
        run.outside + run.work / f64::from(self.model.cores)
    }

    fn gain(&self, cause: Cause) -> f64 {
        causes::gain(self.facts, cause)
    }

    fn is_worth(&self, gain: f64) -> bool {
        gain > WORTH * self.facts.elapsed
    }

    /// The line that hands out the work.
    fn site(&self) -> Option<String> {
        at_line(&self.facts.work_site())
    }

    /// A cause's dearest line; else the one that hands out the work.
    fn dearest(&self, cause: Cause) -> Option<String> {
        let place = self.facts.places(&[cause], |_| String::new()).into_iter().next();
        place.map(|place| format!("{}:{}", place.file, place.line)).or_else(|| self.site())
    }

    /// The run without some of its transport, with as many workers.
    fn with_transport(&self, part: f64) -> f64 {
        let run = &self.model.run;
        let less = StdlibRun { worker_side: part * run.worker_side, parent_side: part * run.parent_side, ..*run };
        less.processes(self.model.workers, self.model.cores)
    }

    fn serial(&mut self) {
        let run = self.model.run;
        let waits =
            if self.is_worth(run.sleep) { format!(", {} of waiting", seconds(run.sleep)) } else { String::new() };
        let text = format!(
            "The plain loop: {} of work{waits} and {} around it, without processes, messages and locks.",
            seconds(run.work),
            seconds(run.outside)
        );
        self.add(Change::new(FixKind::Serial, run.serial(), 0.12, text).at(self.site()));
    }

    fn waiting(&mut self) {
        let (run, model) = (self.model.run, self.model);
        if run.sleep <= 0.5 * (run.work + run.sleep) || !self.is_worth(run.sleep) {
            return;
        }
        let threads = model.facts.tasks.max(model.facts.items).min(64) as u32;
        let time = run.threads(threads, model.cores, 1.0, self.facts.charges.thread);
        if self.facts.main_pool().is_some_and(|pool| pool.in_threads) {
            let text = format!(
                "The tasks mostly wait: {threads} threads instead of {} wait for all of them at the same time.",
                model.workers
            );
            self.add(Change::new(FixKind::MoreWorkers, time, 0.2, text).at(self.site()).workers(threads));
        } else {
            let text = format!("The tasks mostly wait: {threads} threads wait for all of them at the same time.");
            self.add(Change::new(FixKind::Threads, time, 0.2, text).at(self.site()).workers(threads));
        }
        let time = run.threads(u32::MAX, model.cores, 1.0, 0.0);
        let text = "The tasks mostly wait: coroutines wait for all of them at the same time, in one thread.".to_owned();
        self.add(Change::new(FixKind::Asyncio, time, 0.25, text).at(self.site()));
    }

    fn granularity(&mut self) {
        let granular = self.gain(Cause::Granularity);
        let Some(pool) = self.facts.main_pool() else { return };
        let pieces = 4 * pool.workers as u64;
        if !self.is_worth(granular) || pool.tasks <= pieces {
            return;
        }
        let chunk = causes::chunk(self.facts, pool);
        let left = (pool.items.div_ceil(chunk.max(1))) as f64 / pool.tasks as f64;
        let seen = self.facts.elapsed - (1.0 - left) * granular;
        let time = seen.min(self.with_transport(left).max(self.floor()));
        let text = format!(
            "{} are handed over one by one; {chunk} items in each make that {}.",
            count(pool.tasks, "task", "tasks"),
            count(pool.items.div_ceil(chunk.max(1)), "message", "messages")
        );
        let change = Change::new(FixKind::Chunking, time, 0.15, text).at(self.site());
        self.add(change);
        let per_item = pool.seconds / (pool.items as f64).max(1.0);
        if self.facts.items_are_numbers() && per_item < 5e-6 && pool.items >= 10_000 {
            let run = self.model.run;
            let text = format!(
                "{} of {} each are arithmetic on numbers: an array operation does all of them in one call.",
                count(pool.items, "item", "items"),
                seconds(per_item)
            );
            self.add(Change::new(FixKind::Vectorise, run.outside + 0.2 * run.work, 0.5, text).at(self.site()));
        }
    }

    fn bytes(&mut self) {
        let (serialize, transfer) = (self.gain(Cause::Serialize), self.gain(Cause::Transfer));
        let moved = serialize + transfer;
        if !self.is_worth(moved) {
            return;
        }
        let elapsed = self.facts.elapsed;
        if let Some((name, size, site)) = self.facts.repeated_argument() {
            let tasks = self.facts.tasks().max(1);
            let once = (f64::from(self.model.workers) / tasks as f64).min(1.0);
            let text = format!(
                "`{}` ({}) would be sent to each of {} once instead of with each of {}.",
                name.split(':').next().unwrap_or(&name),
                bytes(size as f64),
                count(u64::from(self.model.workers), "worker", "workers"),
                count(tasks, "task", "tasks")
            );
            let change = Change::new(FixKind::Initializer, elapsed - moved * (1.0 - once), 0.2, text);
            self.add(change.at(at_line(&site).or_else(|| self.dearest(Cause::Serialize))));
        } else if self.facts.results_part() > 0.5 && self.is_worth(serialize) && serialize > transfer {
            let text = "Workers that reduce their results (to counts, sums, what is needed of them) send less back."
                .to_owned();
            let change = Change::new(FixKind::Rebalance, elapsed - 0.9 * serialize, 0.2, text);
            self.add(change.at(self.dearest(Cause::Serialize)));
        }
        if self.is_worth(transfer) {
            let text = "Arrays in shared memory are not copied through pipes; their names are sent.".to_owned();
            let change = Change::new(FixKind::SharedMemory, elapsed - 0.9 * transfer, 0.2, text);
            self.add(change.at(self.dearest(Cause::Transfer)));
        }
    }

    fn startup(&mut self) {
        let startup = self.gain(Cause::Startup);
        if !self.is_worth(startup) {
            return;
        }
        let (facts, elapsed, cores) = (self.facts, self.facts.elapsed, self.model.cores);
        let started = facts.started_processes();
        let kept = (f64::from(cores) / (started as f64).max(1.0)).min(1.0);
        let initializers = facts.all(RecordKind::Initializer).count();
        if kept < 0.9 {
            let one_pool = facts.pools.len() == 1 && started <= facts.at_most_alive().max(1);
            let kind = if one_pool { FixKind::FewerWorkers } else { FixKind::PoolReuse };
            let text = format!(
                "{} for the program's life instead of {started}: most of the starting goes away.",
                count(u64::from(cores), "worker", "workers")
            );
            let change = Change::new(kind, elapsed - startup * (1.0 - kept), 0.2, text);
            self.add(change.at(self.site()).workers(cores));
        }
        if initializers > 1 && facts.initializing() > 0.3 * facts.total[Cause::Startup as usize] {
            let text =
                "What the initializer loads is loaded once, before the fork, and inherited by all workers.".to_owned();
            let time = elapsed - startup * (1.0 - 1.0 / initializers as f64);
            self.add(Change::new(FixKind::Initializer, time, 0.25, text).at(self.site()));
        }
    }

    fn workers(&mut self) {
        let (facts, model) = (self.facts, self.model);
        let run = &model.run;
        let crowd = self.gain(Cause::Oversubscription);
        if model.workers > model.cores && run.sleep < 0.3 * (run.work + run.sleep) {
            let time = model.with_workers(model.cores).min(facts.elapsed) - crowd.min(0.5 * facts.elapsed);
            let text =
                format!("{} workers for {} cores: as many as there are cores do the same.", model.workers, model.cores);
            let change = Change::new(FixKind::FewerWorkers, time.max(run.outside), 0.15, text);
            self.add(change.at(self.site()).workers(model.cores));
        }
        let alone = matches!(facts.shape, Some(Shape::OneWorker { .. } | Shape::OneProcess { .. }));
        // Work in threads of the program's own is no question of their number.
        let counted = facts.main_pool().is_some() || !facts.units.is_empty();
        if counted && (alone || model.workers < model.cores) {
            let text = format!(
                "{} for {} cores: more of them share the work.",
                count(u64::from(model.workers), "worker", "workers"),
                model.cores
            );
            let time = (model.with_workers(model.cores)).min(facts.elapsed).max(facts.elapsed - facts.loss_unit);
            let change = Change::new(FixKind::MoreWorkers, time, 0.15, text);
            self.add(change.at(self.site()).workers(model.cores));
        }
        if facts.native > WORTH * facts.elapsed && self.is_worth(crowd) {
            let text = "One thread of the numerical library in each worker leaves the cores to the workers.".to_owned();
            self.add(Change::new(FixKind::LimitBlasThreads, facts.elapsed - crowd, 0.25, text).without_edit());
        }
    }

    fn threads(&mut self) {
        if !self.is_worth(self.gain(Cause::Gil)) {
            return;
        }
        let (facts, model) = (self.facts, self.model);
        let workers = (facts.python_threads() as u32).clamp(2, model.cores.max(2));
        let tasks = model.facts.tasks.max(u64::from(workers));
        let side = facts.charges.pool_task * tasks as f64 / 2.0;
        let run = StdlibRun {
            tasks,
            start: facts.charges.fork,
            worker_side: side,
            parent_side: side,
            sleep: 0.0,
            ..model.run
        };
        let time = run.processes(workers, model.cores).max(facts.elapsed - self.gain(Cause::Gil));
        let text = format!(
            "{} have an interpreter, and a lock, each; what they are given and give back is pickled.",
            count(u64::from(workers), "process", "processes")
        );
        self.add(Change::new(FixKind::Processes, time, 0.2, text).at(self.site()).workers(workers));
    }

    fn messages(&mut self) {
        let elapsed = self.facts.elapsed;
        let rpc = self.gain(Cause::Rpc);
        if self.is_worth(rpc) {
            let text = "Results that are returned need no round trip to the manager for each access.".to_owned();
            let change = Change::new(FixKind::AvoidManager, elapsed - 0.95 * rpc, 0.2, text);
            self.add(change.at(self.dearest(Cause::Rpc)));
        }
        let queues = self.gain(Cause::QueueContention);
        if self.is_worth(queues) {
            let text = "More in one message (or under one lock) shares out what each of them costs.".to_owned();
            let change = Change::new(FixKind::BatchMessages, elapsed - 0.95 * queues, 0.2, text);
            self.add(change.at(self.dearest(Cause::QueueContention)));
        }
    }

    fn shares(&mut self) {
        let elapsed = self.facts.elapsed;
        let (uneven, alone) = (self.gain(Cause::Imbalance), self.gain(Cause::NotParallel));
        let (parent, shape) = (self.gain(Cause::SerialFraction), &self.facts.shape);
        let mut best: Option<Change> = None;
        let mut propose = |gain: f64, place: Option<String>, text: &str| {
            if best.as_ref().is_none_or(|best| elapsed - gain < best.predicted) {
                best = Some(Change::new(FixKind::Rebalance, elapsed - gain, 0.2, text.to_owned()).at(place));
            }
        };
        match shape {
            Some(Shape::PoolPerCall { .. }) if self.is_worth(alone) => {
                let text = "One pool for all calls: its workers are started and ended once.";
                let change = Change::new(FixKind::PoolReuse, elapsed - alone, 0.2, text.to_owned());
                let site = self.facts.shape_site().and_then(at_line);
                self.add(change.at(site.or_else(|| self.site())));
            }
            Some(Shape::OneWorker { .. } | Shape::OneProcess { .. }) | None => {}
            Some(shape) if self.is_worth(alone) => {
                let text = match shape {
                    Shape::Locked { .. } => {
                        "Work that is done before the lock is taken runs on all cores at the same time."
                    }
                    Shape::ProcessByProcess { .. } => {
                        "Processes that are all started before the first is joined run at the same time."
                    }
                    _ => "Tasks that are all handed over before the first result is asked for run at the same time.",
                };
                propose(alone, self.facts.shape_site().and_then(at_line).or_else(|| self.site()), text);
            }
            Some(_) => {}
        }
        if self.is_worth(uneven) {
            let text = "Smaller tasks, the longest of them first, leave no worker idle while another has the rest.";
            propose(uneven, self.site(), text);
        }
        if self.is_worth(parent) {
            let text = "What the main process does for each item is done by the workers, on all cores.";
            propose(parent, self.site(), text);
        }
        if let Some(best) = best {
            self.add(best);
        }
    }

    fn memory(&mut self) {
        let memory = self.gain(Cause::Memory);
        if !self.is_worth(memory) {
            return;
        }
        let time = self.facts.elapsed - 0.9 * memory;
        let change = if self.facts.copies_what_it_inherits() {
            let text = "Readers of an array write no reference counts, so that its pages stay shared.".to_owned();
            Change::new(FixKind::SharedMemory, time, 0.25, text)
        } else {
            let text = "Arrays that each worker makes once and uses again cost their page faults once.".to_owned();
            Change::new(FixKind::Initializer, time, 0.25, text)
        };
        self.add(change.at(self.site()));
    }

    fn run(&mut self) {
        let facts = self.facts;
        let threads_only = facts.main_pool().is_some_and(|pool| pool.in_threads) && facts.started_processes() == 0;
        let threads_only = threads_only || facts.pools.is_empty() && facts.started_processes() == 0;
        if threads_only || facts.recording.program.transport == "breakeven" {
            return;
        }
        let ours = 0.85
            * (self.gain(Cause::Granularity) + self.gain(Cause::QueueContention) + self.gain(Cause::Transfer))
            + 0.3 * self.gain(Cause::Serialize)
            + 0.5 * self.gain(Cause::Startup);
        let time = (facts.elapsed - ours).max(self.floor().min(facts.elapsed));
        let text =
            "The same program on breakeven's queues and pools: messages in shared memory, warm workers.".to_owned();
        self.add(Change::new(FixKind::Run, time, 0.25, text).without_edit());
    }

    /// What removes the primary cause comes first, then what gains most; one of each kind.
    fn ordered(mut self, primary: Cause) -> Vec<Fix> {
        self.fixes.sort_by(|a, b| a.predicted_seconds.total_cmp(&b.predicted_seconds));
        let mut seen = std::collections::BTreeSet::new();
        self.fixes.retain(|fix| seen.insert(fix.kind));
        let gains = |fix: &Fix| fix.predicted_seconds < 0.98 * self.facts.elapsed;
        let cure = cures(self.facts, primary)
            .iter()
            .find_map(|kind| self.fixes.iter().position(|fix| fix.kind == *kind && gains(fix)));
        if let Some(cure) = cure {
            let first = self.fixes.remove(cure);
            self.fixes.insert(0, first);
        }
        self.fixes
    }
}

/// The kinds of change that remove a cause, the one to be thought of first in front.
fn cures(facts: &Facts<'_>, cause: Cause) -> &'static [FixKind] {
    use FixKind as K;
    match cause {
        Cause::Startup => {
            // A pool of its own that is not worth starting is best left away; many that follow each other become one.
            let many = facts.started_processes() > 2 * facts.recording.cores.max(1) as usize;
            if facts.all(RecordKind::Initializer).count() > 1
                && facts.initializing() > 0.3 * facts.total[Cause::Startup as usize]
            {
                &[K::Initializer, K::PoolReuse, K::FewerWorkers]
            } else if many {
                &[K::PoolReuse, K::FewerWorkers]
            } else {
                &[]
            }
        }
        Cause::Serialize => &[K::Initializer, K::Rebalance, K::Serial],
        Cause::Transfer => &[K::Initializer, K::SharedMemory],
        Cause::QueueContention => &[K::BatchMessages],
        Cause::Rpc => &[K::AvoidManager],
        Cause::Granularity => &[K::Chunking, K::BatchMessages],
        Cause::Imbalance | Cause::SerialFraction => &[K::Rebalance, K::Chunking],
        Cause::Oversubscription if facts.crowded => &[K::LimitBlasThreads, K::FewerWorkers],
        Cause::Oversubscription => &[K::FewerWorkers, K::LimitBlasThreads],
        Cause::Gil => &[K::Processes],
        Cause::IoWait => &[K::Threads, K::MoreWorkers, K::Asyncio],
        Cause::Memory => &[K::SharedMemory, K::Initializer],
        Cause::NotParallel => match facts.shape {
            Some(Shape::PoolPerCall { .. }) => &[K::PoolReuse],
            Some(Shape::OneWorker { .. } | Shape::OneProcess { .. }) => &[K::MoreWorkers],
            _ => &[K::Rebalance, K::PoolReuse],
        },
        Cause::Compute | Cause::None => &[],
    }
}

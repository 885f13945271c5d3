//! What changes would gain: the break-even model, with what was measured in this run.

use breakeven_plan::StdlibRun;

use crate::attribute::ProcessRole;
use crate::cause::Cause;
use crate::causes::{self, bytes, count, seconds};
use crate::facts::{Facts, Shape, at_line};
use crate::record::RecordKind;
use crate::recording::Role;
use crate::report::{CurvePoint, Fix, FixKind, WorkloadFacts};
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
    fn with_workers(&self, workers: u32) -> f64 {
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
fn interval(seconds: f64, elapsed: f64, error: f64, residual: f64) -> (f64, f64) {
    let half = error * seconds.max(0.2 * elapsed) + 0.25 * residual.abs().min(seconds);
    ((seconds - half).max(0.0), seconds + half)
}

/// The changes, the most useful first.
pub(crate) fn fixes(facts: &Facts<'_>, model: &Model) -> Vec<Fix> {
    let mut fixes: Vec<Fix> = Vec::new();
    let elapsed = facts.elapsed;
    let run = &model.run;
    let gain = |cause| causes::gain(facts, cause);
    let site =
        facts.main_pool().map(|pool| pool.site.clone()).or_else(|| facts.units.first().map(|unit| unit.site.clone()));
    let site = site.and_then(|site| at_line(&site));
    let dearest = |cause: Cause| {
        let place = facts.places(&[cause], |_| String::new()).into_iter().next();
        place.map(|place| format!("{}:{}", place.file, place.line)).or_else(|| site.clone())
    };
    let mut add =
        |kind, place: Option<String>, predicted: f64, error: f64, workers, needs_edit, explanation: String| {
            let predicted = predicted.max(0.0);
            let (low, high) =
                interval(predicted, elapsed, error, if kind == FixKind::Serial { 0.0 } else { model.residual });
            fixes.push(Fix {
                kind,
                place,
                predicted_seconds: predicted,
                low,
                high,
                predicted_speedup: if predicted > 0.0 { elapsed / predicted } else { 1.0 },
                explanation,
                needs_edit,
                workers,
                measured_seconds: None,
            });
        };
    if !facts.parallel {
        add(FixKind::Serial, None, elapsed, 0.02, None, true, "The program is the plain loop already.".to_owned());
        return fixes;
    }
    let worth = 0.05 * elapsed;
    add(
        FixKind::Serial,
        site.clone(),
        run.serial(),
        0.12,
        None,
        true,
        format!(
            "The plain loop: {} of work{} and {} around it, without processes, messages and locks.",
            seconds(run.work),
            if run.sleep > worth { format!(", {} of waiting", seconds(run.sleep)) } else { String::new() },
            seconds(run.outside)
        ),
    );
    let pool = facts.main_pool();
    if run.sleep > 0.5 * (run.work + run.sleep) && run.sleep > worth {
        let threads = model.facts.tasks.max(model.facts.items).min(64) as u32;
        let time = run.threads(threads, model.cores, 1.0, facts.charges.thread);
        let text = format!("The tasks mostly wait: {threads} threads wait for all of them at the same time.");
        add(FixKind::Threads, site.clone(), time, 0.2, Some(threads), true, text);
        let text = "The tasks mostly wait: coroutines wait for all of them at the same time, in one thread.".to_owned();
        add(FixKind::Asyncio, site.clone(), run.threads(u32::MAX, model.cores, 1.0, 0.0), 0.25, None, true, text);
    }
    let granular = gain(Cause::Granularity);
    if granular > worth && pool.is_some_and(|pool| pool.tasks > 4 * pool.workers as u64) {
        let text = format!(
            "{} are handed over one by one; more in each makes {} of that go away.",
            count(model.facts.tasks, "task", "tasks"),
            seconds(0.95 * granular)
        );
        add(FixKind::Chunking, site.clone(), elapsed - 0.95 * granular, 0.15, None, true, text);
    }
    let moved = gain(Cause::Serialize) + gain(Cause::Transfer);
    let argument = facts.argument();
    if moved > worth && model.facts.bytes_in >= model.facts.bytes_out && model.facts.tasks > u64::from(model.workers) {
        let once = f64::from(model.workers) / model.facts.tasks as f64;
        let (what, place) = match &argument {
            Some((name, size, site)) => {
                (format!("`{}` ({})", name.split(':').next().unwrap_or(name), bytes(*size as f64)), at_line(site))
            }
            None => (format!("The {} of arguments of each task", bytes(model.facts.bytes_in)), None),
        };
        let text = format!("{what} would be sent to each of {} workers once instead of with each task.", model.workers);
        add(
            FixKind::Initializer,
            place.or_else(|| dearest(Cause::Serialize)),
            elapsed - moved * (1.0 - once),
            0.2,
            None,
            true,
            text,
        );
    }
    if gain(Cause::Transfer) > worth {
        let text = "Arrays in shared memory are not copied through pipes; their names are sent.".to_owned();
        let time = elapsed - 0.9 * gain(Cause::Transfer);
        add(FixKind::SharedMemory, dearest(Cause::Transfer), time, 0.2, None, true, text);
    }
    let startup = gain(Cause::Startup);
    let initializers = facts.all(RecordKind::Initializer).count();
    if startup > worth {
        let started = facts.recording.processes.len().saturating_sub(1) as f64;
        let kept = (f64::from(model.cores) / started.max(1.0)).min(1.0);
        if kept < 0.9 {
            let text = format!(
                "{} workers for the program's life instead of {started}: most of the starting goes away.",
                model.cores
            );
            let kind = if matches!(facts.shape, Some(Shape::PoolPerCall { .. }))
                || started > 2.0 * f64::from(model.workers)
                || pool.is_none()
            {
                FixKind::PoolReuse
            } else {
                FixKind::FewerWorkers
            };
            add(kind, site.clone(), elapsed - startup * (1.0 - kept), 0.2, Some(model.cores), true, text);
        }
        if initializers > 1 {
            let text =
                "What the initializer loads is loaded once, before the fork, and inherited by all workers.".to_owned();
            add(
                FixKind::Initializer,
                site.clone(),
                elapsed - startup * (1.0 - 1.0 / initializers as f64),
                0.25,
                None,
                true,
                text,
            );
        }
    }
    if model.workers > model.cores && run.sleep < 0.3 * (run.work + run.sleep) {
        let time = model.with_workers(model.cores).min(elapsed) - gain(Cause::Oversubscription).min(0.5 * elapsed);
        let text =
            format!("{} workers for {} cores: as many as there are cores do the same.", model.workers, model.cores);
        add(FixKind::FewerWorkers, site.clone(), time.max(run.outside), 0.15, Some(model.cores), true, text);
    }
    let alone = matches!(facts.shape, Some(Shape::OneWorker { .. } | Shape::OneProcess { .. }));
    if alone || model.workers < model.cores {
        let text = format!(
            "{} for {} cores: more of them share the work.",
            count(u64::from(model.workers), "worker", "workers"),
            model.cores
        );
        add(
            FixKind::MoreWorkers,
            site.clone(),
            model.with_workers(model.cores).min(elapsed),
            0.15,
            Some(model.cores),
            true,
            text,
        );
    }
    if facts.native > 0.05 * elapsed && gain(Cause::Oversubscription) > worth {
        let text = "One thread of the numerical library in each worker leaves the cores to the workers.".to_owned();
        add(FixKind::LimitBlasThreads, None, elapsed - gain(Cause::Oversubscription), 0.25, None, false, text);
    }
    if gain(Cause::Rpc) > worth {
        let text = "Results that are returned need no round trip to the manager for each access.".to_owned();
        add(FixKind::AvoidManager, dearest(Cause::Rpc), elapsed - 0.9 * gain(Cause::Rpc), 0.2, None, true, text);
    }
    if gain(Cause::QueueContention) > worth {
        let text = "More in one message (or under one lock) shares out what each of them costs.".to_owned();
        let time = elapsed - 0.9 * gain(Cause::QueueContention);
        add(FixKind::BatchMessages, dearest(Cause::QueueContention), time, 0.2, None, true, text);
    }
    let uneven = gain(Cause::Imbalance).max(gain(Cause::NotParallel));
    if uneven > worth {
        let text = "Work that all workers share to the end leaves none of them idle.".to_owned();
        add(FixKind::Rebalance, site.clone(), elapsed - uneven, 0.2, None, true, text);
    }
    let ours = 0.85 * (granular + gain(Cause::QueueContention) + gain(Cause::Transfer))
        + 0.3 * gain(Cause::Serialize)
        + 0.5 * startup;
    let threads_only = pool.is_some_and(|pool| pool.in_threads) && facts.started_workers() == 0;
    if !threads_only && facts.recording.program.transport != "breakeven" {
        let text =
            "The same program on breakeven's queues and pools: messages in shared memory, warm workers.".to_owned();
        add(FixKind::Run, None, elapsed - ours, 0.25, None, false, text);
    }
    // The most useful first.
    fixes.sort_by(|a, b| a.predicted_seconds.total_cmp(&b.predicted_seconds));
    let mut seen = std::collections::BTreeSet::new();
    fixes.retain(|fix| seen.insert(fix.kind));
    fixes
}

//! What the run shows beside its seconds: who was started, what was handed over, where.

use std::collections::BTreeMap;

use crate::attribute::ProcessRole;
use crate::facts::{Facts, Shape};
use crate::record::{Argument, RecordKind};
use crate::recording::Role;

impl Facts<'_> {
    /// The line that hands out the work: of the pool with most of it, of the program's own processes, of its threads.
    pub fn work_site(&self) -> String {
        let pool = self.main_pool().map(|pool| pool.site.clone());
        let unit = || self.units.iter().map(|unit| unit.site.clone()).find(|site| !site.is_empty());
        pool.filter(|site| !site.is_empty()).or_else(unit).or_else(|| self.thread_site()).unwrap_or_default()
    }

    /// The line that starts the program's own threads.
    pub fn thread_site(&self) -> Option<String> {
        let own = self.all(RecordKind::Thread).find(|(process, one)| *process == 0 && one.value == 1 && one.site != 0);
        own.map(|(process, one)| self.text(process, one.site).to_owned())
    }

    /// The place of the shape.
    pub fn shape_site(&self) -> Option<&str> {
        match self.shape.as_ref()? {
            Shape::PoolPerCall { site, .. }
            | Shape::TaskByTask { site, .. }
            | Shape::ProcessByProcess { site, .. }
            | Shape::OneWorker { site, .. }
            | Shape::Locked { site, .. }
            | Shape::OneProcess { site } => (!site.is_empty()).then_some(site),
        }
    }

    /// Threads that the program has for its own work, in the first process.
    pub fn python_threads(&self) -> usize {
        let threads = &self.lines[0].threads;
        threads.iter().filter(|thread| matches!(thread.role, Role::User | Role::ThreadWorker)).count()
    }

    /// Processes that were started for the program's work.
    pub fn started_processes(&self) -> usize {
        self.roles.iter().filter(|role| matches!(role, ProcessRole::Worker | ProcessRole::Process)).count()
    }

    /// Most of them that were alive at the same time.
    pub fn at_most_alive(&self) -> usize {
        let mut events: Vec<(u64, i32)> = Vec::new();
        let works = |role: &ProcessRole| matches!(role, ProcessRole::Worker | ProcessRole::Process);
        for (line, _) in self.lines.iter().zip(self.roles).filter(|(_, role)| works(role)) {
            events.push((line.begin, 1));
            events.push((line.end.max(line.begin.saturating_add(1)), -1));
        }
        events.sort_unstable();
        let (mut now, mut most) = (0i32, 0i32);
        for (_, step) in events {
            now += step;
            most = most.max(now);
        }
        most.max(0) as usize
    }

    /// Seconds of all tasks, and of what the program's own processes did.
    pub fn worked(&self) -> f64 {
        let pools: f64 = self.pools.values().map(|pool| pool.seconds).sum();
        pools + self.units.iter().map(|unit| unit.work).sum::<f64>()
    }

    /// Seconds of all initializers.
    pub fn initializing(&self) -> f64 {
        self.all(RecordKind::Initializer).map(|(_, record)| record.duration() as f64 * 1e-9).sum()
    }

    /// Part of all pickled bytes that workers sent.
    pub fn results_part(&self) -> f64 {
        let (mut all, mut back) = (0.0, 0.0);
        for (process, record) in self.all(RecordKind::Dump) {
            all += record.value as f64;
            if process != 0 {
                back += record.value as f64;
            }
        }
        if all > 0.0 { back / all } else { 0.0 }
    }

    /// The largest argument that goes along with every task: what the function brings with it, or what each submission of a
    /// place is given again. `variable: type`, bytes, and the place. What a map goes through is different for each task.
    pub fn repeated_argument(&self) -> Option<(String, u64, String)> {
        if self.tasks() < 2 || self.results_part() > 0.5 {
            return None;
        }
        let (sent, messages) = self
            .all(RecordKind::Dump)
            .filter(|(process, _)| *process == 0)
            .fold((0.0, 0.0), |(sum, count), (_, record)| (sum + record.value as f64, count + 1.0));
        let worth = 0.2 * sent / f64::max(messages, 1.0);
        // By place and position: (how often it was looked at, one and the same, largest record).
        let mut given: BTreeMap<(usize, u32, u64), Given> = BTreeMap::new();
        for (process, record) in self.all(RecordKind::Argument) {
            let argument = Argument::from_link(record.link);
            let name = self.text(process, record.name);
            if argument.of_map || name.starts_with("items[0]: ") {
                continue;
            }
            let key = (process, record.site, argument.position | u64::from(argument.captured) << 32);
            let entry = given.entry(key).or_insert_with(|| Given {
                seen: 0,
                known: argument.identity,
                same: true,
                captured: argument.captured,
                bytes: 0,
                name: name.to_owned(),
                site: self.text(process, record.site).to_owned(),
            });
            entry.seen += 1;
            entry.same &= entry.known == argument.identity;
            if record.value > entry.bytes {
                entry.bytes = record.value;
                name.clone_into(&mut entry.name);
            }
        }
        let again = |one: &&Given| one.captured || one.same && (one.seen > 1 || one.known == 0);
        let largest =
            given.values().filter(again).filter(|one| one.bytes as f64 > worth).max_by_key(|one| one.bytes)?;
        Some((largest.name.clone(), largest.bytes, largest.site.clone()))
    }

    /// What the map with most tasks goes through is numbers.
    pub fn items_are_numbers(&self) -> bool {
        let numbers = ["int", "float", "range", "numpy.int64", "numpy.float64"];
        self.all(RecordKind::Argument).any(|(process, record)| {
            let class = self.text(process, record.name).rsplit(": ").next().unwrap_or_default().to_owned();
            Argument::from_link(record.link).of_map && numbers.contains(&class.as_str())
        })
    }

    /// Workers take page faults on what they inherited, not on memory that they ask for themselves: no more of them than
    /// the parent had pages.
    pub fn copies_what_it_inherits(&self) -> bool {
        let (mut faults, mut inherited) = (0.0, 0.0);
        for (process, role) in self.recording.processes.iter().zip(self.roles) {
            if !matches!(role, ProcessRole::Worker | ProcessRole::Process) || process.method != "fork" {
                continue;
            }
            let parent = self.recording.processes.iter().find(|one| one.pid == process.parent);
            let before = parent.and_then(|one| one.samples.iter().rev().find(|sample| sample.at <= process.start));
            inherited += before.map_or(0.0, |sample| sample.resident as f64 / 4096.0);
            faults += process.samples.last().map_or(0.0, |sample| sample.minor_faults as f64);
        }
        faults <= 1.5 * inherited
    }
}

/// An argument of a place.
struct Given {
    seen: u64,
    known: u64,
    same: bool,
    captured: bool,
    bytes: u64,
    name: String,
    site: String,
}

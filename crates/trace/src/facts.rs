//! What the causes and the predictions are made of: a run in a few numbers.

use std::collections::BTreeMap;

use crate::attribute::{Account, BUCKETS, CAUSES, ProcessRole, SiteFacts};
use crate::cause::Cause;
use crate::pairing::{Pairs, Spot, text};
use crate::record::{Record, RecordKind};
use crate::recording::{Charges, Recording, Role};
use crate::report::Place;
use crate::timeline::{OWN, ProcessLine};

/// The tasks of one pool or executor.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolFacts {
    pub tasks: u64,
    pub items: u64,
    /// Threads that ran them.
    pub workers: usize,
    /// They are threads of the process that submitted.
    pub in_threads: bool,
    /// Of tasks: wall-clock seconds in all, of the longest, and the sum of squares.
    pub seconds: f64,
    pub longest: f64,
    pub squares: f64,
    /// The line that submits.
    pub site: String,
    /// The function.
    pub function: String,
    /// Class: `Pool`, `ProcessPoolExecutor` ...
    pub class: String,
    pub first: u64,
    pub last: u64,
    /// Whether each submission was of one task and waited for before the next.
    pub one_by_one: bool,
    pub submissions: u64,
}

impl PoolFacts {
    pub fn mean(&self) -> f64 {
        self.seconds / (self.tasks as f64).max(1.0)
    }

    pub fn spread(&self) -> f64 {
        let mean = self.mean();
        if mean <= 0.0 || self.tasks < 2 {
            return 0.0;
        }
        (self.squares / self.tasks as f64 - mean * mean).max(0.0).sqrt() / mean
    }
}

/// The program's shape, where it keeps workers from running at the same time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// A pool for each call: how many, from where.
    PoolPerCall { pools: u64, site: String, class: String },
    /// Each task is waited for before the next is handed over.
    TaskByTask { tasks: u64, site: String, function: String },
    /// Each process is joined before the next is started.
    ProcessByProcess { processes: u64, site: String },
    /// There is one worker only.
    OneWorker { tasks: u64, site: String, class: String },
    /// They hold a lock while they work.
    Locked { class: String, site: String },
    /// There is one process beside the first, which only waits for it.
    OneProcess { site: String },
}

/// A stretch in which the parent looks again and again whether its workers are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spin {
    pub begin: u64,
    pub end: u64,
    pub seconds: f64,
}

/// Everything that is known about a run.
pub(crate) struct Facts<'a> {
    pub recording: &'a Recording,
    pub charges: &'a Charges,
    pub lines: &'a [ProcessLine],
    pub roles: &'a [ProcessRole],
    pub account: &'a Account,
    pub cores: f64,
    pub elapsed: f64,
    pub process_seconds: f64,
    /// By cause, over all processes that count.
    pub total: [f64; CAUSES],
    /// By cause: wall-clock seconds of the run that its end depended on.
    pub path: [f64; CAUSES],
    /// Of `Startup` on the path: the first process's own, which the serial program has too.
    pub boot: f64,
    /// Of `IoWait` on the path: the first process itself sleeps.
    pub own_sleep: f64,
    /// Wall-clock seconds that would be saved if the first process's own code ran on all cores, as far as it can be expected
    /// to: all of it while there is work for others; half of what comes after, as adding up can often be done by workers;
    /// a quarter of what comes before, which is mostly loading.
    pub loss_own: f64,
    /// The same for the work of children and threads.
    pub loss_unit: f64,
    /// On the path: the first process's own code.
    pub own: f64,
    /// That time.
    pub era: (u64, u64),
    /// Page faults on the path, without the first process's.
    pub faults: f64,
    pub pools: BTreeMap<u64, PoolFacts>,
    pub shape: Option<Shape>,
    pub spin: Option<Spin>,
    /// Work by processes and threads of the program's own, without pools.
    pub units: Vec<Unit>,
    /// Whether there is any parallelism.
    pub parallel: bool,
    /// CPU seconds of threads of libraries.
    pub native: f64,
    /// Several workers call a library each of whose calls takes all cores.
    pub crowded: bool,
    /// Seconds runnable, over all threads.
    pub delayed: f64,
    /// Seconds runnable while the program itself did not fill the cores: somebody else's load.
    pub others: f64,
}

/// A process or thread that the program started for its own work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    pub name: String,
    pub begin: u64,
    pub end: u64,
    /// CPU seconds of its own work.
    pub work: f64,
    /// Seconds that it sleeps by itself, and how often it fell asleep.
    pub asleep: f64,
    pub waits: u64,
    pub site: String,
}

impl<'a> Facts<'a> {
    pub fn new(
        recording: &'a Recording,
        charges: &'a Charges,
        lines: &'a [ProcessLine],
        pairs: &'a Pairs,
        roles: &'a [ProcessRole],
        account: &'a Account,
    ) -> Self {
        let elapsed = recording.end.saturating_sub(recording.start) as f64 * 1e-9;
        let mut total = [0.0; CAUSES];
        for (causes, _) in account.causes.iter().zip(roles).filter(|(_, role)| role.counts()) {
            for (sum, seconds) in total.iter_mut().zip(causes) {
                *sum += seconds;
            }
        }
        let mut facts = Self {
            recording,
            charges,
            lines,
            roles,
            account,
            cores: f64::from(recording.cores.max(1)),
            elapsed,
            process_seconds: total.iter().sum(),
            total,
            path: [0.0; CAUSES],
            boot: 0.0,
            own_sleep: 0.0,
            loss_own: 0.0,
            loss_unit: 0.0,
            own: 0.0,
            era: (u64::MAX, 0),
            faults: 0.0,
            pools: pools(recording, pairs, lines),
            shape: None,
            spin: None,
            units: units(recording, lines, roles),
            parallel: false,
            crowded: false,
            native: account.parts.iter().map(|part| part.native).sum(),
            delayed: account.parts.iter().map(|part| part.delayed).sum(),
            others: 0.0,
        };
        let started = recording
            .processes
            .iter()
            .zip(roles)
            .skip(1)
            .any(|(_, role)| matches!(role, ProcessRole::Worker | ProcessRole::Process | ProcessRole::Manager));
        let threads = lines.iter().flat_map(|line| &line.threads).any(|thread| {
            matches!(thread.role, Role::User | Role::ThreadWorker | Role::TaskHandler | Role::ExecutorManager)
        });
        facts.parallel = started || threads || !facts.pools.is_empty();
        let spans = facts.pools.values().map(|pool| (pool.first, pool.last));
        let spans: Vec<_> = spans.chain(facts.units.iter().map(|unit| (unit.begin, unit.end))).collect();
        for (first, last) in spans.into_iter().filter(|(first, last)| first < last) {
            facts.era = (facts.era.0.min(first), facts.era.1.max(last));
        }
        let library = facts.all(RecordKind::Blas).map(|(_, record)| record.value).max().unwrap_or(0) as f64;
        let callers = facts.started_workers().max(facts.units.len()) as f64;
        facts.crowded = callers > 1.0 && library > 1.0 && callers.min(facts.cores) * library > facts.cores;
        facts.shape = facts.find_shape();
        facts.spin = facts.find_spin();
        facts.walk();
        facts
    }

    fn record(&self, spot: (usize, u32)) -> &'a Record {
        &self.recording.processes[spot.0].records[spot.1 as usize]
    }

    /// Goes through the parts of the run: what each of them depended on.
    fn walk(&mut self) {
        let width = self.account.width.max(1e-12);
        let per_part = self.recording.end.saturating_sub(self.recording.start) as f64 / BUCKETS as f64;
        for (number, part) in self.account.parts.iter().enumerate() {
            let moment = self.recording.start as f64 + (number as f64 + 0.5) * per_part;
            let spins = self.spin.is_some_and(|spin| spin.begin as f64 <= moment && moment < spin.end as f64);
            let on_path = part.covered;
            let busy = part.busy();
            let mut ran = part.ran;
            // Threads of libraries that compete for cores with those they help are no help.
            if part.native > 0.0 && (self.crowded || busy + part.delayed > 1.25 * self.cores * width) {
                let native = part.native.min(ran[Cause::Compute as usize]);
                ran[Cause::Compute as usize] -= native;
                ran[Cause::Oversubscription as usize] += native;
            }
            if spins {
                let spun = part.main_ran.min(ran[Cause::Compute as usize]);
                ran[Cause::Compute as usize] -= spun;
                ran[Cause::Oversubscription as usize] += spun;
            }
            // With threads for all cores, the end depends on whatever runs; else on the path.
            let wanted = (busy + part.delayed) / width / self.cores;
            // An interpreter's lock keeps cores free, however many threads ask for it.
            let locked = part.path[Cause::Gil as usize] > 0.0;
            let full =
                if self.cores > 1.0 && busy > 0.0 && !locked { ((wanted - 0.8) / 0.15).clamp(0.0, 1.0) } else { 0.0 };
            for ((sum, ran), path) in self.path.iter_mut().zip(ran).zip(part.path) {
                let mixed = if busy > 0.0 { on_path * ran / busy } else { 0.0 };
                *sum += full * mixed + (1.0 - full) * path;
            }
            let slack = 1.0 - full;
            self.boot += slack * part.boot;
            // Who sleeps while others work waits for them, whatever it calls.
            let others = (busy + part.delayed - part.main_ran).max(0.0) / width;
            self.own_sleep += slack * part.own_sleep * (1.0 - others).max(0.0);
            let faults = if busy > 0.0 { on_path * ran[Cause::Memory as usize] / busy } else { 0.0 };
            self.faults += full * faults + slack * (part.path[Cause::Memory as usize] - part.own_memory).max(0.0);
            let compute = part.path[Cause::Compute as usize] + part.path[Cause::Memory as usize];
            if compute > 0.0 {
                let could = if spins { (part.could - part.main_ran).max(0.0) } else { part.could };
                let at_a_time = (could / compute).clamp(1.0, self.cores);
                let lost = slack * (1.0 - at_a_time / self.cores);
                let own = if spins { 0.0 } else { part.own };
                let (first, last) = (self.era.0 as f64, self.era.1 as f64);
                let movable = match moment {
                    before if before < first => 0.25,
                    after if after > last => 0.5,
                    _ => 1.0,
                };
                self.loss_own += movable * own * lost;
                self.loss_unit += (part.path[Cause::Compute as usize] - own).max(0.0) * lost;
                self.own += own;
            }
            if busy < 0.75 * self.cores * width {
                self.others += part.delayed;
            }
        }
    }

    fn find_shape(&self) -> Option<Shape> {
        // Pools that follow each other in a process, made by the same line.
        let mut made: BTreeMap<(String, String, usize), Vec<(u64, u64)>> = BTreeMap::new();
        for (number, process) in self.recording.processes.iter().enumerate() {
            for record in process.records.iter().filter(|record| record.kind == RecordKind::Pool) {
                let class = text(self.recording, number as u32, record.name).to_owned();
                if class.contains("Thread") {
                    continue;
                }
                let last = self.pools.get(&record.object).map_or(record.end, |pool| pool.last.max(record.end));
                let site = text(self.recording, number as u32, record.site).to_owned();
                made.entry((site, class, number)).or_default().push((record.begin, last));
            }
        }
        let mut lines: BTreeMap<(String, String), (usize, usize, usize)> = BTreeMap::new();
        for ((site, class, _), mut all) in made {
            all.sort_unstable();
            let line = lines.entry((site, class)).or_default();
            line.0 += all.len();
            line.1 += all.len() - 1;
            line.2 += all.windows(2).filter(|pair| pair[0].1 <= pair[1].0).count();
        }
        let most = lines.into_iter().filter(|(_, (made, ..))| *made >= 3).max_by_key(|(_, (made, ..))| *made);
        if let Some(((site, class), (made, pairs, apart))) = most
            && pairs > 0
            && apart * 10 >= pairs * 9
        {
            return Some(Shape::PoolPerCall { pools: made as u64, site, class });
        }
        if self.total[Cause::NotParallel as usize] > 0.2 * self.elapsed {
            let longest = self.all(RecordKind::LockWait).max_by_key(|(_, record)| record.duration());
            let (class, site) = longest.map_or((String::new(), String::new()), |(process, record)| {
                (self.text(process, record.name).to_owned(), self.text(process, record.site).to_owned())
            });
            return Some(Shape::Locked { class, site });
        }
        let busiest = self.pools.values().max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        if let Some(pool) = busiest {
            if pool.one_by_one && pool.submissions >= 3 {
                return Some(Shape::TaskByTask {
                    tasks: pool.tasks,
                    site: pool.site.clone(),
                    function: pool.function.clone(),
                });
            }
            if pool.workers == 1 && pool.tasks >= 2 && self.started_workers() <= 1 {
                return Some(Shape::OneWorker {
                    tasks: pool.tasks,
                    site: pool.site.clone(),
                    class: pool.class.clone(),
                });
            }
            return None;
        }
        let mut units: Vec<&Unit> = self.units.iter().collect();
        units.sort_by_key(|unit| unit.begin);
        if units.len() >= 2 {
            let apart = units.windows(2).filter(|pair| pair[0].end <= pair[1].begin).count();
            if apart * 10 >= (units.len() - 1) * 9 {
                let site = units[0].site.clone();
                return Some(Shape::ProcessByProcess { processes: units.len() as u64, site });
            }
        } else if let [unit] = units[..] {
            return Some(Shape::OneProcess { site: unit.site.clone() });
        }
        None
    }

    /// Workers of pools, whether they got a task or not.
    pub fn started_workers(&self) -> usize {
        let processes = self.roles.iter().filter(|role| **role == ProcessRole::Worker).count();
        let threads = self.lines[0].threads.iter().filter(|thread| thread.role == Role::ThreadWorker).count();
        processes.max(threads)
    }

    /// The first process's main thread runs code of its own until the very moment in which the last of its workers is done,
    /// without looking at any result in between: it looks whether they are done.
    fn find_spin(&self) -> Option<Spin> {
        let tasks = self.pools.values().filter(|pool| !pool.in_threads).map(|pool| pool.last);
        let units = self.units.iter().map(|unit| unit.end);
        let last = tasks.chain(units).max()?;
        let line = &self.lines[0];
        let records = &self.recording.processes[0].records;
        let main = &line.threads.first()?;
        let handed = records.iter().filter(|record| {
            record.thread == main.tid
                && matches!(record.kind, RecordKind::Submit | RecordKind::Start | RecordKind::Pool)
                && record.end < last
        });
        let begin = handed.map(|record| record.end).max()?;
        // Who takes results in between works with them.
        let takes = |kind| matches!(kind, RecordKind::Result | RecordKind::Get | RecordKind::Recv | RecordKind::Join);
        if records.iter().any(|one| one.thread == main.tid && takes(one.kind) && begin < one.begin && one.begin < last)
        {
            return None;
        }
        let span = last.saturating_sub(begin);
        if (span as f64) < 0.1 * self.elapsed * 1e9 {
            return None;
        }
        let (mut ran, mut next) = (0, u64::MAX);
        for leaf in &main.leaves {
            if leaf.record == OWN {
                let (from, to) = (leaf.begin.max(begin), leaf.end.min(last));
                if from < to {
                    ran += (leaf.run.saturating_add(leaf.delay) as f64 * (to - from) as f64 / leaf.duration() as f64)
                        as u64;
                }
            } else if leaf.begin >= last && next == u64::MAX {
                next = leaf.begin;
            }
        }
        let soon = next.saturating_sub(last) < (span / 20).max(5_000_000);
        (ran as f64 >= 0.7 * span as f64 && soon).then_some(Spin { begin, end: last, seconds: ran as f64 * 1e-9 })
    }

    /// Whether an import of the first process's is only there for the sake of parallelism: what the standard library imports
    /// when a pool is made, a queue, a manager. What the program's own `import` statements load, it loads anyway.
    pub fn is_of_parallelism(&self, import: u32) -> bool {
        let record = self.record((0, import));
        let module = self.text(0, record.name);
        if !["multiprocessing.", "concurrent.futures.", "joblib.externals."].iter().any(|of| module.starts_with(of)) {
            return false;
        }
        // `file:line function`: statements of a module have no function. On the line of an import there is no other call.
        let place = self.text(0, record.site);
        let uses = [RecordKind::Pool, RecordKind::Queue, RecordKind::Start, RecordKind::Pipe];
        let used = |one: &&Record| uses.contains(&one.kind) && one.site == record.site;
        place.contains(' ') && !place.ends_with("<module>")
            || self.recording.processes[0].records.iter().find(used).is_some()
            || self.lines[0].enclosing[import as usize] != OWN
    }

    /// Seconds that the first process sleeps by itself, not in tasks that its threads run.
    pub fn own_sleep_outside(&self) -> f64 {
        if self.main_pool().is_some_and(|pool| pool.in_threads) { 0.0 } else { self.own_sleep }
    }

    /// How often locks were free when they were asked for, outside of queues: by process.
    fn free_lock_counts(&self) -> impl Iterator<Item = (usize, f64)> {
        let own = self.recording.processes.iter().enumerate();
        own.filter(|(number, _)| self.roles[*number] != ProcessRole::Manager).map(|(number, process)| {
            let of = |kinds: &'static [RecordKind]| process.records.iter().filter(|one| kinds.contains(&one.kind));
            let free: u64 = of(&[RecordKind::LockFree]).map(|record| record.value).sum();
            // A queue's put or get takes up to two of its own.
            let queues = 2 * of(&[RecordKind::Put, RecordKind::Get]).count() as u64;
            (number, free.saturating_sub(queues) as f64)
        })
    }

    /// CPU seconds of taking and giving back locks that were free, outside of the pools' own traffic.
    pub fn free_locks(&self) -> f64 {
        let taken: f64 = self.free_lock_counts().map(|(_, count)| count).sum();
        (taken * (self.charges.lock + self.per_call())).min(self.process_seconds)
    }

    /// What all of that was in the program's own code, with the way there (`with`, a method): locks that several processes
    /// ask for move from core to core.
    pub fn lock_calls(&self) -> f64 {
        let shared = |number: usize| {
            let line = &self.lines[number];
            let waited = self.recording.processes[number].records.iter().find(|one| {
                one.kind == RecordKind::LockWait
                    && line.by_tid.get(&one.thread).is_some_and(|&thread| line.threads[thread].is_own())
                    && self.text(number, one.name).contains("Lock")
            });
            waited.map(|wait| self.text(number, wait.name))
        };
        let charge = |number| match shared(number) {
            // Who has it takes it again without asking: a `Value` does so twice each time it is counted up.
            Some("RLock") => (self.charges.lock_shared + 2.0 * self.charges.lock) / 3.0,
            Some(_) => self.charges.lock_shared,
            None => self.charges.lock,
        };
        self.free_lock_counts().map(|(number, count)| count * (charge(number) + 2.7 * self.charges.lock)).sum()
    }

    /// What a call of the standard library's costs its caller in the caller's own code, with our hook around it: arguments, a
    /// method of Python's. A part of what a small message takes, so that it is in this machine's measure.
    pub fn per_call(&self) -> f64 {
        0.15 * self.charges.message
    }

    /// Workers that can run at the same time.
    pub fn at_a_time(&self) -> f64 {
        (self.started_workers().max(self.units.len()).max(1) as f64).min(self.cores)
    }

    /// The seconds of a cause, as far as they are the program's own on a machine that has other work: hardly more than it ran,
    /// and what the machine usually charges for waking up. With nothing else to do on the machine, all of them.
    pub fn own_part(&self, cause: Cause, seconds: f64, usual: f64) -> f64 {
        if self.others < 0.15 * self.elapsed {
            return seconds;
        }
        let ran: f64 = self.account.parts.iter().map(|part| part.ran[cause as usize]).sum();
        seconds.min(1.25 * ran + usual)
    }

    /// Tasks in all pools.
    pub fn tasks(&self) -> u64 {
        self.pools.values().map(|pool| pool.tasks).sum()
    }

    /// The pool with the most work.
    pub fn main_pool(&self) -> Option<&PoolFacts> {
        self.pools.values().max_by(|a, b| a.seconds.total_cmp(&b.seconds).then(a.tasks.cmp(&b.tasks)))
    }

    /// The places of a cause, dearest first; those of the program itself only.
    pub fn places(&self, causes: &[Cause], what: impl Fn(&SiteFacts) -> String) -> Vec<Place> {
        let mut merged: BTreeMap<&str, SiteFacts> = BTreeMap::new();
        for ((cause, place), facts) in &self.account.sites {
            if causes.contains(cause) && !place.is_empty() {
                let entry = merged.entry(place).or_default();
                if facts.seconds > entry.seconds {
                    entry.name.clone_from(&facts.name);
                }
                entry.seconds += facts.seconds;
                entry.bytes = entry.bytes.saturating_add(facts.bytes);
                entry.count += facts.count;
            }
        }
        let mut all: Vec<(&str, SiteFacts)> = merged.into_iter().collect();
        all.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        all.into_iter().take(3).filter_map(|(place, facts)| to_place(place, what(&facts))).collect()
    }

    /// Records of a kind in all processes: `(process, record)`.
    pub fn all(&self, kind: RecordKind) -> impl Iterator<Item = (usize, &'a Record)> {
        let processes = &self.recording.processes;
        processes.iter().enumerate().flat_map(move |(number, process)| {
            process.records.iter().filter(move |record| record.kind == kind).map(move |record| (number, record))
        })
    }

    /// A record's text.
    pub fn text(&self, process: usize, index: u32) -> &'a str {
        text(self.recording, process as u32, index)
    }

    /// A spot's site: its own, or that of what encloses it.
    pub fn site_of(&self, process: usize, index: u32) -> String {
        let mut at = index;
        for _ in 0..16 {
            if at == OWN {
                break;
            }
            let record = self.record((process, at));
            if record.site != 0 {
                return self.text(process, record.site).to_owned();
            }
            at = self.lines[process].enclosing[at as usize];
        }
        String::new()
    }
}

fn pools(recording: &Recording, pairs: &Pairs, lines: &[ProcessLine]) -> BTreeMap<u64, PoolFacts> {
    let mut pools: BTreeMap<u64, PoolFacts> = BTreeMap::new();
    for (pool, spots) in pairs.pools() {
        let facts = pools.entry(pool).or_default();
        let mut threads: BTreeMap<(u32, u32), ()> = BTreeMap::new();
        (facts.first, facts.last) = (u64::MAX, 0);
        for spot in spots {
            let record = &recording.processes[spot.process as usize].records[spot.record as usize];
            let seconds = record.duration() as f64 * 1e-9;
            facts.tasks += 1;
            facts.items = facts.items.saturating_add(record.value.max(1));
            facts.seconds += seconds;
            facts.squares += seconds * seconds;
            facts.longest = facts.longest.max(seconds);
            facts.first = facts.first.min(spot.begin);
            facts.last = facts.last.max(spot.end);
            threads.insert((spot.process, spot.thread), ());
            if facts.function.is_empty() {
                text(recording, spot.process, record.name).clone_into(&mut facts.function);
            }
            let role = lines[spot.process as usize].threads[spot.thread as usize].role;
            facts.in_threads |= role == Role::ThreadWorker;
        }
        facts.workers = threads.len();
    }
    let mut submitted: BTreeMap<u64, Vec<(u64, u64, Spot)>> = BTreeMap::new();
    for (pool, link, count, spot) in pairs.submissions() {
        submitted.entry(pool).or_default().push((link, count, spot));
    }
    for (pool, mut all) in submitted {
        all.sort_by_key(|(_, _, spot)| spot.begin);
        let facts = pools.entry(pool).or_default();
        facts.submissions = all.len() as u64;
        for (_, _, spot) in &all {
            let record = &recording.processes[spot.process as usize].records[spot.record as usize];
            if facts.site.is_empty() {
                text(recording, spot.process, record.site).clone_into(&mut facts.site);
            }
            if !text(recording, spot.process, record.name).is_empty() {
                text(recording, spot.process, record.name).clone_into(&mut facts.function);
            }
        }
        let single = all.iter().filter(|(_, count, _)| *count == 1).count();
        let waited = all.windows(2).filter(|pair| {
            let (link, _, _) = pair[0];
            pairs.task(pool, link).is_some_and(|task| task.end <= pair[1].2.begin)
        });
        facts.one_by_one = all.len() >= 3 && single == all.len() && waited.count() * 10 >= (all.len() - 1) * 9;
    }
    for (number, process) in recording.processes.iter().enumerate() {
        for record in process.records.iter().filter(|record| record.kind == RecordKind::Pool) {
            if let Some(facts) = pools.get_mut(&record.object) {
                text(recording, number as u32, record.name).clone_into(&mut facts.class);
                if facts.site.is_empty() {
                    text(recording, number as u32, record.site).clone_into(&mut facts.site);
                }
            }
        }
    }
    pools
}

fn units(recording: &Recording, lines: &[ProcessLine], roles: &[ProcessRole]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut started: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    for (number, process) in recording.processes.iter().enumerate() {
        for record in process.records.iter().filter(|record| record.kind == RecordKind::Start) {
            started.insert(record.object, (number as u32, record.site));
        }
    }
    for (number, process) in recording.processes.iter().enumerate() {
        if roles[number] != ProcessRole::Process {
            continue;
        }
        let line = &lines[number];
        let leaves = line.threads.iter().flat_map(|thread| &thread.leaves);
        let (mut work, mut asleep) = (0, 0);
        for leaf in
            leaves.filter(|leaf| leaf.record != OWN && process.records[leaf.record as usize].kind == RecordKind::Run)
        {
            work += leaf.run;
            asleep += leaf.asleep();
        }
        let waits = process.threads.first().and_then(|thread| thread.samples.last()).map_or(0, |last| last.voluntary);
        let run = process.records.iter().find(|record| record.kind == RecordKind::Run);
        let name = run.map_or("", |run| text(recording, number as u32, run.name));
        let site = started.get(&u64::from(process.pid)).map_or("", |&(parent, site)| text(recording, parent, site));
        units.push(Unit {
            name: if name.is_empty() { process.name.clone() } else { name.to_owned() },
            begin: line.begin,
            end: line.end,
            work: work as f64 * 1e-9,
            asleep: asleep as f64 * 1e-9,
            waits,
            site: site.to_owned(),
        });
    }
    units
}

/// `file:line function` as a place.
pub(crate) fn to_place(site: &str, what: String) -> Option<Place> {
    let (at, function) = match site.split_once(' ') {
        Some((at, function)) => (at, Some(function.to_owned())),
        None => (site, None),
    };
    let (file, line) = at.rsplit_once(':')?;
    Some(Place { file: file.to_owned(), line: line.parse().ok()?, function, source: None, what })
}

/// `file:line` of a site.
pub(crate) fn at_line(site: &str) -> Option<String> {
    let at = site.split(' ').next().unwrap_or_default();
    (!at.is_empty()).then(|| at.to_owned())
}

//! A map in simulated time: the planner drives a caller and helpers that are made of nothing but charges.
//!
//! Parties that run share the cores, and threads the interpreter's lock: with `p` of them at work, each runs at the speed
//! `min(1, cores / (p awake), 1 / (p gil))`. All have the same speed at any time, so one virtual clock serves them all,
//! and a job's end stands in a heap: a run of a million items on 10,000 helpers takes seconds.
//!
//! A sleeping item takes as long on a full machine as on an idle one; that is what `awake` below 1 means.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::machine::MachineCharges;
use crate::model::Kind;
use crate::planner::{Command, Config, Planner};

/// The items of a simulated map.
#[derive(Debug, Clone, PartialEq)]
pub struct Items {
    /// Nanoseconds of each, by itself.
    pub costs: Vec<u64>,
    /// Share of its time in which an item needs a core.
    pub awake: f64,
    /// Share in which it holds the interpreter's lock.
    pub gil: f64,
    /// Bytes of an argument and of a result.
    pub bytes: f64,
}

impl Items {
    /// Pure Python.
    pub fn pure(costs: Vec<u64>) -> Self {
        Self { costs, awake: 1.0, gil: 1.0, bytes: 0.0 }
    }
}

/// How a simulated map went.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Seconds.
    pub makespan: f64,
    /// Seconds of the plain loop.
    pub serial: f64,
    /// A time that no division of the items among the caller and helpers can beat; no more than the loop's.
    pub bound: f64,
    /// Items that ran in the caller.
    pub here: u64,
    /// Helpers that were ordered, by kind: threads, fork, warm.
    pub ordered: [u32; 3],
    /// Commands that the caller carried out.
    pub commands: u64,
}

impl Run {
    /// Time over the best in hindsight.
    pub fn regret(&self) -> f64 {
        self.makespan / self.bound
    }
}

/// Who does something that takes time on a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    Caller,
    Helper(u32),
}

/// A whole number for the heap: seconds in units of 2^-60, so that ties and order are exact.
fn key(seconds: f64) -> u128 {
    (seconds.max(0.0) * (1_u64 << 60) as f64) as u128
}

fn seconds(key: u128) -> f64 {
    key as f64 / (1_u64 << 60) as f64
}

/// A run of items that are next to each other.
type Range = (usize, usize);

/// What a helper is at, and since when.
type Claimed = Option<(Kind, Range, f64)>;

#[derive(Debug, Default)]
struct World {
    now: f64,
    /// The virtual clock, and the ends of jobs on it.
    work: f64,
    jobs: BinaryHeap<Reverse<(u128, Party)>>,
    /// Helpers that come up.
    arrivals: BinaryHeap<Reverse<(u128, u32)>>,
}

impl World {
    fn speed(&self, items: &Items, threads: bool, cores: u32) -> f64 {
        let parties = self.jobs.len() as f64;
        let by_cores = f64::from(cores) / (parties * items.awake).max(1e-12);
        let by_lock = if threads { 1.0 / (parties * items.gil).max(1e-12) } else { f64::INFINITY };
        by_cores.min(by_lock).min(1.0)
    }

    fn start(&mut self, party: Party, takes: f64) {
        self.jobs.push(Reverse((key(self.work + takes), party)));
    }
}

/// Run `items` as the planner says that `config` makes; its charges are also what the simulated machine charges.
///
/// # Panics
/// If the planner breaks its contract: gives out items that are not there, or waits for what never comes.
pub fn run(items: &Items, config: Config) -> Run {
    let charges = config.charges;
    let cores = config.cores;
    let known = config.total.is_some();
    let gil = config.gil;
    let mut planner = Planner::new(config);
    let mut world = World::default();

    let sums: Vec<f64> = core::iter::once(0.0)
        .chain(items.costs.iter().scan(0.0, |sum, cost| {
            *sum += *cost as f64 * 1e-9;
            Some(*sum)
        }))
        .collect();
    let cost = |range: Range| sums[range.1] - sums[range.0];
    let serial = sums[items.costs.len()];

    // What has not been given out, from the near end to the far end.
    let mut row: VecDeque<Range> = VecDeque::from([(0, items.costs.len())]);
    let mut queues: [VecDeque<Range>; 3] = Default::default();
    let mut queued: Option<Kind> = None;
    let mut idle: [Vec<u32>; 3] = Default::default();
    let mut busy: Vec<Claimed> = Vec::new(); // by helper
    let mut kinds: Vec<Kind> = Vec::new();
    let mut results: VecDeque<(Kind, Range, f64)> = VecDeque::new();
    let mut ups: Vec<Kind> = Vec::new();
    let mut done = vec![false; items.costs.len()];
    let (mut here, mut commands, mut ordered) = (0_u64, 0_u64, [0_u32; 3]);
    let mut probe: Option<f64> = None;
    let mut reported_end = known;

    // What the caller is doing: nothing, a batch, or a chore.
    enum Doing {
        Nothing,
        Batch(Range, f64),
        Chore,
        Waiting,
    }
    let mut doing = Doing::Nothing;

    // Whoever is idle takes what is there for its kind.
    let claim =
        |world: &mut World, queues: &mut [VecDeque<Range>; 3], idle: &mut [Vec<u32>; 3], busy: &mut [Claimed]| {
            for kind in Kind::ALL {
                let each = if kind == Kind::Threads { 0.0 } else { charges.item + items.bytes * charges.byte };
                let (queue, idle) = (&mut queues[kind as usize], &mut idle[kind as usize]);
                while !idle.is_empty()
                    && let Some(range) = queue.pop_front()
                    && let Some(helper) = idle.pop()
                {
                    busy[helper as usize] = Some((kind, range, world.now));
                    let handling = charges.dispatch + (range.1 - range.0) as f64 * each;
                    world.start(Party::Helper(helper), handling + cost(range));
                }
            }
        };

    loop {
        claim(&mut world, &mut queues, &mut idle, &mut busy);
        // The caller has its hands free: tell the planner what happened, and do what it says.
        if matches!(doing, Doing::Nothing) {
            for kind in ups.drain(..) {
                planner.helper_up(kind, world.now);
            }
            let mut chore = 0.0;
            while let Some((kind, range, wall)) = results.pop_front() {
                let count = (range.1 - range.0) as u64;
                let each = if kind == Kind::Threads { 0.0 } else { charges.item + items.bytes * charges.byte };
                let taking = charges.dispatch / 2.0 + count as f64 * each / 2.0;
                chore += taking;
                planner.ran(kind, count, wall, wall * items.awake, (items.bytes * count as f64) as u64, taking);
            }
            if let Some(since) = probe {
                let total = world.now - since;
                if planner.probed(total * items.gil, total, world.now) {
                    probe = None;
                }
            }
            commands += 1;
            assert!(commands < 50_000_000, "the planner does not come to an end");
            match planner.next(world.now) {
                Command::Here(asked) => {
                    let count = asked as usize;
                    let Some(range) = near(&mut row, count) else {
                        assert!(!known, "asked for items that are not there");
                        planner.ran_here(0, 0.0, 0.0);
                        planner.exhausted();
                        reported_end = true;
                        continue;
                    };
                    doing = Doing::Batch(range, world.now + chore);
                    world.start(Party::Caller, chore + cost(range));
                }
                Command::Send(kind, count) => {
                    let range = if known { far(&mut row, count as usize) } else { near(&mut row, count as usize) };
                    let Some(range) = range else {
                        assert!(!known, "sends items that are not there");
                        planner.sent(kind, 0, 0, 0.0);
                        planner.exhausted();
                        reported_end = true;
                        continue;
                    };
                    let count = (range.1 - range.0) as u64;
                    let each = if kind == Kind::Threads { 0.0 } else { charges.item + items.bytes * charges.byte };
                    let sending = charges.dispatch / 2.0 + count as f64 * each / 2.0;
                    planner.sent(kind, count, (items.bytes * count as f64) as u64, sending);
                    queued = Some(kind);
                    queues[kind as usize].push_back(range);
                    doing = Doing::Chore;
                    world.start(Party::Caller, chore + sending);
                }
                Command::Take(kind) => {
                    let range = queues[kind as usize].pop_front();
                    if let Some(range) = range {
                        row.push_front(range);
                    }
                    planner.took_back(kind, range.map_or(0, |(from, to)| (to - from) as u64));
                    doing = Doing::Chore;
                    world.start(Party::Caller, chore + charges.message);
                }
                Command::Start(kind, helpers) => {
                    ordered[kind as usize] += helpers;
                    let (each, ready) = match kind {
                        Kind::Threads => (charges.thread, charges.thread + charges.wake),
                        Kind::Fork => (charges.fork_call, charges.fork),
                        Kind::Warm => (charges.warm_call, charges.warm),
                    };
                    for helper in 0..helpers {
                        let number = kinds.len() as u32;
                        kinds.push(kind);
                        busy.push(None);
                        world.arrivals.push(Reverse((key(world.now + ready + f64::from(helper) * each), number)));
                    }
                    doing = Doing::Chore;
                    world.start(Party::Caller, chore + f64::from(helpers) * each);
                }
                // They get nothing more, and finish what there is.
                Command::Stop(_) => {
                    if chore > 0.0 {
                        doing = Doing::Chore;
                        world.start(Party::Caller, chore);
                    }
                }
                Command::Probe => {
                    probe = gil.then_some(world.now);
                    doing = Doing::Chore;
                    world.start(Party::Caller, chore + charges.thread);
                }
                Command::Wait(_) => {
                    assert!(
                        !world.jobs.is_empty() || !world.arrivals.is_empty() || !results.is_empty(),
                        "waits for what never comes"
                    );
                    doing = if chore > 0.0 {
                        world.start(Party::Caller, chore);
                        Doing::Chore
                    } else {
                        Doing::Waiting
                    };
                }
                Command::Done => break,
            }
        }
        claim(&mut world, &mut queues, &mut idle, &mut busy);
        // The next thing that happens.
        let threads = gil && queued == Some(Kind::Threads);
        let speed = world.speed(items, threads, cores);
        let job = world.jobs.peek().map(|Reverse((end, _))| world.now + (seconds(*end) - world.work).max(0.0) / speed);
        let arrival = world.arrivals.peek().map(|Reverse((when, _))| seconds(*when));
        match (job, arrival) {
            (Some(end), arrival) if arrival.is_none_or(|arrival| end <= arrival) => {
                let Some(Reverse((virtual_end, party))) = world.jobs.pop() else { break };
                world.now = end;
                world.work = world.work.max(seconds(virtual_end));
                match party {
                    Party::Caller => {
                        if let Doing::Batch(range, since) = doing {
                            let count = (range.1 - range.0) as u64;
                            let wall = world.now - since;
                            mark(&mut done, range);
                            here += count;
                            planner.ran_here(count, wall, cost(range).min(wall) * items.awake);
                        }
                        doing = Doing::Nothing;
                    }
                    Party::Helper(helper) => {
                        if let Some((kind, range, since)) = busy[helper as usize].take() {
                            mark(&mut done, range);
                            results.push_back((kind, range, world.now - since));
                        }
                        idle[kinds[helper as usize] as usize].push(helper);
                        if matches!(doing, Doing::Waiting) {
                            doing = Doing::Nothing;
                        }
                    }
                }
            }
            (_, Some(arrival)) => {
                let Some(Reverse((_, helper))) = world.arrivals.pop() else { break };
                world.work += (arrival - world.now).max(0.0) * if world.jobs.is_empty() { 0.0 } else { speed };
                world.now = world.now.max(arrival);
                let kind = kinds[helper as usize];
                ups.push(kind);
                idle[kind as usize].push(helper);
                if matches!(doing, Doing::Waiting) {
                    doing = Doing::Nothing;
                }
            }
            (None, None) => assert!(matches!(doing, Doing::Nothing), "nothing is under way"),
            (Some(_), None) => {}
        }
    }
    assert!(done.iter().all(|done| *done), "items were lost");
    assert!(reported_end || items.costs.is_empty() || known, "ended before the input did");
    let bound = bound(items, &charges, cores, planner.config(), serial);
    Run { makespan: world.now, serial, bound, here, ordered, commands }
}

/// Takes up to `count` items from the near end.
fn near(row: &mut VecDeque<Range>, count: usize) -> Option<Range> {
    let (from, to) = row.pop_front()?;
    let cut = to.min(from + count);
    if cut < to {
        row.push_front((cut, to));
    }
    (cut > from).then_some((from, cut))
}

/// Takes up to `count` items from the far end.
fn far(row: &mut VecDeque<Range>, count: usize) -> Option<Range> {
    let (from, to) = row.pop_back()?;
    let cut = from.max(to.saturating_sub(count));
    if cut > from {
        row.push_back((from, cut));
    }
    (to > cut).then_some((cut, to))
}

/// Notes that items have run, each once.
fn mark(done: &mut [bool], range: Range) {
    for item in &mut done[range.0..range.1] {
        assert!(!*item, "an item ran twice");
        *item = true;
    }
}

/// The least time over numbers of helpers and of items for them: the helpers get the dearest items, each at the price of one
/// that is sent in a chunk of any size; the caller pays for the orders, and works from the start; work is divided without a
/// remainder, but no item is divided.
fn bound(items: &Items, charges: &MachineCharges, cores: u32, config: &Config, serial: f64) -> f64 {
    let mut dearest: Vec<u64> = items.costs.clone();
    dearest.sort_unstable_by_key(|cost| Reverse(*cost));
    let longest = dearest.first().map_or(0.0, |cost| *cost as f64 * 1e-9);
    // Sums of the dearest 1, 2, 3, ... items, at some hundred places.
    let (mut sums, mut sum, mut place) = (Vec::new(), 0.0, 1_usize);
    for (index, cost) in dearest.iter().enumerate() {
        sum += *cost as f64 * 1e-9;
        if index + 1 == place || index + 1 == dearest.len() {
            sums.push((place as f64, sum));
            place += place.div_ceil(50);
        }
    }
    let most = config.workers.unwrap_or(if items.awake < 0.9 { crate::planner::SLEEPERS.max(cores) } else { cores });
    let most = most.min(u32::try_from(items.costs.len()).unwrap_or(u32::MAX));
    let mut best = serial;
    for kind in &config.kinds {
        let (each, ready) = match kind {
            Kind::Threads => (charges.thread, charges.thread + charges.wake),
            Kind::Fork => (charges.fork_call, charges.fork),
            Kind::Warm => (charges.warm_call, charges.warm),
        };
        let send = if *kind == Kind::Threads { 0.0 } else { charges.item + items.bytes * charges.byte };
        let lock = if *kind == Kind::Threads && config.gil { serial * items.gil } else { 0.0 };
        let mut helpers = 1;
        while helpers < most {
            let k = f64::from(helpers);
            for (count, work) in &sums {
                let mine = k * each + serial - work + count * send;
                let theirs = ready + (work + count * send) / k;
                let shared = (serial + 2.0 * count * send) * items.awake / f64::from(cores);
                best = best.min(mine.max(theirs).max(shared).max(longest).max(lock));
            }
            helpers += helpers.div_ceil(8);
        }
    }
    best
}

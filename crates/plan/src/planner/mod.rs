//! The planner of `map`: events in, commands out.
//!
//! A state machine over counts of items. The engine asks [`Planner::next`] what to do, does it, and reports what happened;
//! `docs/design/map.md` is the contract. Pure: the time comes in as an argument.
//!
//! # What it bets
//!
//! The caller works from the first moment on, so there is a serial loop to fall back on at every moment, and the only bet is
//! the price of ordering helpers. It is made when the model says that it pays even if items are as cheap as the measurements
//! allow. Where the number of items is not known, as many are expected to come as have come: that is the rule of the ski
//! rental problem, with which nobody pays more than twice for not knowing.
//!
//! # How the items are divided
//!
//! Chunks get smaller towards the end. *Guided self-scheduling* gives a worker its share of what is left (Polychronopoulos
//! and Kuck, IEEE Transactions on Computers C-36(12), 1987); *factoring* only half of that, or less as costs vary (Flynn
//! Hummel, Schonberg and Flynn, Communications of the ACM 35(8), 1992). The caller's own batches follow the same rule, and
//! chunks that no helper has claimed come back to it when it runs out of items. So nobody is idle while there is an item that
//! has not begun (but for one message's way), and at the end the last party works alone for no longer than its last chunk:
//!
//! ```text
//! T  <=  (W + overhead) / p  +  (1 - 1/p) max chunk      (Graham's bound for list scheduling, chunks as jobs)
//! ```
//!
//! and a last chunk is an item, or [`SMALLEST_SECONDS`] of work by the estimate.

mod compare;
mod decide;
mod estimate;

use crate::machine::MachineCharges;
use crate::model::{CHUNK_SECONDS, Kind};
use crate::workload::Workload;

pub use compare::Comparison;
pub use decide::Decision;
pub use estimate::Estimate;
use estimate::Estimator;

/// Chunks are not made shorter than this, but for the last, where that means more than one item: a dispatch is about one
/// hundredth of it.
pub const SMALLEST_SECONDS: f64 = 1e-3;

/// A batch of the caller while it works alone, at first and at most.
const BATCH_SECONDS: (f64, f64) = (1e-3, 10e-3);

/// A batch of the caller while helpers wait for chunks and results.
const SHARED_BATCH_SECONDS: f64 = 2e-3;

/// When the caller has worked for so long, and no helper could pay, it does the rest in one batch if that is expected to
/// take no longer than this, and items are so small that cutting a batch out of the input can be felt.
const SURE_SECONDS: f64 = 0.5e-3;
const LAST_SECONDS: f64 = 50e-3;
const TINY: f64 = 0.5e-6;

/// A batch of items that cost what those of the far end do takes no longer than this.
const SURPRISE_SECONDS: f64 = 20e-3;

/// While it is being decided, the caller looks up this often.
const ALERT_BATCH_SECONDS: f64 = 0.5e-3;

/// A batch or a chunk is at most so many times as large as the largest before it.
const GROWTH: u64 = 8;

/// The first chunks have no more items: those at the far end may be dear.
const TRIAL_ITEMS: u64 = 16;

/// Bytes of a chunk's items.
const CHUNK_BYTES: f64 = 8e6;

/// So few items are worth somebody who looks after the first one.
const FEW: u64 = 64;

/// So many helpers of a kind that go without having done anything, and no more are ordered.
const HOPELESS: u32 = 4;

/// So many parties for work that sleeps, if nobody says otherwise.
pub const SLEEPERS: u32 = 32;

/// What the engine is to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Run so many items in the caller.
    Here(u64),
    /// Order so many helpers.
    Start(Kind, u32),
    /// Send a chunk of so many items.
    Send(Kind, u64),
    /// Take a chunk back that nobody has claimed.
    Take(Kind),
    /// Let the helpers of this kind go.
    Stop(Kind),
    /// Find out whether items hold the interpreter's lock.
    Probe,
    /// Wait for results, at most so many seconds.
    Wait(Option<f64>),
    /// Everything has run, and all results are in.
    Done,
}

/// What a planner is told at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of items; `None`: not known.
    pub total: Option<u64>,
    /// What this machine charges.
    pub charges: MachineCharges,
    /// Cores that this map may use.
    pub cores: u32,
    /// The most parties that may run items at the same time, the caller included.
    pub workers: Option<u32>,
    /// What may be started, in order of preference.
    pub kinds: Vec<Kind>,
    /// Whether threads share an interpreter lock.
    pub gil: bool,
    /// Whether the caller may run items.
    pub here: bool,
    /// Whether helpers are started without asking whether they pay.
    pub must: bool,
    /// Items a chunk, if somebody insists.
    pub chunk: Option<u64>,
    /// Encoded bytes of an item, where known beforehand.
    pub bytes_in: Option<f64>,
    /// Bytes of the function with what it captured.
    pub function_bytes: f64,
    /// Whether results are wanted as they come.
    pub stream: bool,
    /// How many warm helpers are up already.
    pub idle: u32,
    /// What an earlier map of the same function found.
    pub prior: Option<Estimate>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            total: None,
            charges: MachineCharges::default(),
            cores: 1,
            workers: None,
            kinds: vec![Kind::Threads, Kind::Warm],
            gil: true,
            here: true,
            must: false,
            chunk: None,
            bytes_in: None,
            function_bytes: 0.0,
            stream: false,
            idle: 0,
            prior: None,
        }
    }
}

/// The helpers of one kind and what they have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Crew {
    /// Ordered and not yet up.
    ordered: u32,
    /// Ready for work, or at it.
    up: u32,
    /// Chunks that were sent and have not come back.
    chunks: u64,
    /// Their items.
    items: u64,
    /// When the last order went out.
    ordered_at: f64,
    /// The channel had nothing to take, and nothing has been sent since.
    empty: bool,
    /// Seconds that one took to come up.
    came_up: Option<f64>,
    /// Since when no result has come, though somebody has a chunk; and whether one has come since the last look.
    quiet_since: f64,
    heard: bool,
    /// Items of the largest chunk that was sent.
    largest: u64,
    /// They were let go: who comes up late is not counted.
    stopped: bool,
    /// There can be no more, as an order that was refused has shown.
    most: Option<u32>,
    /// So many have gone since the last chunk was done.
    gone: u32,
}

impl Crew {
    fn all(&self) -> u32 {
        self.up + self.ordered
    }

    /// Whether it is of no use to order more of them.
    fn hopeless(&self) -> bool {
        self.gone >= HOPELESS.max(2 * self.all())
    }

    /// Chunks that nobody has claimed, by what can be known here.
    fn unclaimed(&self) -> u64 {
        self.chunks.saturating_sub(u64::from(self.up))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Probe {
    Untried,
    Running { since: f64 },
    Over,
}

/// Decides how the items of one map are run.
#[derive(Debug, Clone)]
pub struct Planner {
    config: Config,
    /// Items not given out. `None`: not known, but `back` of them are there.
    remaining: Option<u64>,
    /// Of an unknown number, those that were given out and came back.
    back: u64,
    crews: [Crew; 3],
    active: Option<Kind>,
    estimator: Estimator,
    probe: Probe,
    /// Processes were ordered before it was known whether threads would do; they get nothing until it is.
    early: bool,
    /// The caller is in a batch, and somebody else asks.
    away: bool,
    /// Threads were tried and did not help.
    threads_failed: bool,
    started_at: Option<f64>,
    ended_at: Option<f64>,
    done_here: u64,
    done_there: [u64; 3],
    largest: u64,
    largest_there: u64,
    last_batch: u64,
    here_seconds: f64,
    decisions: Vec<Decision>,
    /// Something was measured since the last look at the alternatives.
    fresh: bool,
    /// CPU and wall seconds of items that ran in the caller and in threads since threads were started.
    sharing: Sharing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sharing {
    here_wall: f64,
    here_cpu: f64,
    there_wall: f64,
    there_cpu: f64,
}

impl Planner {
    /// A planner for one map.
    pub fn new(config: Config) -> Self {
        let estimator = Estimator::new(&config);
        Self {
            remaining: config.total,
            back: 0,
            crews: [Crew::default(); 3],
            active: None,
            fresh: config.prior.is_some(),
            estimator,
            probe: Probe::Untried,
            early: false,
            away: false,
            threads_failed: false,
            started_at: None,
            ended_at: None,
            done_here: 0,
            done_there: [0; 3],
            largest: 1,
            largest_there: 0,
            last_batch: 0,
            here_seconds: 0.0,
            decisions: Vec::new(),
            sharing: Sharing::default(),
            config,
        }
    }

    /// What to do now. `now`: seconds of a clock that does not go back.
    pub fn next(&mut self, now: f64) -> Command {
        self.started_at.get_or_insert(now);
        self.overdue(now);
        let left = self.left();
        let outstanding: u64 = self.crews.iter().map(|crew| crew.items).sum();
        if left == Some(0) && outstanding == 0 {
            self.ended_at.get_or_insert(now);
            return Command::Done;
        }
        if left != Some(0) {
            if let Some(command) = self.decide(now) {
                return command;
            }
            if let Some((kind, items)) = self.chunk_to_send() {
                return Command::Send(kind, items);
            }
            if self.config.here {
                let items = self.batch();
                self.last_batch = items;
                return Command::Here(items);
            }
        }
        if self.config.here
            && let Some(kind) = self.to_take()
        {
            return Command::Take(kind);
        }
        Command::Wait(None)
    }

    /// Whether somebody should look after the caller while it is in its first item: if that one turns out to be long, there
    /// are so few that the others should not wait for it.
    pub fn watch(&self) -> bool {
        let few = self.config.total.is_some_and(|total| (2..=FEW).contains(&total));
        let free = self.config.here && !self.config.must && self.config.prior.is_none();
        few && free && self.config.kinds.contains(&Kind::Threads) && self.most(Kind::Threads) > 0
    }

    /// The caller has been in its first item for `wall` seconds, `cpu` of them on a core, and the interpreter's lock was free.
    /// As long as it has taken it is expected to take again.
    pub fn long(&mut self, wall: f64, cpu: f64) {
        self.estimator.long(2.0 * wall, (1.0 - cpu / wall).clamp(0.0, 1.0));
        self.fresh = true;
    }

    /// What can be done for the caller while it is in its batch: start threads, send chunks to them; `None`: nothing (more).
    pub fn meanwhile(&mut self, now: f64) -> Option<Command> {
        let remaining = self.remaining?;
        let running = self.last_batch.min(remaining);
        self.away = true;
        self.remaining = Some(remaining - running);
        let command = if remaining == running {
            None
        } else {
            self.decide(now).or_else(|| self.chunk_to_send().map(|(kind, items)| Command::Send(kind, items)))
        };
        self.remaining = Some(remaining);
        self.away = false;
        command
    }

    /// A chunk that has not come back says something, too: its items have taken at least so long.
    fn overdue(&mut self, now: f64) {
        let Some(kind) = self.active else { return };
        let crew = &mut self.crews[kind as usize];
        if std::mem::take(&mut crew.heard) || crew.up == 0 || crew.chunks == 0 {
            crew.quiet_since = now;
        }
        let least = (now - crew.quiet_since) / crew.largest.max(1) as f64;
        self.fresh |= self.estimator.overdue(least);
    }

    // Events.

    /// The caller ran `items` in `wall` seconds, `cpu` of them on a core.
    pub fn ran_here(&mut self, items: u64, wall: f64, cpu: f64) {
        self.give_out(items);
        self.done_here += items;
        self.largest = self.largest.max(items);
        self.here_seconds += wall.max(0.0);
        let alone = self.active != Some(Kind::Threads);
        self.estimator.here(items, wall, cpu, alone);
        self.fresh = true;
        if self.active == Some(Kind::Threads) {
            self.sharing.here_wall += wall;
            self.sharing.here_cpu += cpu;
        }
    }

    /// A chunk of `items` went out: `bytes` encoded, `seconds` of the caller for it.
    pub fn sent(&mut self, kind: Kind, items: u64, bytes: u64, seconds: f64) {
        self.give_out(items);
        if items == 0 {
            return;
        }
        let crew = &mut self.crews[kind as usize];
        crew.chunks += 1;
        crew.items += items;
        crew.empty = false;
        crew.largest = crew.largest.max(items);
        self.estimator.sent(kind, items, bytes, seconds);
        self.fresh = true;
    }

    /// A chunk came out of the channel again: its items are to be given out; 0: there was none.
    pub fn took_back(&mut self, kind: Kind, items: u64) {
        if items == 0 {
            self.crews[kind as usize].empty = true;
        } else {
            self.gave_back(kind, items);
        }
    }

    /// A chunk will not be run by whom it was sent to: its items are to be given out again.
    pub fn gave_back(&mut self, kind: Kind, items: u64) {
        let crew = &mut self.crews[kind as usize];
        crew.chunks = crew.chunks.saturating_sub(1);
        crew.items = crew.items.saturating_sub(items);
        match &mut self.remaining {
            Some(remaining) => *remaining = remaining.saturating_add(items),
            None => self.back = self.back.saturating_add(items),
        }
    }

    /// A helper can take chunks.
    pub fn helper_up(&mut self, kind: Kind, now: f64) {
        let crew = &mut self.crews[kind as usize];
        if crew.stopped {
            return;
        }
        crew.ordered = crew.ordered.saturating_sub(1);
        crew.up += 1;
        self.active.get_or_insert(kind);
        let seconds = (now - crew.ordered_at).max(0.0);
        crew.came_up = Some(crew.came_up.map_or(seconds, |before| before.min(seconds)));
    }

    /// A helper died, or never came up.
    pub fn helper_gone(&mut self, kind: Kind) {
        let crew = &mut self.crews[kind as usize];
        crew.gone += 1;
        if crew.ordered > 0 {
            // Refused: there can be no more than there are.
            crew.ordered -= 1;
            crew.most = Some(crew.all());
        } else {
            crew.up = crew.up.saturating_sub(1);
        }
        if crew.all() == 0 && self.active == Some(kind) {
            self.active = None;
            self.fresh = true;
        }
    }

    /// A chunk's results are in: `items` ran in `wall` seconds, `cpu` of them on a core; `bytes` of results took the caller
    /// `seconds`.
    pub fn ran(&mut self, kind: Kind, items: u64, wall: f64, cpu: f64, bytes: u64, seconds: f64) {
        let crew = &mut self.crews[kind as usize];
        crew.chunks = crew.chunks.saturating_sub(1);
        crew.items = crew.items.saturating_sub(items);
        if crew.chunks == 0 {
            crew.items = 0;
        }
        crew.empty = false;
        crew.gone = 0;
        crew.heard = true;
        self.done_there[kind as usize] += items;
        self.largest = self.largest.max(items);
        self.largest_there = self.largest_there.max(items);
        self.estimator.there(kind, items, wall, cpu, bytes, seconds);
        self.fresh = true;
        if kind == Kind::Threads {
            self.sharing.there_wall += wall;
            self.sharing.there_cpu += cpu;
        }
    }

    /// The input of unknown length has ended.
    pub fn exhausted(&mut self) {
        if self.remaining.is_none() {
            self.remaining = Some(self.back);
            self.back = 0;
        }
    }

    /// Sizes of an item and of its result, as far as one could see without encoding them.
    pub fn sampled(&mut self, bytes_in: Option<f64>, bytes_out: Option<f64>) {
        self.estimator.sampled(bytes_in, bytes_out);
    }

    /// The probe has looked for `total` seconds, in `held` of which the interpreter's lock was taken. Returns whether it
    /// has seen enough.
    pub fn probed(&mut self, held: f64, total: f64, now: f64) -> bool {
        let Probe::Running { since } = self.probe else { return true };
        let enough = total >= decide::PROBE_SECONDS;
        // A probe that does not get to run cannot get the lock either.
        let late = now - since > decide::PROBE_PATIENCE;
        if enough || late {
            self.estimator.gil = Some(if enough { (held / total).clamp(0.0, 1.0) } else { 1.0 });
            self.probe = Probe::Over;
            self.fresh = true;
        }
        enough || late
    }

    // What is known.

    /// What is known of an item.
    pub fn estimate(&self) -> Estimate {
        self.estimator.estimate()
    }

    /// The workload of `items` items, by what is known; `None` before anything was measured.
    pub fn workload(&self, items: u64) -> Option<Workload> {
        self.estimator.workload(items, &self.config)
    }

    /// What the planner decided, in order, the latest sixteen.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// What it was told at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Items that have run in the caller.
    pub fn done_here(&self) -> u64 {
        self.done_here
    }

    /// Items that have run in helpers of a kind.
    pub fn done_there(&self, kind: Kind) -> u64 {
        self.done_there[kind as usize]
    }

    /// Helpers of a kind that are up now.
    pub fn up(&self, kind: Kind) -> u32 {
        self.crews[kind as usize].up
    }

    /// When `next` was called first.
    pub fn started_at(&self) -> Option<f64> {
        self.started_at
    }

    /// Seconds from the first call of `next` until it said that all is done.
    pub fn elapsed(&self) -> Option<f64> {
        Some(self.ended_at? - self.started_at?)
    }

    /// The charges, with those in their place that this map has seen for itself.
    pub fn observed(&self) -> MachineCharges {
        let mut charges = self.config.charges;
        for (kind, charge) in
            [(Kind::Threads, &mut charges.thread), (Kind::Fork, &mut charges.fork), (Kind::Warm, &mut charges.warm)]
        {
            // A caller that was busy with a long item learns of it late; that is not the helper's fault.
            if kind != Kind::Threads
                && let Some(seconds) = self.crews[kind as usize].came_up
            {
                *charge = seconds.min(3.0 * *charge).max(*charge / 3.0);
            }
        }
        self.estimator.observed(&mut charges);
        charges
    }

    // Counting.

    /// Items not given out; `None`: not known.
    fn left(&self) -> Option<u64> {
        self.remaining
    }

    fn give_out(&mut self, items: u64) {
        match &mut self.remaining {
            Some(remaining) => *remaining = remaining.saturating_sub(items),
            None => self.back = self.back.saturating_sub(items),
        }
    }

    /// How many items are expected to be left.
    fn expected(&self) -> u64 {
        self.remaining.unwrap_or_else(|| {
            let so_far = self.done_here + self.done_there.iter().sum::<u64>();
            so_far.max(self.back).max(1)
        })
    }

    /// How many parties run items.
    fn parties(&self) -> u64 {
        let helpers = self.active.map_or(0, |kind| self.crews[kind as usize].all());
        u64::from(helpers) + u64::from(self.config.here)
    }

    // Sizes.

    /// Factoring's share of what is left: the x-th part for each party. 2 if items cost the same, more as they vary.
    fn guided(&self, left: u64, parties: u64) -> u64 {
        let spread = self.estimator.spread();
        let b = parties as f64 / (2.0 * (left.max(1) as f64).sqrt()) * spread;
        let x = 2.0 + b * b + b * (b * b + 4.0).sqrt();
        (left as f64 / (x * parties.max(1) as f64)).ceil() as u64
    }

    /// Items of the caller's next batch; at least one.
    fn batch(&self) -> u64 {
        let Some(dear) = self.estimator.dear_here() else { return 1 };
        let helped = self.active.is_some_and(|kind| self.crews[kind as usize].all() > 0);
        let left = self.remaining.unwrap_or(u64::MAX);
        let seconds = if helped {
            SHARED_BATCH_SECONDS
        } else if matches!(self.probe, Probe::Running { .. }) {
            ALERT_BATCH_SECONDS
        } else {
            (self.here_seconds / 4.0).clamp(BATCH_SECONDS.0, BATCH_SECONDS.1)
        };
        let in_time = (seconds / dear) as u64;
        let last = if dear < TINY { LAST_SECONDS } else { BATCH_SECONDS.0 };
        if !helped && self.here_seconds > SURE_SECONDS && left as f64 * dear < last && self.nothing_would_pay() {
            return left.max(1);
        }
        // Should the items of the far end begin here, the caller must not be away for long.
        let surprise = match self.estimator.dear_there().filter(|_| helped) {
            Some(far) => (SURPRISE_SECONDS / far) as u64,
            None => u64::MAX,
        };
        let fair = if helped { self.smallest(left, dear).max(self.guided(left, self.parties())) } else { left };
        in_time.min(surprise).min(fair).min(self.largest.saturating_mul(GROWTH)).min(left).max(1)
    }

    /// The fewest items that are worth a chunk or batch of their own.
    fn smallest(&self, left: u64, each: f64) -> u64 {
        let even = left.div_ceil(self.parties().max(1));
        ((SMALLEST_SECONDS / each).ceil() as u64).min(even)
    }

    /// Items of the next chunk for `kind`; at least one.
    fn chunk(&self, kind: Kind) -> u64 {
        if let Some(items) = self.config.chunk {
            return items.max(1).min(self.remaining.unwrap_or(u64::MAX));
        }
        let left = self.remaining.unwrap_or(u64::MAX);
        let parties = self.parties();
        let Some(dear) = self.estimator.dear_there() else {
            // In the dark: one item for each, then two, and so on.
            return self.guided(self.expected(), parties).min(self.largest.saturating_mul(2)).min(left).max(1);
        };
        let share = match self.remaining {
            Some(left) => self.guided(left, parties),
            None => self.expected().div_ceil(8 * parties.max(1)),
        };
        let in_time = (CHUNK_SECONDS / dear) as u64;
        let worth = self.smallest(left, dear);
        let bytes = match self.estimator.estimate().bytes_in {
            Some(bytes) if bytes > 0.0 && kind == Kind::Warm => (CHUNK_BYTES / bytes) as u64,
            _ => u64::MAX,
        };
        // What stands at the far end is not known before a helper has run some of it.
        let tried = self.largest_there.saturating_mul(GROWTH).max(TRIAL_ITEMS);
        let known = self.largest.saturating_mul(GROWTH).min(tried);
        in_time.min(share).max(worth).min(known).min(bytes).min(left).max(1)
    }

    fn chunk_to_send(&self) -> Option<(Kind, u64)> {
        let kind = self.active?;
        let crew = &self.crews[kind as usize];
        let helpers = u64::from(crew.all());
        if helpers == 0 || !self.feeds(kind) {
            return None;
        }
        let left = self.remaining.unwrap_or(u64::MAX);
        // The caller keeps what it does next.
        if self.config.here && !self.away && left <= 1 && crew.chunks > 0 {
            return None;
        }
        let items = self.chunk(kind);
        // Two chunks a helper, one that runs and one that waits; more where the caller does not look up for longer.
        let each = self.estimator.cheap_there().unwrap_or(f64::INFINITY);
        let away = if self.config.here { 2.0 * self.longest_batch() / each } else { 0.0 };
        let enough = (2 * items).max(away as u64).saturating_mul(helpers);
        let most = helpers.saturating_mul(64);
        let plenty = crew.items >= enough && crew.chunks >= 2 * helpers;
        (!plenty && crew.chunks < most).then_some((kind, items))
    }

    /// How long the caller may be away in its next batch.
    fn longest_batch(&self) -> f64 {
        self.estimator.longest_item().max(SHARED_BATCH_SECONDS)
    }

    fn to_take(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            let crew = &self.crews[*kind as usize];
            crew.unclaimed() > 0 && !crew.empty
        })
    }
}

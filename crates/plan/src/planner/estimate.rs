//! What a planner knows of the items.

use super::Config;
use crate::machine::MachineCharges;
use crate::model::Kind;
use crate::workload::{Running, Workload};

/// Costs are remembered over so many batches or chunks.
const MEMORY: f64 = 16.0;

/// Batches shorter than this say nothing about sleep: the two clocks are read one after the other.
const SLEEP_SEEN: f64 = 100e-6;

/// A lock that is taken for a larger share of the time counts as always taken: handing it over costs what is left.
const HELD: f64 = 0.5;

/// A chunk is late that takes so many times as long as its items should.
const LATE: f64 = 3.0;

/// A first item that took so many times as long as the second batch's is left out.
const COLD: f64 = 3.0;

/// Relative standard error of a mean of which one batch was seen: the first item may be far from the others.
const FIRST_ERROR: f64 = 0.35;

/// What is known of an item; good as the beginning of a later map of the same function.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Mean seconds.
    pub seconds: Option<f64>,
    /// Standard deviation over mean.
    pub spread: Option<f64>,
    /// Relative standard error of `seconds`.
    pub error: Option<f64>,
    /// Share of the time in which it sleeps.
    pub sleep_share: Option<f64>,
    /// Share of the time in which it holds the interpreter's lock.
    pub gil_share: Option<f64>,
    /// Encoded bytes of the argument.
    pub bytes_in: Option<f64>,
    /// Encoded bytes of the result.
    pub bytes_out: Option<f64>,
}

#[derive(Debug, Clone)]
pub(super) struct Estimator {
    /// Wall seconds of items in the caller, and in helpers: they stand at different ends of the input.
    here: Running,
    there: Running,
    cpu: Running,
    /// Batches of the caller.
    batches: u32,
    /// The last batch's mean, and the last chunk's.
    latest_here: f64,
    latest_there: f64,
    /// Seconds that an item of a chunk has at least taken, which has not come back; 0: it is not late.
    overdue: f64,
    /// The longest recent batch of a single item.
    longest: f64,
    /// The share in which the lock is held; `None`: not known.
    pub(super) gil: Option<f64>,
    bytes_in: Running,
    bytes_out: Running,
    sampled_in: Option<f64>,
    sampled_out: Option<f64>,
    /// The caller's seconds an item for sending and for taking results, without the dispatch of the chunk.
    sending: Running,
    taking: Running,
    /// Small chunks: their number and the caller's seconds. Large ones: bytes and seconds.
    small: (f64, f64),
    large: (f64, f64),
    dispatch: f64,
    prior: Option<Estimate>,
}

impl Estimator {
    pub(super) fn new(config: &Config) -> Self {
        let running = Running::with_memory(MEMORY);
        let prior = config.prior.filter(|prior| prior.seconds.is_some_and(|s| s.is_finite() && s >= 0.0));
        Self {
            here: running,
            there: running,
            cpu: running,
            batches: 0,
            latest_here: 0.0,
            latest_there: 0.0,
            overdue: 0.0,
            longest: 0.0,
            gil: if config.gil { config.prior.and_then(|prior| prior.gil_share) } else { Some(0.0) },
            bytes_in: running,
            bytes_out: running,
            sampled_in: config.bytes_in.or(config.prior.and_then(|prior| prior.bytes_in)),
            sampled_out: config.prior.and_then(|prior| prior.bytes_out),
            sending: running,
            taking: running,
            small: (0.0, 0.0),
            large: (0.0, 0.0),
            dispatch: config.charges.dispatch,
            prior,
        }
    }

    /// A batch of the caller. `alone`: no other thread of ours wanted the interpreter's lock meanwhile.
    pub(super) fn here(&mut self, items: u64, wall: f64, cpu: f64, alone: bool) {
        if items == 0 || !(wall.is_finite() && wall >= 0.0) {
            return;
        }
        // The first call imports, fills caches and compiles: one that took much longer than the next ones says nothing
        // of them.
        self.batches += 1;
        if self.batches == 2 && self.latest_here > COLD * wall / items as f64 {
            self.here = Running::with_memory(MEMORY);
            self.longest = 0.0;
        }
        self.here.observe(items, wall);
        self.latest_here = wall / items as f64;
        self.longest = (self.longest * 0.8).max(self.latest_here);
        if alone && wall >= SLEEP_SEEN && cpu.is_finite() {
            // Weighted by time, not by items: the share is one of time.
            self.cpu.observe((wall * 1e6) as u64, cpu.clamp(0.0, wall));
        }
    }

    /// An item is expected to take so long, and sleeps for this share of it; the lock was free meanwhile.
    pub(super) fn long(&mut self, seconds: f64, sleep_share: f64) {
        self.prior = Some(Estimate { seconds: Some(seconds), sleep_share: Some(sleep_share), ..Estimate::default() });
        self.gil = Some(0.0);
    }

    pub(super) fn has_prior(&self) -> bool {
        self.prior.is_some()
    }

    pub(super) fn there(&mut self, kind: Kind, items: u64, wall: f64, cpu: f64, bytes: u64, seconds: f64) {
        if items == 0 {
            return;
        }
        if wall.is_finite() && wall >= 0.0 {
            self.there.observe(items, wall);
            self.latest_there = wall / items as f64;
            if kind != Kind::Threads && wall >= SLEEP_SEEN && cpu.is_finite() {
                self.cpu.observe((wall * 1e6) as u64, cpu.clamp(0.0, wall));
            }
        }
        if kind != Kind::Threads {
            self.bytes_out.observe(items, bytes as f64);
            self.taking.observe(items, (seconds - self.dispatch / 2.0).max(0.0));
        }
    }

    pub(super) fn sent(&mut self, kind: Kind, items: u64, bytes: u64, seconds: f64) {
        if kind == Kind::Threads || !(seconds.is_finite() && seconds >= 0.0) {
            return;
        }
        if kind == Kind::Warm {
            self.bytes_in.observe(items, bytes as f64);
        }
        self.sending.observe(items, (seconds - self.dispatch / 2.0).max(0.0));
        if bytes < 4096 && items <= 64 {
            self.small = (self.small.0 + 1.0, self.small.1 + seconds);
        } else if bytes > 1_000_000 {
            self.large = (self.large.0 + bytes as f64, self.large.1 + seconds);
        }
    }

    pub(super) fn sampled(&mut self, bytes_in: Option<f64>, bytes_out: Option<f64>) {
        self.sampled_in = bytes_in.or(self.sampled_in);
        self.sampled_out = bytes_out.or(self.sampled_out);
    }

    /// Items of a chunk have taken at least so long. Returns whether that is news.
    pub(super) fn overdue(&mut self, least: f64) -> bool {
        let usual = self.there.mean().or(self.here.mean()).unwrap_or(f64::INFINITY).max(self.latest_there);
        let before = self.overdue;
        self.overdue = if least > LATE * usual { least } else { 0.0 };
        self.overdue > before * 1.2
    }

    /// Mean seconds at the far end.
    fn far(&self) -> Option<f64> {
        match self.there.mean() {
            Some(mean) => Some(mean.max(self.overdue)),
            None => (self.overdue > 0.0).then_some(self.overdue),
        }
    }

    /// Mean seconds of the items to come: what the caller and the helpers see, at the two ends, weighted alike.
    fn seconds(&self) -> Option<f64> {
        match (self.here.mean(), self.far()) {
            (Some(here), Some(there)) => Some((here + there) / 2.0),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => self.prior.and_then(|prior| prior.seconds),
        }
    }

    fn error(&self) -> f64 {
        match (self.here.standard_error(), self.there.standard_error()) {
            (Some(here), Some(there)) => here.max(there),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => FIRST_ERROR,
        }
        .min(FIRST_ERROR)
    }

    pub(super) fn spread(&self) -> f64 {
        self.here.spread().max(self.there.spread()).min(100.0)
    }

    /// What the caller's next item may cost, at worst.
    pub(super) fn dear_here(&self) -> Option<f64> {
        let mean = self.here.mean().or_else(|| self.prior.and_then(|prior| prior.seconds))?;
        Some(mean.max(self.latest_here).max(1e-9))
    }

    /// What an item of the next chunk may cost, at worst.
    pub(super) fn dear_there(&self) -> Option<f64> {
        let mean = self.far().or_else(|| self.seconds())?;
        Some(mean.max(self.latest_there).max(1e-9))
    }

    /// What it may cost at best: so fast may chunks be done with.
    pub(super) fn cheap_there(&self) -> Option<f64> {
        let mean = self.there.mean().or_else(|| self.seconds())?;
        Some(if self.latest_there > 0.0 { mean.min(self.latest_there) } else { mean }.max(1e-9))
    }

    /// How long a single item may keep the caller.
    pub(super) fn longest_item(&self) -> f64 {
        self.longest
    }

    pub(super) fn sleep_share(&self) -> Option<f64> {
        match self.cpu.mean() {
            // Mean CPU seconds a microsecond.
            Some(mean) => Some((1.0 - mean * 1e6).clamp(0.0, 1.0)),
            None => self.prior.and_then(|prior| prior.sleep_share),
        }
    }

    pub(super) fn estimate(&self) -> Estimate {
        Estimate {
            seconds: self.seconds(),
            spread: self.seconds().map(|_| self.spread()),
            error: self.seconds().map(|_| self.error()),
            sleep_share: self.sleep_share(),
            gil_share: self.gil,
            bytes_in: self.bytes_in.mean().or(self.sampled_in),
            bytes_out: self.bytes_out.mean().or(self.sampled_out),
        }
    }

    pub(super) fn workload(&self, items: u64, config: &Config) -> Option<Workload> {
        let known = self.estimate();
        let sleep_share = known.sleep_share.unwrap_or(0.0);
        Some(Workload {
            items,
            seconds: known.seconds?,
            error: self.error(),
            bytes_in: known.bytes_in.unwrap_or(0.0),
            bytes_out: known.bytes_out.unwrap_or(0.0),
            function_bytes: config.function_bytes,
            // What sleeps has let go of the lock. If the lock was found taken all the same, it did not sleep: it was kept
            // from its core by somebody else.
            gil_share: match known.gil_share {
                Some(share) if share > HELD => 1.0,
                Some(share) => share,
                None => 1.0 - sleep_share,
            },
            sleep_share: sleep_share.min(1.0 - known.gil_share.unwrap_or(0.0)),
            transport: self.sending.mean().map(|sending| sending + self.taking.mean().unwrap_or(sending)),
        })
    }

    pub(super) fn observed(&self, charges: &mut MachineCharges) {
        let learn = |charge: &mut f64, seen: f64| *charge = seen.clamp(*charge / 3.0, *charge * 3.0);
        if self.small.0 >= 4.0 {
            // Sending is about half of a dispatch.
            learn(&mut charges.dispatch, 2.0 * self.small.1 / self.small.0);
        }
        if self.large.0 > 0.0 {
            learn(&mut charges.byte, self.large.1 / self.large.0);
        }
    }
}

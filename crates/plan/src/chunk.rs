//! How many items to send to a worker at once.
//!
//! A chunk that is too small is eaten up by its dispatch (encode, put, wake, get, and the same for the results); one that
//! is too large makes the others wait for its worker at the end. Two forms, for the two ways a pool is used:
//!
//! - [`static_chunks`] for `map`, which puts every chunk into the task channel at once, before anything has been measured.
//! - [`ChunkPolicy`] for `imap`, which keeps a few chunks in flight, and learns what an item costs from those that come back.
//!
//! Both rest on *guided* self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987): a chunk is
//! a share of what remains, so chunks shrink towards the end, and the number of them grows with the logarithm of the items
//! only. And on *factoring* (Hummel, Schonberg and Flynn, Communications of the ACM 35(8), 1992): the share is of half of
//! what remains, or less if costs vary, so that a chunk which turns out to be dear does not outlast all the rest.
//!
//! With `R` items left for `P` workers, a chunk of `R / (2 P)` cannot be late if no item costs more than twice another: all
//! workers were busy until it started, and what remains then is at least as much work for each of them as the chunk is.

use crate::workload::Running;

/// A chunk of a static series is at least this share of what a worker gets on average: one that is smaller evens out less
/// than the noise of any machine, and each costs a dispatch.
const SMALLEST_SHARE: u64 = 1024;

/// The first chunks of a static series are this share of what a worker gets on average.
const FIRST_SHARE: u64 = 64;

/// Sizes of the chunks for `total` items that are all handed out before the first comes back, for `workers` workers who
/// compete for them. They sum up to `total`.
///
/// The series swells, then shrinks:
///
/// - It starts with 1/64 of a worker's share, doubling each `workers` chunks, because the caller encodes chunks one after
///   another: with half of the items in the first round, the last worker would sit idle for half of the encoding. It also
///   keeps a dear head of the input out of one chunk.
/// - Then each chunk is `1 / (2 workers)` of what remains, but at least 1/1024 of a worker's share.
///
/// So there are at most 22 chunks for each worker, however many items; none has more than 3/8 of a worker's share (plus
/// the item that rounding up adds). No workers count as one.
///
/// ```
/// let sizes: Vec<u64> = breakeven_plan::static_chunks(40, 2).collect();
/// assert_eq!(sizes, [1, 1, 2, 2, 4, 4, 7, 5, 4, 3, 2, 2, 1, 1, 1]);
/// ```
pub fn static_chunks(total: u64, workers: u32) -> StaticChunks {
    let workers = u64::from(workers.max(1));
    StaticChunks {
        remaining: total,
        workers,
        issued: 0,
        first: (total / workers / FIRST_SHARE).max(1),
        at_least: (total / workers / SMALLEST_SHARE).max(1),
        at_most: u64::MAX,
    }
}

/// The iterator that [`static_chunks`] makes.
#[derive(Debug, Clone)]
pub struct StaticChunks {
    remaining: u64,
    workers: u64,
    issued: u64,
    first: u64,
    at_least: u64,
    at_most: u64,
}

impl StaticChunks {
    /// The same series with no chunk below `items`, but for the last: where a dispatch is known to be dear.
    pub fn at_least(mut self, items: u64) -> Self {
        self.at_least = self.at_least.max(items);
        self
    }

    /// The same series with no chunk above `items` (0 counts as 1): where items are large. Goes before [`Self::at_least`].
    pub fn at_most(mut self, items: u64) -> Self {
        self.at_most = items.max(1);
        self
    }
}

impl Iterator for StaticChunks {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.remaining == 0 {
            return None;
        }
        // Beyond 6 doublings the second bound is always the smaller one; 32 only keeps the shift in range.
        let swelling = self.first.saturating_mul(1 << (self.issued / self.workers).min(32));
        let shrinking = self.remaining.div_ceil(2 * self.workers);
        let size = swelling.min(shrinking).max(self.at_least).min(self.at_most).min(self.remaining);
        self.remaining -= size;
        self.issued += 1;
        Some(size)
    }
}

/// Prices and limits of a [`ChunkPolicy`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkConfig {
    /// Seconds that one chunk costs beside its items, over both processes: encode, put, get, and the same for the results.
    pub dispatch_seconds: f64,
    /// The dispatch may be this share of a chunk's time.
    pub overhead_share: f64,
    /// A chunk should take no more seconds: the results of a chunk come back together, and whoever iterates over them
    /// waits. Gives way to `overhead_share`.
    pub max_seconds: f64,
    /// A chunk's items, encoded, should have no more bytes: what is in flight is held in memory. A single item may.
    pub max_bytes: f64,
    /// A chunk is at most so many times as large as the largest one that has been observed: the first items may have been
    /// cheap by chance.
    pub growth: f64,
    /// A chunk has no more items, whatever they cost; 0 counts as 1.
    pub max_items: u64,
}

impl Default for ChunkConfig {
    fn default() -> Self {
        Self {
            dispatch_seconds: 10e-6,
            overhead_share: 0.01,
            max_seconds: 0.05,
            max_bytes: 4e6,
            growth: 8.0,
            max_items: u64::MAX,
        }
    }
}

/// Without a known total, a chunk is at most this share of what has been given out for each worker so far. If the input
/// ends just then and costs have not changed, the others have lost no more than this share of the time until then.
const SHARE_OF_THE_PAST: f64 = 1.0 / 32.0;

/// Costs are remembered over so many chunks.
const MEMORY_CHUNKS: f64 = 16.0;

/// Chunk sizes from measured costs, for items that are handed out while results come in.
///
/// The caller alternates [`next_chunk`](Self::next_chunk), as often as it wants a chunk in flight, with
/// [`observe`](Self::observe) for each that comes back. In order of precedence, a chunk has
///
/// 1. no more than what remains, and at least one item;
/// 2. no more than `max_bytes` and `max_items`;
/// 3. no more than `growth` times the largest chunk that was observed; before any was, one item, and double for each
///    `2 workers` chunks that are asked for in the dark;
/// 4. enough items for the dispatch to be less than `overhead_share`, or an even part of what remains where that is less;
/// 5. no more than what factoring allows (`R / (x P)`, with `x` from 2 up as costs vary), or, when the total is not
///    known, than 1/32 of what each worker has had so far;
/// 6. no more than `max_seconds`.
///
/// ```
/// use breakeven_plan::{ChunkConfig, ChunkPolicy};
/// let mut policy = ChunkPolicy::new(None, 2, ChunkConfig::default());
/// assert_eq!(policy.next_chunk(), 1);
/// policy.observe(1, 1.0); // a second for an item: one at a time is right
/// assert_eq!(policy.next_chunk(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct ChunkPolicy {
    config: ChunkConfig,
    workers: u64,
    /// `None`: not known, the input is an iterator without length.
    remaining: Option<u64>,
    issued_items: u64,
    issued_chunks: u64,
    largest_observed: u64,
    /// Mean seconds an item of the last chunk that was observed.
    latest: f64,
    seconds: Running,
    bytes: Running,
}

impl ChunkPolicy {
    /// A policy for `total` items, `None` when their number is not known, and `workers` workers (0 counts as 1).
    pub fn new(total: Option<u64>, workers: u32, config: ChunkConfig) -> Self {
        Self {
            config,
            workers: u64::from(workers.max(1)),
            remaining: total,
            issued_items: 0,
            issued_chunks: 0,
            largest_observed: 0,
            latest: 0.0,
            seconds: Running::with_memory(MEMORY_CHUNKS),
            bytes: Running::with_memory(MEMORY_CHUNKS),
        }
    }

    /// How many items the next chunk should have; they count as given out. 0 when all of a known total is.
    ///
    /// An input of unknown length may end before that many; the caller sends what there is.
    pub fn next_chunk(&mut self) -> u64 {
        let size = self.peek();
        if size > 0 {
            self.issued_chunks += 1;
            self.issued_items = self.issued_items.saturating_add(size);
            self.remaining = self.remaining.map(|remaining| remaining - size);
        }
        size
    }

    /// What [`next_chunk`](Self::next_chunk) would say now.
    pub fn peek(&self) -> u64 {
        let available = self.remaining.unwrap_or(u64::MAX);
        if available == 0 {
            return 0;
        }
        let size = match self.seconds.mean() {
            None => self.blind(),
            Some(mean) => self.measured(mean).min(self.growth_limit()),
        };
        size.min(self.bytes_limit()).min(self.config.max_items).clamp(1, available)
    }

    /// `items` that were given out come back untouched: they remain, and are to be given out again.
    pub fn give_back(&mut self, items: u64) {
        self.issued_items = self.issued_items.saturating_sub(items);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_add(items));
    }

    /// Mean seconds of an item, as far as is known: the dearer of what was observed lately and of the last chunk.
    pub fn seconds_per_item(&self) -> Option<f64> {
        self.seconds.mean().map(|mean| mean.max(self.latest))
    }

    /// A chunk of `items` came back after `seconds` of work in its worker (without the time it waited in a channel).
    pub fn observe(&mut self, items: u64, seconds: f64) {
        self.seconds.observe(items, seconds);
        self.largest_observed = self.largest_observed.max(items);
        self.latest = seconds / items.max(1) as f64;
    }

    /// A chunk of `items` had `bytes`, encoded. Tell when it is put, not when it comes back: memory is taken by then.
    pub fn observe_bytes(&mut self, items: u64, bytes: u64) {
        self.bytes.observe(items, bytes as f64);
    }

    /// Items of a known total that have not been given out.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Chunk size before anything has been measured.
    fn blind(&self) -> u64 {
        let doublings = (self.issued_chunks / (2 * self.workers)).min(32);
        let fair = self.remaining.map_or(u64::MAX, |remaining| remaining.div_ceil(2 * self.workers));
        (1 << doublings).min(fair)
    }

    /// Chunk size for items of `mean` seconds.
    fn measured(&self, mean: f64) -> u64 {
        // As f64 throughout: an item of 0 seconds (a coarse clock) gives infinity, which the other bounds cut.
        let workers = self.workers as f64;
        // The mean follows a rise in costs slowly, and each chunk until then takes many times as long as it should.
        let dear = mean.max(self.latest);
        let worth_its_dispatch = (self.config.dispatch_seconds / (self.config.overhead_share * dear)).ceil();
        let in_time = (self.config.max_seconds / dear).floor();
        let (straggler_free, even) = match self.remaining {
            Some(remaining) => {
                let remaining = remaining as f64;
                ((remaining / (self.factor(remaining) * workers)).ceil(), (remaining / workers).ceil())
            }
            None => ((self.issued_items as f64 * SHARE_OF_THE_PAST / workers).ceil(), f64::INFINITY),
        };
        in_time.min(straggler_free).max(worth_its_dispatch.min(even)) as u64
    }

    /// Factoring's `x`: of `remaining` items, each worker's next chunk gets the x-th part of its share. 2 if items cost
    /// the same; more if they vary, and the more so the fewer remain to even out.
    fn factor(&self, remaining: f64) -> f64 {
        let b = self.workers as f64 / (2.0 * remaining.sqrt()) * self.seconds.spread();
        2.0 + b * b + b * (b * b + 4.0).sqrt()
    }

    fn growth_limit(&self) -> u64 {
        (self.largest_observed.max(1) as f64 * self.config.growth) as u64
    }

    fn bytes_limit(&self) -> u64 {
        match self.bytes.mean() {
            Some(mean) if mean > 0.0 => (self.config.max_bytes / mean) as u64,
            _ => u64::MAX,
        }
    }
}

//! What a workload asks for, estimated while it runs.

/// Running mean and variance of a quantity an item (seconds, bytes), from sums over chunks of items.
///
/// Only the sum of a chunk is seen, not its items. If items are independent with variance `v`, the mean of a chunk of `n`
/// has variance `v / n`, so the squared deviation of a chunk's mean, weighted by `n`, estimates `v` (West's weighted form
/// of Welford's algorithm, which does not cancel). Old chunks fade: costs drift along an input, and the next chunk
/// resembles the last ones.
///
/// ```
/// use breakeven_plan::Running;
/// let mut seconds = Running::default();
/// seconds.observe(4, 4.0e-3);
/// seconds.observe(2, 2.0e-3);
/// assert!((seconds.mean().unwrap() - 1.0e-3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// How many chunks until an observation counts for 1/e; infinite: for ever.
    memory: f64,
    /// Sum of the weights (items, faded).
    weight: f64,
    /// Number of chunks, faded like the weights.
    chunks: f64,
    mean: f64,
    /// Weighted sum of squared deviations of the chunks' means.
    squares: f64,
}

impl Default for Running {
    /// Never forgets.
    fn default() -> Self {
        Self::with_memory(f64::INFINITY)
    }
}

impl Running {
    /// An estimate without observations, that forgets over about `memory` chunks.
    ///
    /// # Panics
    /// If `memory` is less than 1.
    pub fn with_memory(memory: f64) -> Self {
        assert!(memory >= 1.0, "memory is {memory} chunks; at least the last chunk must count");
        Self { memory, weight: 0.0, chunks: 0.0, mean: 0.0, squares: 0.0 }
    }

    /// Count a chunk of `items` that took `sum` in all. Chunks without items and sums that are no measurement (negative,
    /// not finite: a clock stepped) are left out.
    pub fn observe(&mut self, items: u64, sum: f64) {
        if items == 0 || !sum.is_finite() || sum < 0.0 {
            return;
        }
        let kept = 1.0 - 1.0 / self.memory;
        let items = items as f64;
        self.weight = self.weight * kept + items;
        self.chunks = self.chunks * kept + 1.0;
        let deviation = sum / items - self.mean;
        self.mean += deviation * items / self.weight;
        self.squares = self.squares * kept + items * deviation * (sum / items - self.mean);
    }

    /// The mean an item, or `None` before the first observation.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then_some(self.mean)
    }

    /// The variance between items, or `None` before the second observation.
    pub fn variance(&self) -> Option<f64> {
        (self.chunks > 1.5).then(|| (self.squares / (self.chunks - 1.0)).max(0.0))
    }

    /// Relative standard error of the mean: how far it may be off, as a share of it. `None` before the second observation.
    pub fn standard_error(&self) -> Option<f64> {
        let variance = self.variance()?;
        Some(if self.mean > 0.0 { (variance / self.weight).sqrt() / self.mean } else { 0.0 })
    }

    /// Standard deviation over mean: 0 for items that cost the same, 1 for exponentially distributed ones. 0 when unknown.
    pub fn spread(&self) -> f64 {
        match self.variance() {
            Some(variance) if self.mean > 0.0 => variance.sqrt() / self.mean,
            _ => 0.0,
        }
    }
}

/// What is known about one call: so many items that each ask for so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// How many items.
    pub items: u64,
    /// Mean seconds an item takes by itself, from the call of the function to its return.
    pub seconds: f64,
    /// Relative standard error of `seconds`: 0.1 means that the true mean is likely within 20 % of it. 0: exactly known.
    pub error: f64,
    /// Mean bytes of an item's arguments, encoded.
    pub bytes_in: f64,
    /// Mean bytes of an item's result, encoded.
    pub bytes_out: f64,
    /// Bytes of the function with all that it captured, sent once to each process that has not inherited it.
    pub function_bytes: f64,
    /// Share of `seconds` in which the item holds the interpreter's lock: 1 for pure Python, 0 on a free-threaded build.
    pub gil_share: f64,
    /// Share of `seconds` in which the item sleeps and needs no core.
    pub sleep_share: f64,
    /// The caller's seconds an item for sending it to another process and taking its result, where that was measured.
    pub transport: Option<f64>,
}

impl Workload {
    /// Pure-Python items without arguments or results worth mentioning, of a cost that is exactly known.
    pub fn pure_python(items: u64, seconds: f64) -> Self {
        Self {
            items,
            seconds,
            error: 0.0,
            bytes_in: 0.0,
            bytes_out: 0.0,
            function_bytes: 0.0,
            gil_share: 1.0,
            sleep_share: 0.0,
            transport: None,
        }
    }
}

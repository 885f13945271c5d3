//! Chunk schedules in simulated time: who runs what when, without a clock, a process or a random number.
//!
//! Times are whole nanoseconds, so that a run is the same on every machine, to the last bit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::chunk::ChunkPolicy;

pub mod map;

/// Whoever cuts items into chunks.
pub trait ChunkSource {
    /// Size of the next chunk, or `None` when there are no more items.
    fn next_chunk(&mut self) -> Option<u64>;

    /// A chunk of `items` came back after `seconds` in its worker.
    fn observe(&mut self, items: u64, seconds: f64) {
        let _ = (items, seconds);
    }
}

impl ChunkSource for ChunkPolicy {
    fn next_chunk(&mut self) -> Option<u64> {
        Some(Self::next_chunk(self)).filter(|size| *size > 0)
    }

    fn observe(&mut self, items: u64, seconds: f64) {
        Self::observe(self, items, seconds);
    }
}

/// Sizes that are known beforehand.
#[derive(Debug, Clone)]
pub struct Fixed<I>(pub I);

impl<I: Iterator<Item = u64>> ChunkSource for Fixed<I> {
    fn next_chunk(&mut self) -> Option<u64> {
        self.0.next()
    }
}

/// What a simulated pool is like.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// How many workers compete for the chunks.
    pub workers: usize,
    /// Nanoseconds of a worker that each chunk costs beside its items.
    pub dispatch: u64,
    /// How many chunks are made ahead: in the channel and in the workers. `usize::MAX`: all at once, as `map` does.
    pub in_flight: usize,
}

/// How a simulated run went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Nanoseconds until the last chunk was done.
    pub makespan: u64,
    /// Sizes of the chunks in the order in which they were made.
    pub chunks: Vec<u64>,
    /// Nanoseconds from when the first worker found no more work until the last was done.
    pub tail: u64,
}

/// Run items of `costs` nanoseconds, in their order, through `pool`, in chunks as `source` says. What it asks for beyond
/// the last item is cut.
pub fn run(costs: &[u64], pool: Pool, source: &mut impl ChunkSource) -> Outcome {
    // (when, worker, items, nanoseconds in the worker); ties go by worker, so the order is fixed.
    let mut running: BinaryHeap<Reverse<(u64, usize, u64, u64)>> = BinaryHeap::new();
    let mut idle: VecDeque<usize> = (0..pool.workers.max(1)).collect();
    let mut queued: VecDeque<u64> = VecDeque::new();
    let mut chunks = Vec::new();
    let (mut made, mut started, mut exhausted) = (0_usize, 0_usize, false);
    let mut now = 0;
    let mut first_idle = None;

    loop {
        while !exhausted && queued.len() + running.len() < pool.in_flight.max(1) {
            match source.next_chunk() {
                Some(size) if made < costs.len() => {
                    let size = size.clamp(1, (costs.len() - made) as u64);
                    made += size as usize;
                    queued.push_back(size);
                    chunks.push(size);
                }
                _ => exhausted = true,
            }
        }
        while let (Some(&size), Some(&worker)) = (queued.front(), idle.front()) {
            queued.pop_front();
            idle.pop_front();
            let work: u64 = costs[started..started + size as usize].iter().sum();
            started += size as usize;
            running.push(Reverse((now + pool.dispatch + work, worker, size, work)));
        }
        if !idle.is_empty() && exhausted && first_idle.is_none() {
            first_idle = Some(now);
        }
        let Some(Reverse((when, worker, items, work))) = running.pop() else { break };
        now = when;
        idle.push_back(worker);
        source.observe(items, work as f64 * 1e-9);
    }
    Outcome { makespan: now, tail: now - first_idle.unwrap_or(now), chunks }
}

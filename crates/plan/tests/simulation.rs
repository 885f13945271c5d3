//! Chunk schedules against the best that a fixed chunk size could have done, in simulated time.
//!
//! The best fixed size is found with hindsight, by trying them all (powers of two, and even parts of the input), so a
//! schedule that comes near it on every workload needs no tuning. Bounds are ratios of simulated times: exact, the same
//! on every machine.

use breakeven_plan::sim::{Fixed, Outcome, Pool, run};
use breakeven_plan::{ChunkConfig, ChunkPolicy, static_chunks};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const DISPATCH: u64 = 10 * MICROSECOND;

/// Knuth's MMIX generator: a fixed sequence, so that the costs are part of the test.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Named lists of item costs in nanoseconds.
fn workloads() -> Vec<(&'static str, Vec<u64>)> {
    let mut sequence = Sequence(1);
    let tiny = vec![100; 1_000_000];
    let small = vec![20 * MICROSECOND; 20_000];
    let large = vec![10 * MILLISECOND; 400];
    let rising: Vec<u64> = (0..10_000).map(|i| 1_000 + i * 20).collect();
    let falling: Vec<u64> = rising.iter().rev().copied().collect();
    let skewed: Vec<u64> = (0..10_000)
        .map(|_| {
            // A Pareto-like tail: halving the chance doubles the cost, up to 4,096 times the usual.
            let doublings = (0..12).take_while(|_| sequence.below(100) < 45).count() as u32;
            (10 * MICROSECOND) << doublings
        })
        .collect();
    let mut sequence = Sequence(2);
    let bimodal: Vec<u64> =
        (0..20_000).map(|_| if sequence.below(100) < 5 { MILLISECOND } else { 5 * MICROSECOND }).collect();
    // All that is dear stands together, at the worst place for schedules that start large, or that end large.
    let dear_head: Vec<u64> = (0..20_000).map(|i| if i < 1_000 { MILLISECOND } else { 5 * MICROSECOND }).collect();
    let dear_tail: Vec<u64> = dear_head.iter().rev().copied().collect();
    vec![
        ("tiny", tiny),
        ("small", small),
        ("large", large),
        ("rising", rising),
        ("falling", falling),
        ("skewed", skewed),
        ("bimodal", bimodal),
        ("dear_head", dear_head),
        ("dear_tail", dear_tail),
    ]
}

fn best_fixed(costs: &[u64], pool: Pool) -> u64 {
    let total = costs.len() as u64;
    let powers = (0..63).map(|bit| 1_u64 << bit).take_while(|size| *size <= total);
    let parts = (1..=64).map(|parts| total.div_ceil(parts * pool.workers as u64));
    powers.chain(parts).map(|size| run(costs, pool, &mut Fixed(std::iter::repeat(size))).makespan).min().unwrap()
}

/// Worst ratio to the best fixed size that a schedule may reach, for each workload: `usual`, but for the `exceptions`.
struct Bounds {
    usual: f64,
    exceptions: &'static [(&'static str, f64)],
}

fn check(bounds: &Bounds, ahead: impl Fn(usize) -> usize, schedule: impl Fn(&[u64], Pool) -> Outcome) {
    for workers in [2, 4, 16] {
        for (name, costs) in workloads() {
            let pool = Pool { workers, dispatch: DISPATCH, in_flight: ahead(workers) };
            let best = best_fixed(&costs, Pool { in_flight: usize::MAX, ..pool });
            let outcome = schedule(&costs, pool);
            assert_eq!(outcome.chunks.iter().sum::<u64>(), costs.len() as u64, "{name} lost or doubled items");

            let bound =
                bounds.exceptions.iter().find(|(exception, _)| *exception == name).map_or(bounds.usual, |e| e.1);
            let ratio = outcome.makespan as f64 / best as f64;
            let chunks = outcome.chunks.len();
            assert!(ratio <= bound, "{name}, {workers} workers: {ratio:.3} of the best, {chunks} chunks");
        }
    }
}

#[test]
fn static_chunks_come_near_the_best_fixed_size() {
    // A dear head that is hardly longer than one worker's share is cut blindly: nothing has been measured.
    let bounds = Bounds { usual: 1.03, exceptions: &[("dear_head", 2.0)] };
    check(
        &bounds,
        |_| usize::MAX,
        |costs, pool| run(costs, pool, &mut Fixed(static_chunks(costs.len() as u64, pool.workers as u32))),
    );
}

#[test]
fn the_policy_comes_near_the_best_fixed_size() {
    // 100 ms in all on 16 workers: the start, one item at a time, shows. The dear head: its chunks grow while it lasts.
    let bounds = Bounds { usual: 1.02, exceptions: &[("tiny", 1.05), ("dear_head", 1.3)] };
    check(
        &bounds,
        |workers| 3 * workers,
        |costs, pool| {
            let total = Some(costs.len() as u64);
            run(costs, pool, &mut ChunkPolicy::new(total, pool.workers as u32, ChunkConfig::default()))
        },
    );
}

#[test]
fn the_policy_does_without_knowing_where_the_input_ends() {
    // The dear tail: 200 items of 5 us are a chunk that is worth its dispatch, and suddenly they take a millisecond each.
    let bounds = Bounds { usual: 1.05, exceptions: &[("tiny", 1.15), ("dear_tail", 3.0)] };
    check(
        &bounds,
        |workers| 3 * workers,
        |costs, pool| run(costs, pool, &mut ChunkPolicy::new(None, pool.workers as u32, ChunkConfig::default())),
    );
}

#[test]
fn dispatch_stays_below_its_share() {
    let costs = vec![MICROSECOND; 1_000_000];
    let pool = Pool { workers: 2, dispatch: DISPATCH, in_flight: 6 };
    for total in [Some(costs.len() as u64), None] {
        let outcome = run(&costs, pool, &mut ChunkPolicy::new(total, 2, ChunkConfig::default()));
        let dispatch = outcome.chunks.len() as u64 * DISPATCH;
        let work: u64 = costs.iter().sum();
        assert!(
            dispatch * 100 <= work,
            "{} chunks of 1,000,000 items, total known: {}",
            outcome.chunks.len(),
            total.is_some()
        );
    }
}

#[test]
fn long_items_go_one_at_a_time() {
    // 16 items of a second on 4 workers take 4 seconds, as they would if they were sent singly.
    let costs = vec![1_000 * MILLISECOND; 16];
    let pool = Pool { workers: 4, dispatch: DISPATCH, in_flight: 8 };
    for total in [Some(16), None] {
        let outcome = run(&costs, pool, &mut ChunkPolicy::new(total, 4, ChunkConfig::default()));
        assert_eq!(outcome.makespan, 4 * (1_000 * MILLISECOND + DISPATCH), "{:?}", outcome.chunks);
    }
}

#[test]
fn a_schedule_is_the_same_each_time() {
    let costs = &workloads()[5].1;
    let pool = Pool { workers: 3, dispatch: DISPATCH, in_flight: 9 };
    let once = || run(costs, pool, &mut ChunkPolicy::new(None, 3, ChunkConfig::default()));
    assert_eq!(once(), once());
}

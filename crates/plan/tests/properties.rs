//! What holds of chunk sizes and estimates whatever the input.

use breakeven_plan::sim::{Fixed, Pool, run};
use breakeven_plan::{ChunkConfig, ChunkPolicy, Running, static_chunks};
use proptest::prelude::*;

/// Number of items: small ones, where rounding shows, as often as large ones.
fn totals() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..50, 0_u64..5_000, 0_u64..1_000_000_000, Just(u64::MAX)]
}

/// Seconds as a clock might give them, and as it should not.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![1e-8..10.0_f64, Just(0.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e300), Just(1e-300)]
}

proptest! {
    #[test]
    fn static_chunks_sum_up_and_none_is_empty(total in totals(), workers in 0_u32..300) {
        let sizes: Vec<u64> = static_chunks(total, workers).collect();
        prop_assert_eq!(sizes.iter().sum::<u64>(), total);
        prop_assert!(sizes.iter().all(|size| *size > 0));
    }

    #[test]
    fn static_chunks_swell_then_shrink(total in totals(), workers in 1_u32..300) {
        let sizes: Vec<u64> = static_chunks(total, workers).collect();
        let shrinking: Vec<&[u64]> = sizes.windows(2).skip_while(|pair| pair[0] <= pair[1]).collect();
        prop_assert!(shrinking.iter().all(|pair| pair[0] >= pair[1]), "{:?}", sizes);
    }

    #[test]
    fn static_chunks_are_few(total in totals(), workers in 1_u32..300) {
        let count = static_chunks(total, workers).count() as u64;
        prop_assert!(count <= 22 * u64::from(workers), "{} chunks", count);
        prop_assert!(count <= total);
    }

    #[test]
    fn no_static_chunk_is_a_large_part_of_a_share(total in 0_u64..1_000_000_000, workers in 1_u32..300) {
        let largest = static_chunks(total, workers).max().unwrap_or(0);
        prop_assert!(largest as f64 <= 0.375 * total as f64 / f64::from(workers) + 1.0, "{}", largest);
    }

    #[test]
    fn static_chunks_keep_asked_bounds(
        total in 0_u64..1_000_000, workers in 1_u32..100, at_least in 0_u64..1_000, at_most in 0_u64..1_000,
    ) {
        let sizes: Vec<u64> = static_chunks(total, workers).at_least(at_least).collect();
        if let Some((_, all_but_last)) = sizes.split_last() {
            prop_assert!(all_but_last.iter().all(|size| *size >= at_least));
        }
        let sizes: Vec<u64> = static_chunks(total, workers).at_least(at_least).at_most(at_most).collect();
        prop_assert!(sizes.iter().all(|size| *size <= at_most.max(1)));
        prop_assert_eq!(sizes.iter().sum::<u64>(), total);
    }

    /// The module's argument, checked: if no item costs more than twice another, nobody waits longer at the end than for
    /// the smallest chunk, and the item of rounding up.
    #[test]
    fn static_chunks_leave_no_straggler(
        costs in prop::collection::vec(1_000_u64..=2_000, 1..6_000), workers in 1_u32..20,
    ) {
        let total = costs.len() as u64;
        let pool = Pool { workers: workers as usize, dispatch: 0, in_flight: usize::MAX };
        let outcome = run(&costs, pool, &mut Fixed(static_chunks(total, workers)));
        let work: u64 = costs.iter().sum();
        let smallest = (total / u64::from(workers) / 1_024).max(1);
        let bound = work.div_ceil(u64::from(workers)) + (smallest + 1) * 2_000;
        prop_assert!(outcome.makespan <= bound, "{} against {}", outcome.makespan, bound);
    }

    /// Graham's bound for any schedule in which no worker idles while there is work; tests the simulator.
    #[test]
    fn simulated_time_is_within_grahams_bounds(
        costs in prop::collection::vec(0_u64..1_000_000, 1..500),
        sizes in prop::collection::vec(1_u64..50, 1..50),
        workers in 1_usize..20,
        ahead in 1_usize..3,
    ) {
        let pool = Pool { workers, dispatch: 0, in_flight: ahead * workers };
        let outcome = run(&costs, pool, &mut Fixed(sizes.iter().copied().cycle()));
        let mut start = 0;
        let chunk_costs: Vec<u64> = outcome.chunks.iter().map(|size| {
            let chunk = &costs[start..start + *size as usize];
            start += chunk.len();
            chunk.iter().sum()
        }).collect();
        let (work, dearest) = (costs.iter().sum::<u64>(), *chunk_costs.iter().max().unwrap());
        prop_assert_eq!(start, costs.len());
        prop_assert!(outcome.makespan >= work.div_ceil(workers as u64).max(dearest));
        prop_assert!(outcome.makespan <= work / workers as u64 + dearest);
    }

    #[test]
    fn the_policy_gives_out_all_of_a_known_total(
        total in 0_u64..100_000, workers in 0_u32..50, costs in prop::collection::vec(seconds(), 1..20),
    ) {
        let mut policy = ChunkPolicy::new(Some(total), workers, ChunkConfig::default());
        let (mut given, mut costs) = (0, costs.into_iter().cycle());
        for _ in 0..=total {
            let size = policy.next_chunk();
            if size == 0 {
                break;
            }
            given += size;
            prop_assert_eq!(policy.remaining(), Some(total - given));
            policy.observe(size, costs.next().unwrap());
        }
        prop_assert_eq!(given, total);
        prop_assert_eq!(policy.next_chunk(), 0);
    }

    #[test]
    fn the_policy_always_answers_within_its_limits(
        steps in prop::collection::vec((0_u64..1_000_000, seconds(), 0_u64..u64::MAX, any::<bool>()), 1..200),
        workers in 1_u32..50,
    ) {
        let config = ChunkConfig::default();
        let mut policy = ChunkPolicy::new(None, workers, config);
        let (mut largest, mut measured) = (1, false);
        for (items, seconds, bytes, bytes_too) in steps {
            let size = policy.next_chunk();
            prop_assert!(size >= 1);
            prop_assert!(!measured || size as f64 <= config.growth * largest as f64, "{} after {}", size, largest);
            policy.observe(items, seconds);
            largest = largest.max(items);
            measured |= items > 0 && seconds.is_finite() && seconds >= 0.0;
            if bytes_too {
                policy.observe_bytes(items, bytes);
            }
        }
    }

    /// Constant costs: once chunks have grown, each is worth its dispatch, or an even part of the rest.
    #[test]
    fn the_policys_chunks_are_worth_their_dispatch(total in 1_u64..1_000_000, workers in 1_u32..20, cost in 1e-8..1e-2_f64) {
        let config = ChunkConfig::default();
        let mut policy = ChunkPolicy::new(Some(total), workers, config);
        let worth = config.dispatch_seconds / (config.overhead_share * cost);
        let mut largest = 0;
        loop {
            let even = policy.remaining().unwrap() as f64 / f64::from(workers);
            let size = policy.next_chunk();
            if size == 0 {
                break;
            }
            if largest > 0 {
                let grown = config.growth * largest as f64;
                prop_assert!(size as f64 >= worth.min(even).min(grown).floor(), "{} of {:?}", size, policy);
            }
            largest = largest.max(size);
            policy.observe(size, size as f64 * cost);
        }
    }

    #[test]
    fn the_policy_keeps_bytes_in_flight_bounded(item_bytes in 1_u64..100_000_000, cost in 1e-8..1e-3_f64) {
        let config = ChunkConfig::default();
        let mut policy = ChunkPolicy::new(None, 2, config);
        for step in 0..100 {
            let size = policy.next_chunk();
            if step > 0 {
                prop_assert!(size == 1 || (size * item_bytes) as f64 <= config.max_bytes);
            }
            policy.observe_bytes(size, size * item_bytes);
            policy.observe(size, size as f64 * cost);
        }
    }

    #[test]
    fn running_agrees_with_the_textbook(values in prop::collection::vec(0.0..1e6_f64, 2..200)) {
        let mut running = Running::default();
        for value in &values {
            running.observe(1, *value);
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        prop_assert!((running.mean().unwrap() - mean).abs() <= 1e-9 * mean.max(1.0));
        prop_assert!((running.variance().unwrap() - variance).abs() <= 1e-6 * variance.max(1.0));
    }

    #[test]
    fn a_fading_estimate_follows(before in 1e-6..1.0_f64, after in 1e-6..1.0_f64, items in 1_u64..1_000) {
        let mut running = Running::with_memory(16.0);
        for _ in 0..100 {
            running.observe(items, before * items as f64);
        }
        for _ in 0..160 {
            running.observe(items, after * items as f64);
        }
        prop_assert!((running.mean().unwrap() - after).abs() <= 1e-3 * before.max(after));
    }
}

#[test]
fn before_any_result_chunks_stay_small_and_then_double() {
    let mut policy = ChunkPolicy::new(None, 2, ChunkConfig::default());
    let sizes: Vec<u64> = (0..12).map(|_| policy.next_chunk()).collect();
    assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4]);
}

#[test]
fn items_that_vary_get_smaller_chunks() {
    let size = |costs: [f64; 2]| {
        let mut policy = ChunkPolicy::new(Some(1_000), 8, ChunkConfig { max_seconds: 1e9, ..ChunkConfig::default() });
        for _ in 0..50 {
            for cost in costs {
                policy.observe(20, 20.0 * cost);
            }
        }
        policy.next_chunk()
    };
    assert!(size([0.5, 1.5]) < size([1.0, 1.0]));
}

#[test]
fn variance_comes_from_chunks_of_any_size() {
    // Chunks of 4 items whose means are 1 and 3: variance between items is 4 times that between means.
    let mut running = Running::default();
    running.observe(4, 4.0);
    running.observe(4, 12.0);
    assert_eq!(running.mean(), Some(2.0));
    assert_eq!(running.variance(), Some(8.0));
    assert_eq!(running.spread(), 8.0_f64.sqrt() / 2.0);
}

#[test]
fn a_rise_in_costs_is_noticed_at_once() {
    let config = ChunkConfig::default();
    let mut policy = ChunkPolicy::new(None, 2, config);
    for _ in 0..1_000 {
        policy.next_chunk();
        policy.observe(10_000, 10_000.0 * 100e-9);
    }
    for _ in 0..5 {
        let size = policy.next_chunk();
        policy.observe(size, size as f64 * 1e-3);
    }
    let seconds = policy.next_chunk() as f64 * 1e-3;
    assert!(seconds <= config.max_seconds, "the next chunk would take {seconds} s");
}

#[test]
fn items_that_come_back_are_given_out_again() {
    let mut policy = ChunkPolicy::new(Some(10), 1, ChunkConfig::default());
    let mut given = 0;
    while policy.next_chunk() > 0 {
        given += 1;
        assert!(given < 100);
    }
    assert_eq!((policy.remaining(), policy.peek()), (Some(0), 0));
    policy.give_back(3);
    assert_eq!(policy.remaining(), Some(3));
    assert!(policy.peek() > 0);
}

#[test]
fn a_chunk_has_no_more_items_than_it_may() {
    let mut policy = ChunkPolicy::new(None, 2, ChunkConfig { max_items: 3, ..ChunkConfig::default() });
    for _ in 0..100 {
        let size = policy.next_chunk();
        assert!((1..=3).contains(&size));
        policy.observe(size, 0.0);
    }
    assert_eq!(policy.peek(), 3);
}

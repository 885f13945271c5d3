//! The simulated workloads, by name.

use breakeven_plan::sim::map::Items;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

/// Knuth's MMIX generator: a fixed sequence, so that the costs are part of the table.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Uniform, skewed, bimodal, drifting and adversarial; computing, sleeping and without the lock.
pub fn all() -> Vec<(&'static str, Items)> {
    let mut sequence = Sequence(1);
    let skewed = (0..20_000)
        .map(|_| {
            let doublings = (0..12).take_while(|_| sequence.below(100) < 45).count() as u32;
            (20 * MICROSECOND) << doublings
        })
        .collect();
    let bimodal =
        (0..40_000).map(|_| if sequence.below(100) < 5 { 2 * MILLISECOND } else { 5 * MICROSECOND }).collect();
    let rising: Vec<u64> = (0..20_000).map(|i| 1_000 + i * 20).collect();
    let falling = rising.iter().rev().copied().collect();
    let dear_head: Vec<u64> = (0..40_000).map(|i| if i < 1_000 { 2 * MILLISECOND } else { 5 * MICROSECOND }).collect();
    let dear_tail = dear_head.iter().rev().copied().collect();
    // Cheap for as long as the planner looks, then dear in the middle, where neither end shows it.
    let hidden = (0..40_000).map(|i| if (15_000..16_000).contains(&i) { 2 * MILLISECOND } else { 2_000 }).collect();
    // Each time that chunks have grown, one item that outlasts them all.
    let traps = (0..30_000_u64).map(|i| if i % 5_000 == 4_999 { 50 * MILLISECOND } else { 20 * MICROSECOND }).collect();
    let asleep = |count: usize, cost: u64| Items { awake: 0.01, gil: 0.01, ..Items::pure(vec![cost; count]) };
    vec![
        ("tiny", Items::pure(vec![60; 500_000])),
        ("ten of 10 us", Items::pure(vec![10 * MICROSECOND; 10])),
        ("2 us", Items::pure(vec![2 * MICROSECOND; 200_000])),
        ("100 us", Items::pure(vec![100 * MICROSECOND; 20_000])),
        ("10 ms", Items::pure(vec![10 * MILLISECOND; 400])),
        ("4 of 100 ms", Items::pure(vec![100 * MILLISECOND; 4])),
        ("skewed", Items::pure(skewed)),
        ("bimodal", Items::pure(bimodal)),
        ("rising", Items::pure(rising)),
        ("falling", Items::pure(falling)),
        ("dear head", Items::pure(dear_head)),
        ("dear tail", Items::pure(dear_tail)),
        ("hidden", Items::pure(hidden)),
        ("traps", Items::pure(traps)),
        ("no lock", Items { gil: 0.02, ..Items::pure(vec![500 * MICROSECOND; 4_000]) }),
        ("sleeps 1 ms", asleep(2_000, MILLISECOND)),
        ("sleeps 50 ms", asleep(200, 50 * MILLISECOND)),
        ("1 MB each", Items { bytes: 1e6, ..Items::pure(vec![300 * MICROSECOND; 2_000]) }),
    ]
}

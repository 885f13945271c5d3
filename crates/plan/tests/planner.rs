//! The planner in simulated time: scenarios that can be read, and properties of any input.

use breakeven_plan::sim::map::{Items, Run, run};
use breakeven_plan::{Command, Config, Kind, Planner};
use proptest::prelude::*;
use std::path::Path;

#[allow(dead_code, reason = "its main is not used here")]
#[path = "../examples/regret.rs"]
mod regret;

// --- scenarios ---

/// Seconds of `5ms`, `80ns`, ...
fn time(text: &str) -> f64 {
    let (number, factor) = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or_else(|| panic!("{text}: no unit"));
    number.parse::<f64>().unwrap() * factor
}

fn kind(name: &str) -> Kind {
    Kind::from_name(name).unwrap_or_else(|| panic!("{name} is no kind of helper"))
}

struct Scenario {
    items: Items,
    config: Config,
    known: bool,
    expected: Vec<Vec<String>>,
    also: Vec<Kind>,
}

fn read(text: &str) -> Scenario {
    let mut scenario = Scenario {
        items: Items::pure(Vec::new()),
        config: Config { cores: 2, ..Config::default() },
        known: true,
        expected: Vec::new(),
        also: Vec::new(),
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["items", count, "of", cost] => {
                let cost = (time(cost) * 1e9).round() as u64;
                scenario.items.costs.extend(std::iter::repeat_n(cost, count.parse().unwrap()));
            }
            ["cores", count] => scenario.config.cores = count.parse().unwrap(),
            ["kinds", ref names @ ..] => scenario.config.kinds = names.iter().map(|name| kind(name)).collect(),
            ["lock", share] => scenario.items.gil = share.parse().unwrap(),
            ["awake", share] => scenario.items.awake = share.parse().unwrap(),
            ["bytes", count] => scenario.items.bytes = count.parse().unwrap(),
            ["length", "unknown"] => scenario.known = false,
            ["workers", count] => scenario.config.workers = Some(count.parse().unwrap()),
            ["here", "no"] => scenario.config.here = false,
            ["must"] => scenario.config.must = true,
            ["also", name] => scenario.also.push(kind(name)),
            ["expect", ref what @ ..] => scenario.expected.push(what.iter().map(|word| (*word).into()).collect()),
            _ => panic!("cannot read {line:?}"),
        }
    }
    scenario.config.total = scenario.known.then_some(scenario.items.costs.len() as u64);
    scenario
}

fn check(name: &str, scenario: &Scenario, run: &Run) {
    for what in &scenario.expected {
        let words: Vec<&str> = what.iter().map(String::as_str).collect();
        match words[..] {
            ["loop"] => assert_eq!(run.ordered, [0; 3], "{name}: {run:?}"),
            ["regret", most] => {
                assert!(run.regret() <= most.parse().unwrap(), "{name}: {:.3}, {run:?}", run.regret());
            }
            ["over-loop", most] => {
                let over = run.makespan - 1.05 * run.serial;
                assert!(over <= time(most), "{name}: {over}, {run:?}");
            }
            ["here", count] => assert_eq!(run.here, count.parse::<u64>().unwrap(), "{name}: {run:?}"),
            [expected, ref count @ ..] => {
                let expected = kind(expected);
                let ordered = run.ordered[expected as usize];
                assert!(ordered > 0, "{name}: {run:?}");
                if let [count] = count {
                    assert_eq!(ordered, count.parse::<u32>().unwrap(), "{name}: {run:?}");
                }
                for other in Kind::ALL {
                    let allowed = other == expected || scenario.also.contains(&other);
                    assert!(allowed || run.ordered[other as usize] == 0, "{name}: {run:?}");
                }
            }
            [] => panic!("{name}: expects nothing"),
        }
    }
}

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let scenario = read(&std::fs::read_to_string(&path).unwrap());
            let name = path.file_stem().unwrap().to_string_lossy();
            assert!(!scenario.expected.is_empty(), "{name} expects nothing");
            check(&name, &scenario, &run(&scenario.items, scenario.config.clone()));
            count += 1;
        }
    }
    assert!(count >= 14, "only {count} scenarios were found");
}

/// What `cargo run --example regret` writes is what stands in docs/.
#[test]
fn the_published_regret_is_what_the_planner_has() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let rows = regret::rows();
    for (name, made) in [("regret-simulated.md", regret::page(&rows)), ("regret-simulated.svg", regret::plot(&rows))] {
        let kept = std::fs::read_to_string(docs.join(name)).unwrap();
        assert!(kept == made, "docs/{name} is old: cargo run --release -p breakeven-plan --example regret");
    }
}

// --- properties ---

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    prop::sample::subsequence(vec![Kind::Threads, Kind::Warm, Kind::Fork], 0..=3)
}

/// Costs as programs have them: alike, varied over six powers of ten, or with dear stretches.
fn costs() -> impl Strategy<Value = Vec<u64>> {
    let stretch = (1_usize..400, 1.5_f64..7.5).prop_map(|(count, power)| vec![10_f64.powf(power) as u64; count]);
    prop_oneof![
        prop::collection::vec(stretch, 1..6).prop_map(|parts| parts.concat()),
        prop::collection::vec((1.5_f64..7.0).prop_map(|power| 10_f64.powf(power) as u64), 0..600),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The simulated engine checks that each item runs once and that the map comes to its end.
    #[test]
    fn every_item_runs_once(
        costs in costs(), kinds in kinds(), cores in 1_u32..40, awake in 0.0..1.0_f64, lock in 0.0..1.0_f64, known: bool,
        workers in prop::option::of(1_u32..50), chunk in prop::option::of(1_u64..40), must: bool, gil: bool, here: bool,
    ) {
        let here = here || kinds.is_empty();
        let items = Items { awake, gil: lock.min(awake), ..Items::pure(costs) };
        let total = known.then_some(items.costs.len() as u64);
        let config = Config { total, cores, kinds, workers, chunk, must, gil, here, ..Config::default() };
        run(&items, config);
    }

    /// Never lose: whatever the items cost, and in whatever order they stand, the caller loses no more than what it paid for
    /// helpers and for the last item that one of them has begun.
    #[test]
    fn the_loop_is_hardly_ever_better(costs in costs(), kinds in kinds(), cores in 1_u32..17, known: bool) {
        let items = Items::pure(costs);
        let total = known.then_some(items.costs.len() as u64);
        let run = run(&items, Config { total, cores, kinds, ..Config::default() });
        let orders = f64::from(run.ordered.iter().sum::<u32>()) * 2e-3;
        prop_assert!(run.makespan <= 1.05 * run.serial + 1e-3 + orders, "{:?}", run);
    }

    #[test]
    fn a_map_is_planned_the_same_each_time(costs in costs(), cores in 1_u32..17) {
        let items = Items::pure(costs);
        let config = Config { total: Some(items.costs.len() as u64), cores, ..Config::default() };
        prop_assert_eq!(run(&items, config.clone()), run(&items, config));
    }

    /// An engine in which everything goes wrong that can: helpers are refused, die with chunks, come up late or never.
    #[test]
    fn it_ends_whatever_becomes_of_the_helpers(
        total in prop::option::of(0_u64..3_000),
        fates in prop::collection::vec(0_u8..10, 1..200),
        costs in prop::collection::vec(1e-7..1e-2_f64, 1..20),
        kinds in kinds(),
        cores in 1_u32..9,
    ) {
        let length = total.unwrap_or(1_234);
        let mut planner = Planner::new(Config { total, cores, kinds, ..Config::default() });
        let (mut left, mut done, mut now) = (length, 0_u64, 0.0);
        let mut chunks: Vec<(Kind, u64)> = Vec::new();
        let mut fates = fates.iter().cycle();
        let mut costs = costs.iter().cycle();
        let mut waits = 0;
        for step in 0.. {
            prop_assert!(step < 200_000, "does not come to an end");
            let cost = *costs.next().unwrap();
            let fate = *fates.next().unwrap();
            match planner.next(now) {
                Command::Here(count) => {
                    prop_assert!(total.is_none() || count <= left);
                    let count = count.min(left);
                    if count == 0 {
                        planner.exhausted();
                    }
                    left -= count;
                    done += count;
                    now += count as f64 * cost;
                    planner.ran_here(count, count as f64 * cost, count as f64 * cost * f64::from(fate) / 9.0);
                }
                Command::Start(kind, count) => {
                    for _ in 0..count {
                        if fate < 5 { planner.helper_up(kind, now) } else { planner.helper_gone(kind) }
                    }
                }
                Command::Send(kind, count) => {
                    prop_assert!(total.is_none() || count <= left);
                    let count = count.min(left);
                    if count == 0 {
                        planner.exhausted();
                    } else {
                        chunks.push((kind, count));
                    }
                    left -= count;
                    planner.sent(kind, count, count * 100, 1e-5);
                }
                Command::Take(kind) => {
                    let place = chunks.iter().position(|chunk| chunk.0 == kind).filter(|_| fate < 7);
                    let count = place.map_or(0, |place| chunks.remove(place).1);
                    left += count;
                    planner.took_back(kind, count);
                }
                Command::Probe => {
                    planner.probed(1e-3 * f64::from(fate) / 3.0, 3e-3, now);
                }
                Command::Stop(_) => {}
                Command::Wait(_) => {
                    waits += 1;
                    now += 1e-3;
                    prop_assert!(!chunks.is_empty(), "waits for nothing");
                    // A helper dies with its chunk, and another engine would run it again; or it comes back.
                    let (kind, count) = chunks.remove(0);
                    if fate == 9 && waits < 1_000 {
                        planner.helper_gone(kind);
                        planner.gave_back(kind, count);
                        left += count;
                    } else {
                        done += count;
                        planner.ran(kind, count, count as f64 * cost, count as f64 * cost, 10, 1e-6);
                    }
                }
                Command::Done => break,
            }
        }
        prop_assert_eq!(done, length);
        prop_assert_eq!(left, 0);
    }
}

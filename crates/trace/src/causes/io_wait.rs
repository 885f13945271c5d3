//! `io_wait`: tasks asleep, or in blocking input and output, while others wait for a worker.
//!
//! Waiting is no fault where everything that can wait at once does. It is one where few workers wait, one task after the
//! other.

use super::{Words, count, located, named, percent, seconds};
use crate::cause::Cause;
use crate::facts::{Facts, Unit, to_place};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    let asleep = (facts.path[Cause::IoWait as usize] - facts.own_sleep_outside()).max(0.0);
    let Some(pool) = facts.main_pool() else {
        // Processes that wait again and again: what they wait for could be waited for at the same time.
        let sleepers = sleepers(facts);
        let waits = sleepers.iter().map(|unit| unit.waits).min().unwrap_or(0).min(16) as f64;
        return if 2 * sleepers.len() > facts.units.len() { asleep * (1.0 - 1.0 / waits.max(1.0)) } else { 0.0 };
    };
    // So many more could wait at a time.
    let items = pool.items.max(pool.tasks).min(pool.workers as u64 * 64) as f64;
    asleep * (1.0 - pool.workers as f64 / items.max(1.0)).max(0.0)
}

/// Processes of the program's that are asleep most of the time, one short wait after the other.
fn sleepers<'a>(facts: &'a Facts<'_>) -> Vec<&'a Unit> {
    let often = |unit: &&Unit| unit.waits >= 12 && unit.asleep > 0.6 * (unit.end - unit.begin) as f64 * 1e-9;
    facts.units.iter().filter(often).collect()
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let mut pool = facts.main_pool().cloned().unwrap_or_default();
    if facts.main_pool().is_none() {
        let sleepers = sleepers(facts);
        pool.workers = sleepers.len();
        pool.tasks = sleepers.iter().map(|unit| unit.waits).sum();
        pool.seconds = sleepers.iter().map(|unit| unit.asleep).sum();
        if let Some(unit) = sleepers.last() {
            pool.site.clone_from(&unit.site);
            pool.function.clone_from(&unit.name);
        }
    }
    let asleep = facts.total[Cause::IoWait as usize];
    let function = named(&pool.function, "work").to_owned();
    let more = pool.tasks.min(64);
    let (piece, pieces) = if facts.main_pool().is_some() { ("task", "tasks") } else { ("wait", "waits") };
    Words {
        headline: format!(
            "{} of {function} only wait, {} at a time{}: {} of {} process-seconds asleep.",
            count(pool.tasks, piece, pieces),
            pool.workers,
            located(&pool.site),
            seconds(asleep),
            seconds(facts.process_seconds)
        ),
        evidence: vec![format!(
            "A {piece} takes {}; the cores were busy for {} of the run.",
            seconds(pool.mean()),
            percent(
                facts.account.parts.iter().map(crate::attribute::Part::busy).sum::<f64>()
                    / (facts.elapsed * facts.cores).max(1e-9)
            )
        )],
        places: to_place(&pool.site, format!("{} that wait", count(pool.tasks, "task", "tasks"))).into_iter().collect(),
        advice: format!(
            "Work that waits needs threads or coroutines, not processes, and many more of them than cores: {more} here."
        ),
        sketch: Some(format!(
            "- with {}({}) as pool:\n+ with ThreadPoolExecutor({more}) as pool:\n      results = list(pool.map({function}, items))",
            named(&pool.class, "Pool"),
            pool.workers
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::report::FixKind;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn processes_that_wait_again_and_again() {
        let mut run = Build::new(2, 2.1);
        for _ in 0..4 {
            let child = run.child(0, "fork", 0.0, 2.05);
            run.span(child, K::Run, 0.0, 2.05).name("ask").cpu(0.02);
            run.sample(child, 0, 2.05, 0.02, 0.0).voluntary = 100;
        }
        let pid = run.pid(1);
        run.span(0, K::Join, 0.0, 2.06).object(pid).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::IoWait, "{:?}", report.primary);
        let serial = report.fixes.iter().find(|fix| fix.kind == FixKind::Serial).unwrap();
        assert!((7.5..8.5).contains(&serial.predicted_seconds), "{}", serial.predicted_seconds);
    }

    #[test]
    fn forty_tasks_that_sleep_in_two_processes() {
        let mut run = Build::new(2, 4.1);
        run.pool(0, 7, "Pool", 2, "fetch.py:4");
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(0).value(40).name("fetch").site("fetch.py:5");
        run.span(0, K::Result, 0.0, 4.05).object(7).link(0).asleep();
        let workers = [run.child(0, "fork", 0.0, 4.1), run.child(0, "fork", 0.0, 4.1)];
        for task in 0..40u32 {
            let at = 0.2 * f64::from(task / 2);
            run.span(workers[task as usize % 2], K::Task, at, at + 0.2).object(7).link(u64::from(task)).cpu(0.001);
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::IoWait);
        let threads = report.fixes.iter().find(|fix| fix.kind == FixKind::Threads).unwrap();
        assert!(threads.predicted_seconds < 0.5, "{}", threads.predicted_seconds);
        let serial = report.fixes.iter().find(|fix| fix.kind == FixKind::Serial).unwrap();
        assert!((7.5..8.5).contains(&serial.predicted_seconds), "{}", serial.predicted_seconds);
    }
}

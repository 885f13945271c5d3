//! `not_parallel`: the program's shape lets only one worker run at a time, or makes its workers anew for each call.

use super::{Words, count, located, named, seconds, startup};
use crate::cause::Cause;
use crate::facts::{Facts, Shape, to_place};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    let idle = facts.loss_unit + facts.path[Cause::Imbalance as usize];
    match &facts.shape {
        None => 0.0,
        // Without the shape the pool is made once.
        Some(Shape::PoolPerCall { pools, .. }) => {
            startup::gain(facts).max(0.0) * (1.0 - 1.0 / *pools as f64) + 1e-3 * facts.elapsed
        }
        // Everything that happens between two tasks happens beside them.
        Some(Shape::TaskByTask { .. }) => idle + facts.path[Cause::Granularity as usize],
        Some(Shape::ProcessByProcess { processes, .. }) => {
            let keeps = (facts.cores / *processes as f64).min(1.0);
            idle + startup::gain(facts).max(0.0) * (1.0 - keeps)
        }
        Some(Shape::Locked { .. }) => idle + (1.0 - 1.0 / facts.cores) * facts.path[Cause::NotParallel as usize],
        Some(Shape::OneWorker { .. } | Shape::OneProcess { .. }) => facts.loss_unit,
    }
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let (headline, site, evidence, advice, sketch) = match facts.shape.clone() {
        Some(Shape::PoolPerCall { pools, site, class }) => (
            format!(
                "{} are made one after the other{}: starting and ending their workers costs {} of the run.",
                count(pools, named(&class, "pool"), &format!("{}s", named(&class, "pool"))),
                located(&site),
                seconds(gain(facts))
            ),
            site,
            format!(
                "{} were started in all, for {}.",
                count(facts.started_workers() as u64, "worker", "workers"),
                count(facts.tasks(), "task", "tasks")
            ),
            "Make one pool, outside of the loop or function, and use it for all calls.",
            "- for batch in batches:\n-     with Pool() as pool:\n-         pool.map(work, batch)\n+ with Pool() as pool:  # once\n+     for batch in batches:\n+         pool.map(work, batch)"
                .to_owned(),
        ),
        Some(Shape::TaskByTask { tasks, site, function }) => {
            let function = named(&function, "work").to_owned();
            (
                format!(
                    "Each of {} of {function} is waited for before the next is handed over{}: one worker runs at a time.",
                    count(tasks, "task", "tasks"),
                    located(&site)
                ),
                site,
                "Never were two tasks on their way at the same time.".to_owned(),
                "Hand over all tasks first, then collect the results; or use map, which does that.",
                format!(
                    "- for item in items:\n-     results.append(pool.apply_async({function}, (item,)).get())\n+ results = pool.map({function}, items)"
                ),
            )
        }
        Some(Shape::ProcessByProcess { processes, site }) => (
            format!(
                "Each of {} is joined before the next is started{}: one runs at a time.",
                count(processes, "process", "processes"),
                located(&site)
            ),
            site,
            "Never were two of them alive at the same time.".to_owned(),
            "Start all of them first, then join them; or use a pool, which starts as many as there are cores.",
            "- for process in processes:\n-     process.start()\n-     process.join()\n+ for process in processes:\n+     process.start()\n+ for process in processes:\n+     process.join()"
                .to_owned(),
        ),
        Some(Shape::Locked { class, site }) => (
            format!(
                "Workers hold a lock ({}) while they work{}: one of them runs at a time, which costs {} of the run.",
                named(&class, "Lock"),
                located(&site),
                seconds(gain(facts))
            ),
            site,
            format!("They waited {} for it in all.", seconds(facts.total[Cause::NotParallel as usize])),
            "Do the work first, and take the lock only to hand over its result.",
            "- with lock:\n-     results.append(work(item))\n+ result = work(item)\n+ with lock:\n+     results.append(result)".to_owned(),
        ),
        Some(Shape::OneWorker { tasks, site, class }) => (
            format!(
                "The {} has one worker for {}{}: nothing runs at the same time.",
                named(&class, "pool"),
                count(tasks, "task", "tasks"),
                located(&site)
            ),
            site,
            format!("{} could be used.", count(facts.cores as u64, "core", "cores")),
            "Give it as many workers as there are cores, or use the plain loop.",
            format!("- Pool(1)\n+ Pool({})", facts.cores as u64),
        ),
        Some(Shape::OneProcess { site }) => (
            format!("There is one process beside the main one, which only waits for it{}.", located(&site)),
            site,
            format!("{} could be used.", count(facts.cores as u64, "core", "cores")),
            "Divide the work among as many processes as there are cores.",
            "- Process(target=work, args=(items,))\n+ with Pool() as pool:\n+     pool.map(work, items)".to_owned(),
        ),
        None => return super::none::words(facts),
    };
    Words {
        headline,
        evidence: vec![evidence],
        places: to_place(&site, "one at a time".to_owned()).into_iter().collect(),
        advice: advice.to_owned(),
        sketch: Some(sketch),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn each_process_is_joined_before_the_next() {
        let mut run = Build::new(2, 4.1);
        for number in 0..4u32 {
            let at = f64::from(number);
            let child = run.child(0, "fork", at + 0.01, at + 0.98);
            run.span(child, K::Run, at + 0.02, at + 0.98).name("work").busy();
            let pid = run.pid(child);
            run.span(0, K::Start, at, at + 0.01).object(pid).site("loop.py:8").busy();
            run.span(0, K::Join, at + 0.01, at + 0.99).object(pid).asleep();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::NotParallel, "{:?}", report.primary);
        assert!(report.primary.headline.contains("loop.py:8"), "{}", report.primary.headline);
    }

    #[test]
    fn apply_async_and_get() {
        let mut run = Build::new(2, 4.1);
        run.pool(0, 7, "Pool", 2, "apply.py:3");
        let workers = [run.child(0, "fork", 0.0, 4.1), run.child(0, "fork", 0.0, 4.1)];
        for task in 0..20u32 {
            let at = 0.2 * f64::from(task);
            run.span(0, K::Submit, at, at + 1e-4)
                .object(7)
                .link(u64::from(task))
                .value(1)
                .name("work")
                .site("apply.py:5");
            run.span(0, K::Result, at + 1e-4, at + 0.199).object(7).link(u64::from(task)).asleep();
            run.span(workers[task as usize % 2], K::Task, at + 0.001, at + 0.198)
                .object(7)
                .link(u64::from(task))
                .busy();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::NotParallel, "{:?}", report.primary);
    }

    #[test]
    fn a_pool_for_each_call() {
        let mut run = Build::new(2, 2.0);
        for call in 0..10u32 {
            let (at, pool) = (0.2 * f64::from(call), 50 + u64::from(call));
            run.span(0, K::Pool, at, at + 0.08).object(pool).value(2).name("Pool").site("calls.py:9").busy();
            run.span(0, K::Submit, at + 0.08, at + 0.081).object(pool).link(0).value(2).site("calls.py:10");
            run.span(0, K::Result, at + 0.081, at + 0.13).object(pool).link(0).asleep();
            run.span(0, K::Close, at + 0.13, at + 0.19).object(pool).asleep();
            for link in 0..2 {
                let worker = run.child(0, "fork", at + 0.04, at + 0.18);
                run.span(worker, K::Task, at + 0.085, at + 0.13).object(pool).link(link).busy();
            }
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::NotParallel, "{:?}", report.primary);
        assert_eq!(report.findings[1].cause, Cause::Startup);
        assert!(report.primary.headline.contains("10 Pools"), "{}", report.primary.headline);
    }

    #[test]
    fn a_lock_around_the_work() {
        let mut run = Build::new(2, 4.1);
        for number in 0..2u32 {
            let child = run.child(0, "fork", 0.0, 4.05);
            run.span(child, K::Run, 0.0, 4.05).name("work");
            for turn in 0..4 {
                let at = f64::from(turn) + 0.5 * f64::from(number);
                run.span(child, K::LockHold, at, at + 0.5).object(9);
                if turn + number > 0 {
                    let since = (at - 0.5).max(0.0);
                    run.span(child, K::LockWait, since, at).object(9).name("Lock").site("work.py:9").asleep();
                }
            }
        }
        let pid = run.pid(1);
        run.span(0, K::Join, 0.0, 4.05).object(pid).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::NotParallel, "{:?}", report.primary);
        assert!(report.primary.headline.contains("work.py:9"), "{}", report.primary.headline);
    }

    #[test]
    fn a_pool_of_one() {
        let mut run = Build::new(2, 4.1);
        run.pool(0, 7, "Pool", 1, "one.py:3");
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(0).value(4);
        run.span(0, K::Result, 0.0, 4.0).object(7).link(0).asleep();
        let worker = run.child(0, "fork", 0.0, 4.1);
        for link in 0..4u32 {
            run.span(worker, K::Task, f64::from(link), f64::from(link + 1)).object(7).link(u64::from(link)).busy();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::NotParallel);
        assert!(report.fixes.iter().any(|fix| fix.kind == crate::report::FixKind::MoreWorkers));
    }
}

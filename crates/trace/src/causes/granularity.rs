//! `granularity`: what handing over a task costs, where the tasks are too small to carry it.

use super::{Words, count, located, named, seconds, times};
use crate::cause::Cause;
use crate::facts::{Facts, PoolFacts};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    let usual = facts.tasks() as f64 * 2.0 * facts.charges.wake;
    facts.own_part(Cause::Granularity, facts.path[Cause::Granularity as usize], usual)
}

/// Items in a task, so that handing over takes a hundredth of the time; but every worker should get a few pieces.
pub(super) fn chunk(facts: &Facts<'_>, pool: &PoolFacts) -> u64 {
    let overhead = gain(facts) / (pool.tasks as f64).max(1.0);
    let items = pool.items as f64;
    let per_item = pool.seconds / items.max(1.0);
    (overhead / (0.01 * per_item.max(1e-9))).min(items / (4.0 * pool.workers.max(1) as f64)).max(2.0) as u64
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let places = facts.places(&[Cause::Granularity], times);
    let Some(pool) = facts.main_pool() else {
        return Words {
            headline: format!(
                "Messages back and forth cost {} of the run: each waits for the other side to wake up{}.",
                seconds(gain(facts)),
                super::located_at(&places)
            ),
            evidence: Vec::new(),
            places,
            advice: "Send more in one message, and do not wait for the answer of each before the next.".to_owned(),
            sketch: None,
        };
    };
    let overhead = gain(facts) / (pool.tasks as f64).max(1.0);
    let function = named(&pool.function, "work");
    let each = pool.mean();
    let chunk = chunk(facts, pool);
    Words {
        headline: format!(
            "{} of {function} take {} each; handing one over costs {}{}.",
            count(pool.tasks, "task", "tasks"),
            seconds(each),
            seconds(overhead),
            located(&pool.site)
        ),
        evidence: vec![
            format!(
                "{} went through the pool's queues in {}, {} at a time.",
                count(pool.items, "item", "items"),
                count(pool.tasks, "message", "messages"),
                pool.items / pool.tasks.max(1)
            ),
            format!(
                "The work itself is {}, the handing over costs {} of the run.",
                seconds(pool.seconds),
                seconds(gain(facts))
            ),
        ],
        places,
        advice: format!(
            "Give more to a worker at once: chunksize={chunk} makes the handing over small beside the work. If that is too \
             little work for two processes, the plain loop is fastest."
        ),
        sketch: Some(if pool.class.contains("Executor") {
            format!(
                "- executor.submit({function}, item)  # for each\n+ executor.map({function}, items, chunksize={chunk})"
            )
        } else {
            format!("- pool.imap({function}, items)\n+ pool.imap({function}, items, chunksize={chunk})")
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn a_task_for_each_number() {
        let mut run = Build::new(2, 1.1);
        run.pool(0, 7, "Pool", 2, "squares.py:4");
        let handler = run.thread(0, Role::TaskHandler);
        let collector = run.thread(0, Role::ResultHandler);
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(0).value(10_000).name("square").site("squares.py:5");
        run.span(0, K::Result, 0.0, 1.05).object(7).link(0).asleep();
        let workers = [run.child(0, "fork", 0.0, 1.1), run.child(0, "fork", 0.0, 1.1)];
        for task in 0..10_000u32 {
            let at = 1e-4 * f64::from(task);
            run.span_of(0, handler, K::Dump, at, at + 2e-5).value(60).busy();
            run.span_of(0, handler, K::Send, at + 2e-5, at + 3e-5).value(60).object(3).busy();
            run.span_of(0, collector, K::Recv, at + 6e-5, at + 9e-5).value(60).object(4).busy();
            let worker = workers[task as usize % 2];
            run.span(worker, K::Recv, at, at + 4e-5).value(60).object(3).cpu(1e-5);
            run.span(worker, K::Task, at + 4e-5, at + 4.2e-5).object(7).link(u64::from(task)).busy();
            run.span(worker, K::Send, at + 4.2e-5, at + 6e-5).value(60).object(4).busy();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Granularity);
        assert!(report.findings[0].headline.starts_with("10,000 tasks of square"), "{}", report.findings[0].headline);
        let serial = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Serial).unwrap();
        assert!(serial.predicted_seconds < 0.2, "{}", serial.predicted_seconds);
    }
}

//! `oversubscription`: more threads that want to run than cores.
//!
//! That alone costs little: whoever waits for a core waits for work that gets done. What costs is threads that run without
//! helping: those of numerical libraries in each of several workers, a parent that asks again and again whether its workers
//! are done, and crowds that wake each other at every step.

use super::{Words, count, located, percent, seconds, times};
use crate::cause::Cause;
use crate::facts::{Facts, to_place};
use crate::record::RecordKind;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::Oversubscription as usize]
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let mut evidence = vec![format!(
        "Threads were runnable without a core for {} in all, on {}.",
        seconds(facts.delayed),
        count(facts.cores as u64, "core", "cores")
    )];
    let blas = facts.all(RecordKind::Blas).max_by_key(|(_, record)| record.value);
    let workers = facts.started_workers().max(facts.units.len()).max(1) as u64;
    if let Some(spin) = facts.spin {
        let site = facts.main_pool().map_or_else(String::new, |pool| pool.site.clone());
        let share = spin.seconds / ((spin.end - spin.begin) as f64 * 1e-9).max(1e-9);
        evidence.push(format!(
            "The main process used a core for {} ({} of the time) until its last worker was done, and then went on at once.",
            seconds(spin.seconds),
            percent(share)
        ));
        return Words {
            headline: format!(
                "The main process asks again and again whether its workers are done, and takes {} of a core from them{}.",
                seconds(spin.seconds),
                located(&site)
            ),
            evidence,
            places: to_place(&site, "handed over here, then waited for in a loop".to_owned()).into_iter().collect(),
            advice: "Wait without running: result.get(), process.join(), multiprocessing.connection.wait().".to_owned(),
            sketch: Some(
                "- while not all(job.ready() for job in jobs):\n-     pass\n+ results = [job.get() for job in jobs]"
                    .to_owned(),
            ),
        };
    }
    if let Some((process, record)) = blas
        && facts.native > 0.05 * facts.elapsed
    {
        let library = facts.text(process, record.name);
        evidence.push(format!(
            "{library} keeps {} in each of {}: {} for {}.",
            count(record.value, "thread", "threads"),
            count(workers, "worker", "workers"),
            count(record.value.saturating_mul(workers), "thread", "threads"),
            count(facts.cores as u64, "core", "cores")
        ));
        return Words {
            headline: format!(
                "{} with {} of {library} each compete for {}; that costs {} of the run.",
                count(workers, "worker", "workers"),
                count(record.value, "thread", "threads"),
                count(facts.cores as u64, "core", "cores"),
                seconds(gain(facts))
            ),
            evidence,
            places: facts.places(&[Cause::Compute], times),
            advice: "Keep the library to one thread in each worker: OMP_NUM_THREADS=1 (OPENBLAS_NUM_THREADS, \
                     MKL_NUM_THREADS) before it is imported, or threadpoolctl."
                .to_owned(),
            sketch: Some(
                "+ import os\n+ os.environ[\"OMP_NUM_THREADS\"] = \"1\"  # before NumPy is imported\n  import numpy as np"
                    .to_owned(),
            ),
        };
    }
    let places = facts.places(&[Cause::Oversubscription], times);
    Words {
        headline: format!(
            "{} compete for {}; switching between them costs {} of the run{}.",
            count(workers, "worker", "workers"),
            count(facts.cores as u64, "core", "cores"),
            seconds(gain(facts)),
            super::located_at(&places)
        ),
        evidence,
        places,
        advice: format!("Use as many workers as there are cores: {}.", facts.cores as u64),
        sketch: Some(format!(
            "- workers = {workers}\n+ workers = {}  # len(os.sched_getaffinity(0))",
            facts.cores as u64
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::report::FixKind;
    use crate::{Cause, RecordKind as K, analyze};

    /// Two workers, each with two library threads, on two cores.
    fn blas(threads: u64) -> Build {
        let mut run = Build::new(2, 4.0);
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(1).value(2);
        run.span(0, K::Result, 0.0, 4.0).object(7).link(1).asleep();
        for link in 1..3 {
            let worker = run.child(0, "fork", 0.0, 4.0);
            run.span(worker, K::Blas, 0.0, 0.0).name("openblas").value(threads);
            run.span(worker, K::Task, 0.0, 4.0).object(7).link(link).cpu(4.0 / threads as f64);
            for _ in 1..threads {
                run.thread(worker, Role::Native);
            }
            for thread in 0..threads as usize {
                for step in 0..=40 {
                    let at = 0.1 * f64::from(step);
                    run.sample(worker, thread, at, at / threads as f64, at * (1.0 - 1.0 / threads as f64));
                }
            }
        }
        run
    }

    #[test]
    fn libraries_threads_times_workers() {
        let report = analyze(&blas(2).finish());
        assert_eq!(report.primary.cause, Cause::Oversubscription);
        assert!(report.findings[0].headline.contains("openblas"), "{}", report.findings[0].headline);
        assert!(report.fixes.iter().any(|fix| fix.kind == FixKind::LimitBlasThreads && !fix.needs_edit));
    }

    #[test]
    fn one_library_thread_in_each_is_healthy() {
        assert_eq!(analyze(&blas(1).finish()).primary.cause, Cause::None);
    }

    #[test]
    fn more_workers_than_cores_do_the_same_work() {
        let mut run = Build::new(2, 8.1);
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(1).value(8);
        run.span(0, K::Result, 0.0, 8.05).object(7).link(1).asleep();
        for link in 1..9 {
            let worker = run.child(0, "fork", 0.0, 8.1);
            run.span(worker, K::Task, 0.0, 8.0).object(7).link(link).cpu(2.0);
            for step in 0..=80 {
                let at = 0.1 * f64::from(step);
                run.sample(worker, 0, at, at / 4.0, at * 0.75);
            }
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::None, "{:?}", report.primary);
        let waiting = report.causes.iter().find(|share| share.cause == Cause::Oversubscription).unwrap();
        assert!(waiting.share > 0.6, "they wait for cores: {}", waiting.share);
    }

    #[test]
    fn a_parent_that_asks_whether_they_are_done() {
        let mut run = Build::new(2, 6.0);
        run.pool(0, 7, "Pool", 2, "busy.py:8");
        run.span(0, K::Submit, 0.0, 0.001).object(7).link(1).value(2).site("busy.py:9");
        run.span(0, K::Result, 5.95, 5.96).object(7).link(1);
        for step in 0..=60 {
            let at = 0.1 * f64::from(step);
            run.sample(0, 0, at, at * 0.66, at * 0.33);
        }
        for link in 1..3 {
            let worker = run.child(0, "fork", 0.0, 6.0);
            run.span(worker, K::Task, 0.0, 5.95).object(7).link(link).cpu(4.0);
            for step in 0..=60 {
                let at = 0.1 * f64::from(step);
                run.sample(worker, 0, at, at * 0.66, at * 0.33);
            }
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Oversubscription);
        assert!(report.primary.headline.contains("asks again and again"), "{}", report.primary.headline);
    }
}

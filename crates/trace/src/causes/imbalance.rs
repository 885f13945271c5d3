//! `imbalance`: workers with nothing to do while another has the rest of the work.

use super::{Words, count, located, named, percent, seconds};
use crate::cause::Cause;
use crate::facts::{Facts, to_place};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    let waits = facts.path[Cause::Imbalance as usize];
    if facts.shape.is_some() { waits } else { waits + facts.loss_unit }
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let mut work: Vec<(String, f64)> = Vec::new();
    let (site, function, longest, mean, tasks) = match facts.main_pool() {
        Some(pool) => {
            for (number, process) in facts.recording.processes.iter().enumerate() {
                let seconds: f64 = process
                    .records
                    .iter()
                    .filter(|record| record.kind == crate::record::RecordKind::Task)
                    .map(|record| record.duration() as f64 * 1e-9)
                    .sum();
                if seconds > 0.0 {
                    work.push((named(&process.name, &format!("process {number}")).to_owned(), seconds));
                }
            }
            (pool.site.clone(), named(&pool.function, "work").to_owned(), pool.longest, pool.mean(), pool.tasks)
        }
        None => {
            work.extend(facts.units.iter().map(|unit| (unit.name.clone(), unit.work)));
            let longest = work.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
            let mean = work.iter().map(|(_, seconds)| *seconds).sum::<f64>() / (work.len() as f64).max(1.0);
            let site = facts.units.first().map_or_else(String::new, |unit| unit.site.clone());
            (site, "the process".to_owned(), longest, mean, work.len() as u64)
        }
    };
    work.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = work.iter().map(|(_, seconds)| *seconds).sum();
    let most = work.first().map_or(0.0, |(_, seconds)| *seconds);
    let evidence = vec![
        format!(
            "The busiest of {} had {} of the work.",
            count(work.len() as u64, "worker", "workers"),
            percent(most / all.max(1e-9))
        ),
        format!(
            "The longest of {} took {}, the mean is {}.",
            count(tasks, "piece", "pieces"),
            seconds(longest),
            seconds(mean)
        ),
    ];
    let places = to_place(&site, format!("{} of very different length", count(tasks, "piece", "pieces")));
    Words {
        headline: format!(
            "Workers sit idle for {} while another does the rest{}: one has {} of {} of work.",
            seconds(gain(facts)),
            located(&site),
            seconds(most),
            seconds(all)
        ),
        evidence,
        places: places.into_iter().collect(),
        advice:
            "Cut the work into smaller pieces (a smaller chunksize), hand the largest out first, and let idle workers \
                 take what is left instead of giving each a fixed part."
                .to_owned(),
        sketch: Some(if facts.main_pool().is_some_and(|pool| pool.class.contains("Executor")) {
            format!(
                "- executor.map({function}, items)\n+ executor.map({function}, sorted(items, key=cost, reverse=True))"
            )
        } else if facts.main_pool().is_some() {
            format!(
                "- pool.map({function}, items)\n+ pool.map({function}, sorted(items, key=cost, reverse=True), chunksize=1)"
            )
        } else {
            "- Process(target=work, args=(items[:half],)), Process(target=work, args=(items[half:],))\n+ Process(target=work, args=(items[0::2],)), Process(target=work, args=(items[1::2],))"
                .to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn one_of_two_workers_has_nine_of_ten_seconds() {
        let mut run = Build::new(2, 9.2);
        run.pool(0, 7, "Pool", 2, "script.py:5");
        run.span(0, K::Submit, 0.1, 0.1).object(7).link(1).value(2).name("align").site("script.py:6");
        run.span(0, K::Result, 0.1, 9.1).object(7).link(1).asleep();
        for (link, until) in [(1, 1.1), (2, 9.1)] {
            let worker = run.child(0, "fork", 0.1, 9.2);
            run.span(worker, K::Task, 0.1, until).object(7).link(link).value(60).name("align").busy();
            run.span(worker, K::Recv, until, 9.2).object(3).asleep();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Imbalance);
        let without = report.primary.without_it.unwrap();
        assert!((5.0..5.6).contains(&without), "ten seconds on two cores, not {without}");
        assert!(report.findings[0].headline.contains("script.py:6"), "{}", report.findings[0].headline);
    }

    #[test]
    fn a_wait_for_a_feeder_that_is_not_yet_there_is_for_the_work_before_the_put() {
        let mut run = Build::new(2, 6.0);
        for (number, until) in [(0, 2.0), (1, 5.9)] {
            let child = run.child(0, "fork", 0.01, until + 0.02);
            let feeder = run.thread(child, crate::recording::Role::Feeder);
            run.span(child, K::Run, 0.01, until + 0.01).name("count").busy();
            run.span_of(child, feeder, K::Send, until, until + 0.003).object(3).value(20).busy();
            // The writer is not back from its call when the reader has the message, and waits for the next.
            let begin = if number == 0 { 0.02 } else { 2.001 };
            run.span(0, K::Recv, begin, until + 0.001).object(3).value(20).asleep();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Imbalance, "{:?}", report.primary);
        assert!(report.processes[0].causes[0].cause == Cause::Compute, "{:?}", report.processes[0].causes);
    }

    #[test]
    fn even_work_is_no_imbalance() {
        let mut run = Build::new(2, 5.2);
        run.span(0, K::Submit, 0.1, 0.1).object(7).link(1).value(2);
        run.span(0, K::Result, 0.1, 5.1).object(7).link(1).asleep();
        for (link, until) in [(1, 4.9), (2, 5.1)] {
            let worker = run.child(0, "fork", 0.1, 5.2);
            run.span(worker, K::Task, 0.1, until).object(7).link(link).busy();
            run.span(worker, K::Recv, until, 5.2).object(3).asleep();
        }
        assert_eq!(analyze(&run.finish()).primary.cause, Cause::None);
    }

    #[test]
    fn halves_of_unequal_weight_in_processes() {
        let mut run = Build::new(2, 6.0);
        for (number, until) in [(0, 2.0), (1, 5.9)] {
            let child = run.child(0, "fork", 0.02, until);
            run.span(child, K::Run, 0.03, until).name("count").busy();
            let pid = run.pid(child);
            run.span(0, K::Start, 0.01 * f64::from(number), 0.01 * f64::from(number + 1))
                .object(pid)
                .site("primes.py:9");
        }
        let (first, second) = (run.pid(1), run.pid(2));
        run.span(0, K::Join, 0.03, 2.0).object(first).asleep();
        run.span(0, K::Join, 2.0, 5.95).object(second).asleep();
        assert_eq!(analyze(&run.finish()).primary.cause, Cause::Imbalance);
    }
}

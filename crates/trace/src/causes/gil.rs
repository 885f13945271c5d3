//! `gil`: threads of one process that wait for its interpreter's lock.

use super::{Words, count, located, named, seconds};
use crate::cause::Cause;
use crate::facts::{Facts, to_place};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::Gil as usize]
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let threads = facts.python_threads() as u64;
    let site = facts.work_site();
    let pool = facts.main_pool();
    let function = pool.map_or_else(String::new, |pool| pool.function.clone());
    let sketch = if pool.is_some_and(|pool| pool.class == "ThreadPool") {
        format!(
            "- with ThreadPool() as pool:\n+ with Pool() as pool:\n      results = pool.map({}, items)",
            named(&function, "work")
        )
    } else if pool.is_some() {
        format!(
            "- with ThreadPoolExecutor() as executor:\n+ with ProcessPoolExecutor() as executor:\n      results = list(executor.map({}, items))",
            named(&function, "work")
        )
    } else {
        "- threads = [Thread(target=work, args=(part,)) for part in parts]\n+ with ProcessPoolExecutor() as executor:\n+     results = list(executor.map(work, parts))"
            .to_owned()
    };
    Words {
        headline: format!(
            "{} run Python code{}, one at a time: all wait for the interpreter's lock, which costs {} of the run.",
            count(threads, "thread", "threads"),
            located(&site),
            seconds(gain(facts))
        ),
        evidence: vec![format!(
            "Together they used {} of CPU time in {}: about one core of {}.",
            seconds(facts.account.parts.iter().map(crate::attribute::Part::busy).sum()),
            seconds(facts.elapsed),
            facts.cores as u64
        )],
        places: to_place(&site, format!("{} on one interpreter", count(threads, "thread", "threads")))
            .into_iter()
            .collect(),
        advice:
            "Use processes for work in pure Python (ProcessPoolExecutor has the same methods), a library that releases \
                 the lock, or the plain loop."
                .to_owned(),
        sketch: Some(sketch),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::{Cause, RecordKind as K, analyze};

    /// Four threads; each runs a quarter of the time, and looks for the lock 200 times a second (or sleeps).
    fn threads(looks: u64) -> Build {
        let mut run = Build::new(2, 4.0);
        run.pool(0, 7, "ThreadPoolExecutor", 4, "threads.py:4");
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(1).value(4).name("crunch").site("threads.py:5");
        run.span(0, K::Result, 0.0, 4.0).object(7).link(1).asleep();
        for link in 1..5 {
            let thread = run.thread(0, Role::ThreadWorker);
            run.span_of(0, thread, K::Task, 0.0, 4.0).object(7).link(link).cpu(if looks > 0 { 1.0 } else { 0.01 });
            for step in 0..=40u32 {
                let at = 0.1 * f64::from(step);
                let cpu = if looks > 0 { at / 4.0 } else { at / 400.0 };
                run.sample(0, thread, at, cpu, 0.0).voluntary = u64::from(step) * looks / 10;
            }
        }
        run
    }

    #[test]
    fn threads_of_pure_python() {
        let report = analyze(&threads(200).finish());
        assert_eq!(report.primary.cause, Cause::Gil, "{:?}", report.primary);
        let serial = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Serial).unwrap();
        assert!((3.8..4.3).contains(&serial.predicted_seconds), "{}", serial.predicted_seconds);
    }

    #[test]
    fn threads_that_sleep_wait_for_no_lock() {
        let report = analyze(&threads(0).finish());
        assert_eq!(report.primary.cause, Cause::None, "as many threads as tasks: {:?}", report.primary);
    }
}

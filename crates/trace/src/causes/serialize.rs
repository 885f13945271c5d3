//! `serialize`: turning objects into bytes and back, as far as it is more than what any small message costs.

use super::{Words, bytes, count, located_at, named, percent, seconds, times};
use crate::cause::Cause;
use crate::facts::{Facts, at_line, to_place};
use crate::record::RecordKind;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::Serialize as usize]
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    moved(facts, Cause::Serialize, RecordKind::Dump, "pickling and unpickling")
}

/// What is said of bytes that travel, for this cause and for `transfer`.
pub(super) fn moved(facts: &Facts<'_>, cause: Cause, kind: RecordKind, doing: &str) -> Words {
    let mut places = facts.places(&[cause], times);
    let (mut sent, mut messages, mut largest) = (0u64, 0u64, (0u64, String::new()));
    let mut results = 0u64;
    for (process, record) in facts.all(kind) {
        sent = sent.saturating_add(record.value);
        messages += 1;
        if process != 0 {
            results = results.saturating_add(record.value);
        }
        if record.value > largest.0 {
            largest = (record.value, facts.text(process, record.name).to_owned());
        }
    }
    let share = if facts.process_seconds > 0.0 { facts.total[cause as usize] / facts.process_seconds } else { 0.0 };
    let tasks = facts.tasks();
    let argument = facts.repeated_argument().filter(|(_, size, _)| *size as f64 > 0.3 * largest.0 as f64);
    if let Some((name, _, site)) = &argument
        && places.is_empty()
    {
        places
            .extend(to_place(site, format!("`{}` goes along with each task", name.split(':').next().unwrap_or(name))));
    }
    let (what, site) = match &argument {
        Some((name, size, site)) => {
            let (variable, class) = name.split_once(": ").unwrap_or((name.as_str(), ""));
            let class = if class.is_empty() { String::new() } else { format!("{class}, ") };
            (format!("`{variable}` ({class}{})", bytes(*size as f64)), site.clone())
        }
        None => (
            format!("{} of {}", named(&largest.1, "objects"), bytes(sent as f64 / messages.max(1) as f64)),
            String::new(),
        ),
    };
    let place = at_line(&site).map_or_else(|| located_at(&places), |at| format!(" ({at})"));
    let headline = if tasks > 0 {
        format!(
            "{} of {} process-seconds went into {doing} {what}, for {}{place}.",
            percent(share),
            seconds(facts.process_seconds),
            count(tasks, "task", "tasks"),
        )
    } else {
        format!(
            "{} of {} process-seconds went into {doing} {what}, in {}{place}.",
            percent(share),
            seconds(facts.process_seconds),
            count(messages, "message", "messages"),
        )
    };
    let mut evidence = vec![format!(
        "{} in {}; the largest has {}{}.",
        bytes(sent as f64),
        count(messages, "message", "messages"),
        bytes(largest.0 as f64),
        if largest.1.is_empty() { String::new() } else { format!(" ({})", largest.1) }
    )];
    let back = results > sent / 2;
    if sent > 0 {
        evidence
            .push(format!("{} of the bytes were sent by workers, as results.", percent(results as f64 / sent as f64)));
    }
    let function = facts.main_pool().map_or("work", |pool| named(&pool.function, "work")).to_owned();
    let repeated = argument.is_some() && tasks > 1;
    let (advice, sketch) = if repeated && !back {
        let (name, ..) = argument.unwrap_or_default();
        let variable = name.split(':').next().unwrap_or("data").trim_start_matches("self.").to_owned();
        (
            format!(
                "`{variable}` goes along with every task. Send it to each worker once, or let the workers inherit it."
            ),
            Some(format!(
                "- pool.map(partial({function}, {variable}), items)\n+ def keep(value):\n+     global {variable}\n+     {variable} = value\n+ with Pool(initializer=keep, initargs=({variable},)) as pool:\n+     pool.map({function}, items)"
            )),
        )
    } else if back {
        (
            "Let the workers send back less: reduce in the worker (counts, sums, what is needed of it), or write arrays into \
             shared memory."
                .to_owned(),
            Some(format!("- return everything  # in {function}\n+ return summary(everything)")),
        )
    } else if cause == Cause::Transfer {
        (
            "Put large arrays where all processes see them (multiprocessing.shared_memory), and send their names only; or \
             use threads, if the work releases the interpreter's lock."
                .to_owned(),
            Some(
                "- queue.put(array)\n+ shared[:] = array  # numpy array on a SharedMemory buffer, made once\n+ queue.put(index)"
                    .to_owned(),
            ),
        )
    } else {
        (
            "Each task gets objects of its own. Send less: names, indices or file names instead of the objects, and make the \
             objects in the worker (or before the pool, so that forked workers inherit them); or do this work in a plain \
             loop."
                .to_owned(),
            None,
        )
    };
    Words { headline, evidence, places, advice, sketch }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::{Cause, RecordKind as K, analyze};

    /// A pool of two; the task handler pickles a dict of 4 MB with each task, which takes nine tenths of the time.
    fn dict_with_each_task() -> Build {
        let mut run = Build::new(2, 4.0);
        run.pool(0, 7, "Pool", 2, "score.py:12");
        let handler = run.thread(0, Role::TaskHandler);
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(1).value(40).name("score").site("score.py:13");
        run.span(0, K::Argument, 0.0, 0.0).object(7).value(4_000_000).name("weights: dict").site("score.py:13");
        run.span(0, K::Result, 0.0, 4.0).object(7).link(1).asleep();
        let workers = [run.child(0, "fork", 0.0, 4.0), run.child(0, "fork", 0.0, 4.0)];
        for task in 0..40 {
            let at = f64::from(task) * 0.1;
            run.span_of(0, handler, K::Dump, at, at + 0.05).value(4_000_000).name("tuple").busy();
            run.span_of(0, handler, K::Send, at + 0.05, at + 0.052).value(4_000_000).object(3).busy();
            let worker = workers[task as usize % 2];
            let before = if task < 2 { 0.0 } else { at - 0.1 + 0.01 };
            run.span(worker, K::Recv, before, at + 0.052).value(4_000_000).object(3).asleep();
            run.span(worker, K::Load, at + 0.052, at + 0.092).value(4_000_000).name("tuple").busy();
            run.span(worker, K::Task, at + 0.092, at + 0.098).object(7).link(1 + task as u64).busy();
        }
        run
    }

    #[test]
    fn a_dict_that_goes_with_each_task() {
        let report = analyze(&dict_with_each_task().finish());
        assert_eq!(report.primary.cause, Cause::Serialize);
        let finding = &report.findings[0];
        assert!(
            finding.headline.contains("`weights` (dict, 4.0 MB), for 40 tasks (score.py:13)"),
            "{}",
            finding.headline
        );
        assert!(finding.sketch.as_ref().unwrap().contains("global weights"));
        let once = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Initializer).unwrap();
        assert_eq!(once.place.as_deref(), Some("score.py:13"));
        assert!(once.predicted_seconds < 1.0, "{}", once.predicted_seconds);
    }

    #[test]
    fn pickling_an_array_is_copying_it() {
        let mut recording = dict_with_each_task().finish();
        for process in &mut recording.processes {
            for string in process.strings.iter_mut().filter(|string| *string == "tuple") {
                *string = "numpy.ndarray".to_owned();
            }
        }
        assert_eq!(analyze(&recording).primary.cause, Cause::Transfer);
    }
}

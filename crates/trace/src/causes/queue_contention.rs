//! `queue_contention`: locks that many want, queues' bookkeeping and feeder threads, while there is work.

use std::collections::BTreeSet;

use super::{Words, count, located_at, named, seconds, times};
use crate::cause::Cause;
use crate::facts::Facts;
use crate::record::RecordKind;

/// What is seen of it, and what the locks cost that were free: each takes a system call or two, and the cache line from the
/// core that had it.
pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::QueueContention as usize] + facts.free_locks() / facts.at_a_time()
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let places = facts.places(&[Cause::QueueContention], times);
    let (mut waits, mut waited, mut waiters) = (0u64, 0.0, BTreeSet::new());
    let mut class = String::new();
    for (process, record) in facts.all(RecordKind::LockWait) {
        waits += 1;
        waited += record.duration() as f64 * 1e-9;
        waiters.insert((process, record.thread));
        if class.is_empty() {
            facts.text(process, record.name).clone_into(&mut class);
        }
    }
    let free = facts.all(RecordKind::LockFree).fold(0u64, |sum, (_, record)| sum.saturating_add(record.value));
    let (puts, gets) = (facts.all(RecordKind::Put).count() as u64, facts.all(RecordKind::Get).count() as u64);
    let mut evidence = Vec::new();
    if waits > 0 {
        evidence.push(format!(
            "{} waited {} for locks, {} in all; {}.",
            count(waiters.len() as u64, "thread", "threads"),
            count(waits, "time", "times"),
            seconds(waited),
            if free > 0 { format!("{} were free", count(free, "more", "more")) } else { "none was free".to_owned() }
        ));
    }
    if puts + gets > 0 {
        evidence.push(format!(
            "{} and {} of messages this small cost {} of the run.",
            count(puts, "put", "puts"),
            count(gets, "get", "gets"),
            seconds(gain(facts))
        ));
    }
    let place = located_at(&places);
    if puts + gets > waits / 2 {
        Words {
            headline: format!(
                "{} passed through queues one by one; their locks, pipes and feeder threads cost {} of the run{place}.",
                count(puts.max(gets), "message", "messages"),
                seconds(gain(facts))
            ),
            evidence,
            places,
            advice: "Put more into one message: lists of items instead of items.".to_owned(),
            sketch: Some(
                "- for item in items:\n-     queue.put(item)\n+ for first in range(0, len(items), 1000):\n+     queue.put(items[first:first + 1000])"
                    .to_owned(),
            ),
        }
    } else {
        Words {
            headline: format!(
                "{} fight over {}, {} times; {} of the run goes into that{place}.",
                count(waiters.len() as u64, "thread", "threads"),
                named(&class, "a lock"),
                waits,
                seconds(gain(facts))
            ),
            evidence,
            places,
            advice: "Let each worker count for itself, and take the lock once at the end; hold it for as short as can be."
                .to_owned(),
            sketch: Some(
                "- for item in items:\n-     with value.get_lock():\n-         value.value += work(item)\n+ mine = sum(work(item) for item in items)\n+ with value.get_lock():\n+     value.value += mine"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn locks_that_are_free_cost_too() {
        let mut run = Build::new(2, 2.05);
        run.recording().charges = Some(crate::recording::Charges { lock: 1.2e-6, ..crate::analyze::DEFAULT_CHARGES });
        for _ in 0..2 {
            let child = run.child(0, "fork", 0.0, 2.0);
            run.span(child, K::Run, 0.0, 2.0).name("throw").busy();
            run.span(child, K::LockFree, 1.9, 1.9).object(9).value(200_000);
        }
        let pid = run.pid(1);
        run.span(0, K::Join, 0.0, 2.02).object(pid).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::QueueContention, "{:?}", report.primary);
        let serial = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Serial).unwrap();
        assert!(
            (2.0..2.5).contains(&serial.predicted_seconds),
            "four seconds less 1.8 of locks: {}",
            serial.predicted_seconds
        );
    }

    #[test]
    fn four_processes_fight_over_a_lock() {
        let mut run = Build::new(4, 0.41);
        for number in 0..4u32 {
            let child = run.child(0, "fork", 0.0, 0.4);
            run.span(child, K::Run, 0.0, 0.4).name("throw").cpu(0.12);
            for turn in 0..400 {
                // Each holds it for a quarter of the time, in turns.
                let at = 1e-3 * f64::from(turn) + 2.5e-4 * f64::from(number);
                run.span(child, K::LockHold, at, at + 2.5e-4).object(9);
                if turn > 0 {
                    run.span(child, K::LockWait, at - 7e-4, at).object(9).name("Lock").site("hits.py:20").asleep();
                }
            }
        }
        let pid = run.pid(1);
        run.span(0, K::Join, 0.0, 0.405).object(pid).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::QueueContention);
        assert!(report.findings[0].headline.contains("Lock"), "{}", report.findings[0].headline);
    }
}

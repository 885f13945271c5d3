//! `rpc`: round trips to a manager's server.

use std::collections::BTreeMap;

use super::{Words, count, located_at, seconds, times};
use crate::cause::Cause;
use crate::facts::Facts;
use crate::record::RecordKind;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::Rpc as usize]
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let places = facts.places(&[Cause::Rpc], times);
    let mut methods: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    let (mut calls, mut took) = (0u64, 0.0);
    for (process, record) in facts.all(RecordKind::Call) {
        let entry = methods.entry(facts.text(process, record.name)).or_default();
        entry.0 += 1;
        entry.1 += record.duration() as f64 * 1e-9;
        calls += 1;
        took += record.duration() as f64 * 1e-9;
    }
    let mut by_time: Vec<_> = methods.into_iter().collect();
    by_time.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut evidence: Vec<String> = by_time
        .iter()
        .take(3)
        .map(|(method, (calls, took))| {
            format!("{method}: {}, {} in all.", count(*calls, "call", "calls"), seconds(*took))
        })
        .collect();
    if calls > 0 {
        evidence.insert(0, format!(
            "A call takes {} on average: it is pickled, sent to the manager's process, carried out there by a thread, and \
             answered.",
            seconds(took / calls as f64)
        ));
    }
    Words {
        headline: format!(
            "{} to a manager cost {} of the run{}.",
            count(calls, "round trip", "round trips"),
            seconds(gain(facts)),
            located_at(&places)
        ),
        evidence,
        places,
        advice: "Return results instead of writing them into a manager's dict or list; read what does not change once; use \
                 Value, Array or shared memory for numbers that all share."
            .to_owned(),
        sketch: Some(
            "- def work(shared, key):\n-     shared[key] = compute(key)  # a round trip\n+ def work(key):\n+     return key, compute(key)\n+ results = dict(pool.map(work, keys))"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn a_managers_dict_in_an_inner_loop() {
        let mut run = Build::new(2, 2.1);
        let manager = run.child(0, "fork", 0.0, 2.1);
        let server = run.thread(manager, Role::ManagerServer);
        let worker = run.child(0, "fork", 0.0, 2.1);
        run.span(worker, K::Run, 0.0, 2.0).name("count").cpu(0.3);
        for call in 0..200 {
            let at = 0.01 * f64::from(call);
            run.span(worker, K::Call, at, at + 0.009).object(5).name("__setitem__").site("counts.py:7").cpu(0.001);
            run.span_of(manager, server, K::Serve, at + 0.003, at + 0.006).object(5).name("__setitem__").busy();
        }
        let pid = run.pid(worker);
        run.span(0, K::Join, 0.0, 2.05).object(pid).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Rpc);
        assert!(report.findings[0].evidence.iter().any(|line| line.starts_with("__setitem__: 200 calls")));
    }
}

//! `startup`: creating processes, their imports and initialisers, and their ends.
//!
//! The first process's own interpreter and imports are start-up too, but no fault of parallelism: the serial program has
//! them as well, so they count in the shares and not in the gain.

use super::{Words, count, located, named, seconds, times};
use crate::cause::Cause;
use crate::facts::{Facts, Shape};
use crate::record::RecordKind;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    if facts.started_processes() == 0 {
        return 0.0;
    }
    let children = facts.recording.processes.iter().zip(facts.roles).skip(1).filter(|(_, role)| role.counts());
    let usual = children.map(|(child, _)| match child.method.as_str() {
        "fork" => facts.charges.fork,
        "forkserver" => facts.charges.forkserver,
        _ => facts.charges.spawn,
    });
    let mut usual: Vec<f64> = usual.collect();
    let cost = facts.own_part(Cause::Startup, facts.path[Cause::Startup as usize] - facts.boot, usual.iter().sum());
    // As many workers as can run at a time, started once, are the price of running at the same time: where that pays, what
    // the machine charges for them is no fault.
    if facts.started_processes() as f64 <= facts.cores && facts.worked() > 1.25 * facts.elapsed {
        usual.sort_by(f64::total_cmp);
        let price: f64 = usual.iter().rev().take(facts.cores as usize).sum();
        return (cost - price).max(0.0);
    }
    cost
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let children: Vec<_> = facts.recording.processes.iter().skip(1).filter(|child| child.method != "other").collect();
    let method = children.first().map_or("fork", |child| child.method.as_str());
    let places = facts.places(&[Cause::Startup], times);
    let started = children.len() as u64;
    let initializers: Vec<_> = facts.all(RecordKind::Initializer).collect();
    let initializing: f64 = initializers.iter().map(|(_, record)| record.duration() as f64 * 1e-9).sum();
    let imports: f64 = facts.all(RecordKind::Boot).map(|(_, record)| record.duration() as f64 * 1e-9).sum();
    let starts: f64 = facts.all(RecordKind::Start).map(|(_, record)| record.duration() as f64 * 1e-9).sum();
    let mut evidence = Vec::new();
    evidence.push(format!(
        "{} were started by {method}: {} in the calls that start them, {} until their own code began.",
        count(started, "process", "processes"),
        seconds(starts),
        seconds(imports)
    ));
    let dear = initializing > 0.5 * (starts + imports);
    if let Some((process, first)) = initializers.first() {
        evidence.push(format!(
            "The initializer {} ran {}, {} each{}.",
            named(facts.text(*process, first.name), "of the pool"),
            count(initializers.len() as u64, "time", "times"),
            seconds(initializing / initializers.len() as f64),
            located(&facts.site_of(*process, 0))
        ));
    }
    let site =
        facts.main_pool().map(|pool| pool.site.clone()).or_else(|| facts.units.first().map(|unit| unit.site.clone()));
    let site = site.unwrap_or_default();
    let cost = gain(facts);
    let (headline, advice, sketch) = if dear {
        (
            format!(
                "Each worker loads its data again: the initializer ran {} and cost {} of the run{}.",
                count(initializers.len() as u64, "time", "times"),
                seconds(cost),
                located(&site)
            ),
            "Load it once, before the pool is made: with the start method fork the workers inherit it. Else use fewer \
             workers, keep them (no maxtasksperchild), or put the data into shared memory."
                .to_owned(),
            Some(
                "- with Pool(initializer=load) as pool:\n+ load()  # once, before the fork\n+ with Pool() as pool:"
                    .to_owned(),
            ),
        )
    } else if matches!(facts.shape, Some(Shape::PoolPerCall { .. }))
        || started > 4 * facts.recording.cores.max(1) as u64
    {
        (
            format!(
                "Starting {} took {} of the run{}; the work in them is too short for that.",
                count(started, "process", "processes"),
                seconds(cost),
                located(&site)
            ),
            "Start as many workers as there are cores, once, and give all the work to them.".to_owned(),
            Some(
                "- processes = [Process(target=work, args=(item,)) for item in items]\n+ with Pool() as pool:  # once\n+     results = pool.map(work, items)"
                    .to_owned(),
            ),
        )
    } else {
        (
            format!(
                "Starting {} by {method} took {} of the run{}, more than the work gains by them.",
                count(started, "worker", "workers"),
                seconds(cost),
                located(&site)
            ),
            match method {
                "spawn" | "forkserver" => {
                    "Each worker is a new interpreter that imports the program's main module again: keep work out of the \
                     module's top level, import what is heavy inside of functions, start fewer workers, keep them for the \
                     program's life, or do this little work in a plain loop."
                }
                _ => "Start fewer workers, keep them for the program's life, or do this little work in a plain loop.",
            }
            .to_owned(),
            None,
        )
    };
    Words { headline, evidence, places, advice, sketch }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn four_workers_on_two_cores_load_a_model_each() {
        let mut run = Build::new(2, 4.5);
        run.pool(0, 7, "Pool", 4, "serve.py:8");
        run.span(0, K::Submit, 0.1, 0.1).object(7).link(1).value(8);
        run.span(0, K::Result, 0.1, 4.4).object(7).link(1).asleep();
        for number in 0..4 {
            let worker = run.child(0, "fork", 0.1, 4.5);
            run.span(worker, K::Initializer, 0.1, 4.1).object(7).name("load").cpu(2.0);
            run.sample(worker, 0, 4.1, 2.0, 2.0);
            run.span(worker, K::Task, 4.1, 4.4).object(7).link(1 + number).cpu(0.15);
            run.sample(worker, 0, 4.4, 2.15, 2.15);
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Startup);
        assert!(report.findings[0].headline.contains("initializer ran 4 times"), "{}", report.findings[0].headline);
    }

    #[test]
    fn the_serial_programs_own_imports_are_no_fault() {
        let mut run = Build::new(2, 1.0);
        run.span(0, K::Import, 0.02, 0.4).name("numpy").busy();
        run.span(0, K::Submit, 0.41, 0.41).object(7).link(1).value(2);
        run.span(0, K::Result, 0.41, 0.99).object(7).link(1).asleep();
        for link in 1..3 {
            let worker = run.child(0, "fork", 0.41, 1.0);
            run.span(worker, K::Task, 0.42, 0.98).object(7).link(link).busy();
        }
        assert_eq!(analyze(&run.finish()).primary.cause, Cause::None);
    }
}

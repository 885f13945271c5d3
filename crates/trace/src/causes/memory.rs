//! `memory`: page faults of workers: copies of what they inherited (reading a Python object writes its reference count), and
//! copies that each of them makes for itself.

use super::{Words, bytes, count, seconds};
use crate::attribute::ProcessRole;
use crate::facts::Facts;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.faults
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let workers: Vec<_> = facts
        .recording
        .processes
        .iter()
        .zip(facts.roles)
        .filter(|(_, role)| matches!(role, ProcessRole::Worker | ProcessRole::Process))
        .map(|(process, _)| process)
        .collect();
    let faults: u64 = workers
        .iter()
        .filter_map(|one| one.samples.last())
        .fold(0u64, |sum, sample| sum.saturating_add(sample.minor_faults));
    let private: u64 =
        workers.iter().flat_map(|one| one.samples.iter().map(|sample| sample.private).max()).max().unwrap_or(0);
    let parent =
        facts.recording.processes.first().and_then(|one| one.samples.iter().map(|sample| sample.resident).max());
    let mut evidence = vec![format!(
        "{} in workers, {} each on this machine: {}.",
        count(faults, "page fault", "page faults"),
        seconds(facts.charges.page_fault),
        bytes(faults as f64 * 4096.0)
    )];
    if private > 0 {
        evidence.push(format!("A worker has up to {} of its own.", bytes(private as f64)));
    }
    if let Some(parent) = parent {
        evidence.push(format!("The main process had {} in memory.", bytes(parent as f64)));
    }
    Words {
        headline: format!(
            "Workers spend {} of the run on page faults: each makes its own copy of {} in all.",
            seconds(gain(facts)),
            bytes(faults as f64 * 4096.0)
        ),
        evidence,
        places: facts.main_pool().and_then(|pool| crate::facts::to_place(&pool.site, "workers start here".to_owned())).into_iter().collect(),
        advice: "Keep what workers read in arrays (NumPy, array, shared memory) instead of many Python objects, whose \
                 reference counts every reader writes; reuse buffers instead of making new arrays for each item; use fewer \
                 workers."
            .to_owned(),
        sketch: Some("- table = [float(line) for line in file]\n+ table = np.fromiter(map(float, file), float)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn workers_that_copy_what_they_inherited() {
        let mut run = Build::new(2, 2.0);
        run.recording().charges =
            Some(crate::recording::Charges { page_fault: 5e-6, page_copy: 5e-6, ..crate::analyze::DEFAULT_CHARGES });
        run.memory(0, 0.0, 800_000_000, 0);
        run.span(0, K::Submit, 0.0, 0.0).object(7).link(1).value(2);
        run.span(0, K::Result, 0.0, 2.0).object(7).link(1).asleep();
        for link in 1..3 {
            let worker = run.child(0, "fork", 0.0, 2.0);
            run.span(worker, K::Task, 0.0, 2.0).object(7).link(link).busy();
            run.memory(worker, 2.0, 900_000_000, 700_000_000);
            for step in 0..=20u32 {
                let at = 0.1 * f64::from(step);
                run.sample(worker, 0, at, at, 0.0).minor_faults = u64::from(step) * 10_000;
            }
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Memory, "{:?}", report.primary);
        let serial = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Serial).unwrap();
        assert!((1.9..2.6).contains(&serial.predicted_seconds), "{}", serial.predicted_seconds);
    }
}

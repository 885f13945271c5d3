//! `serial_fraction`: workers idle because the parent produces, collects or aggregates.

use super::{Words, located, percent, seconds};
use crate::cause::Cause;
use crate::facts::{Facts, to_place};

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    if !facts.parallel {
        return 0.0;
    }
    facts.path[Cause::SerialFraction as usize] + facts.loss_own
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let site =
        facts.main_pool().map(|pool| pool.site.clone()).or_else(|| facts.units.first().map(|unit| unit.site.clone()));
    let site = site.unwrap_or_default();
    let share = facts.own / facts.elapsed.max(1e-9);
    let idle = facts.total[Cause::SerialFraction as usize];
    Words {
        headline: format!(
            "The main process itself works for {} of {}, {} of the run, while its workers have nothing to do{}.",
            seconds(facts.own),
            seconds(facts.elapsed),
            percent(share),
            located(&site)
        ),
        evidence: vec![
            format!("Workers waited {} for it.", seconds(idle)),
            format!(
                "However many workers there are, the run takes at least {}.",
                seconds(facts.own)
            ),
        ],
        places: to_place(&site, "what the main process does around this call".to_owned()).into_iter().collect(),
        advice: "Move what the main process does for each item into the workers: reading, preparing, and reducing of results. \
                 Hand over file names or indices instead of what was read."
            .to_owned(),
        sketch: Some(
            "- pool.map(work, [prepare(item) for item in items])\n+ def prepare_and_work(item):\n+     return work(prepare(item))\n+ pool.map(prepare_and_work, items)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn the_parent_prepares_each_item() {
        // 20 items: 0.2 s to prepare in the parent, 0.05 s in a worker.
        let mut run = Build::new(2, 4.2);
        run.pool(0, 7, "Pool", 2, "prepare.py:3");
        let workers = [run.child(0, "fork", 0.0, 4.2), run.child(0, "fork", 0.0, 4.2)];
        run.span(0, K::Import, 0.0, 0.001);
        for item in 0..20u32 {
            let at = 0.2 * f64::from(item + 1);
            run.span(0, K::Submit, at, at + 1e-4).object(7).link(u64::from(item)).value(1).site("prepare.py:6");
            run.span(0, K::Send, at, at + 1e-4).object(3).value(100);
            let worker = workers[item as usize % 2];
            let before = if item < 2 { 0.0 } else { at - 0.4 + 0.0501 };
            run.span(worker, K::Recv, before, at + 1e-4).object(3).value(100).asleep();
            run.span(worker, K::Task, at + 1e-4, at + 0.05).object(7).link(u64::from(item)).busy();
        }
        run.span(0, K::Result, 4.0002, 4.06).object(7).link(19).asleep();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::SerialFraction, "{:?}", report.primary);
        let idle = report.processes[1].causes.iter().find(|share| share.cause == Cause::SerialFraction).unwrap();
        assert!(idle.share > 0.7, "workers wait for the parent: {}", idle.share);
    }
}

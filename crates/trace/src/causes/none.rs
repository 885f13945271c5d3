//! `none`: nothing that is worth a change.

use super::{Words, percent, seconds};
use crate::cause::Cause;
use crate::facts::Facts;

pub(super) fn words(facts: &Facts<'_>) -> Words {
    let compute = facts.total[Cause::Compute as usize] / facts.process_seconds.max(1e-9);
    let headline = if facts.parallel {
        format!(
            "Nothing is wrong: {} of {} process-seconds are the program's own work.",
            percent(compute),
            seconds(facts.process_seconds)
        )
    } else {
        "Nothing is wrong: the program uses no parallelism.".to_owned()
    };
    Words { headline, ..Words::default() }
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn two_workers_on_two_cores() {
        let mut run = Build::new(2, 5.1);
        run.pool(0, 7, "Pool", 2, "fine.py:3");
        run.span(0, K::Submit, 0.05, 0.05).object(7).link(0).value(20);
        run.span(0, K::Result, 0.05, 5.05).object(7).link(0).asleep();
        let workers = [run.child(0, "fork", 0.04, 5.1), run.child(0, "fork", 0.045, 5.1)];
        for task in 0..20u32 {
            let at = 0.05 + 0.5 * f64::from(task / 2);
            run.span(workers[task as usize % 2], K::Task, at, at + 0.498).object(7).link(u64::from(task)).busy();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::None);
        assert!(report.findings.is_empty());
        let serial = report.fixes.iter().find(|fix| fix.kind == crate::report::FixKind::Serial).unwrap();
        assert!((9.5..10.5).contains(&serial.predicted_seconds), "{}", serial.predicted_seconds);
    }

    #[test]
    fn a_serial_program_is_blamed_for_nothing() {
        let mut run = Build::new(2, 3.0);
        run.span(0, K::Import, 0.0, 1.0).name("pandas").busy();
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::None);
        assert!(report.primary.headline.contains("no parallelism"));
    }
}

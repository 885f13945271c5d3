//! `transfer`: copying bytes through pipes and sockets, and pickling what is nothing but bytes (arrays).

use super::{Words, serialize};
use crate::cause::Cause;
use crate::facts::Facts;
use crate::record::RecordKind;

pub(super) fn gain(facts: &Facts<'_>) -> f64 {
    facts.path[Cause::Transfer as usize]
}

pub(super) fn words(facts: &Facts<'_>) -> Words {
    serialize::moved(facts, Cause::Transfer, RecordKind::Send, "copying")
}

#[cfg(test)]
mod tests {
    use crate::build::Build;
    use crate::recording::Role;
    use crate::{Cause, RecordKind as K, analyze};

    #[test]
    fn frames_through_a_queue() {
        // A child sends 20 frames of 25 MB: 50 ms to write each, as long to read it, 2 ms to look at it.
        let mut run = Build::new(2, 2.2);
        let camera = run.child(0, "fork", 0.0, 2.2);
        let feeder = run.thread(camera, Role::Feeder);
        run.span(camera, K::Run, 0.0, 2.2).name("camera").cpu(0.02);
        run.sample(camera, 0, 2.2, 0.02, 0.0);
        for frame in 0..20 {
            let at = 0.1 * f64::from(frame);
            run.span_of(camera, feeder, K::Dump, at, at + 0.02).value(25_000_000).name("ndarray").busy();
            run.span_of(camera, feeder, K::Send, at + 0.02, at + 0.09).value(25_000_000).object(3).cpu(0.03);
            run.span(0, K::Recv, at, at + 0.09).value(25_000_000).object(3).cpu(0.03).site("camera.py:40");
            run.span(0, K::Load, at + 0.09, at + 0.098).value(25_000_000).name("ndarray").busy();
        }
        let report = analyze(&run.finish());
        assert_eq!(report.primary.cause, Cause::Transfer);
        assert!(report.findings[0].headline.contains("25 MB"), "{}", report.findings[0].headline);
    }
}

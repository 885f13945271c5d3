//! The verdict: the cause without which the run would be shortest, if it is worth speaking of.

use crate::cause::Cause;
use crate::causes;
use crate::facts::{Facts, Shape};
use crate::report::{Finding, Primary};

/// A cause is worth speaking of from this part of the elapsed time on.
const WORTH: f64 = 0.10;
/// A second or third one, beside one that is.
const WORTH_BESIDE: f64 = 0.04;

/// The verdict and its findings.
pub(crate) fn diagnose(facts: &Facts<'_>) -> (Primary, Vec<Finding>) {
    let mut ranked = ranked(facts);
    ranked.retain(|(_, rank, _)| *rank > 0.0);
    let primary = ranked
        .first()
        .copied()
        .filter(|(_, rank, gain)| facts.parallel && rank.max(*gain) >= (WORTH + uncertainty(facts)) * facts.elapsed);
    let Some((cause, _, gain)) = primary else {
        let words = causes::words(facts, Cause::None);
        return (Primary { cause: Cause::None, headline: words.headline, without_it: None }, Vec::new());
    };
    let findings: Vec<Finding> = ranked
        .iter()
        .enumerate()
        .filter(|(place, (_, rank, gain))| *place == 0 || rank.max(*gain) >= WORTH_BESIDE * facts.elapsed)
        .take(3)
        .map(|(_, (cause, _, gain))| causes::finding(facts, *cause, *gain))
        .collect();
    let headline = findings.first().map_or_else(String::new, |finding| finding.headline.clone());
    (Primary { cause, headline, without_it: Some(facts.elapsed - gain) }, findings)
}

/// Causes by the seconds that a change would gain, most first: cause, seconds for the order, seconds.
///
/// A shape that keeps workers from running at the same time has its price in other causes' coin: start-up of pools that are
/// made for each call, dispatch that is waited for. What goes with the shape counts for the shape, not for them.
fn ranked(facts: &Facts<'_>) -> Vec<(Cause, f64, f64)> {
    let shape = causes::gain(facts, Cause::NotParallel);
    let mut all: Vec<(Cause, f64, f64)> = Cause::ALL
        .iter()
        .map(|&cause| {
            let gain = causes::gain(facts, cause);
            let rank = match (&facts.shape, cause) {
                (Some(Shape::PoolPerCall { .. } | Shape::ProcessByProcess { .. }), Cause::Startup) => {
                    (gain - shape).max(0.9 * gain.min(shape))
                }
                (Some(Shape::TaskByTask { .. }), Cause::Granularity) => gain.min(0.9 * shape),
                _ => gain,
            };
            (cause, rank, gain)
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: of equals the one that reports list first
    all
}

/// How much of the elapsed time cannot be told, because records or whole accounts are missing.
fn uncertainty(facts: &Facts<'_>) -> f64 {
    let written: u64 = facts.recording.processes.iter().map(|process| process.records.len() as u64).sum();
    let dropped: u64 = facts.recording.processes.iter().map(|process| process.dropped).sum();
    let lost = dropped as f64 / (dropped + written).max(1) as f64;
    0.05 * lost
}

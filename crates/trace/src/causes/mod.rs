//! The causes, one file each: what a cause costs a run, how that is shown, and what to do about it.
//!
//! `gain` is the wall-clock seconds by which the run would be shorter without the cause; `words` explains it.

mod gil;
mod granularity;
mod imbalance;
mod io_wait;
mod memory;
mod none;
mod not_parallel;
mod oversubscription;
mod queue_contention;
mod rpc;
mod serial_fraction;
mod serialize;
mod startup;
mod transfer;

use crate::attribute::SiteFacts;
use crate::cause::Cause;
use crate::facts::{Facts, PoolFacts, at_line};
use crate::report::{Finding, Place};

/// A cause in a person's words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    pub headline: String,
    pub evidence: Vec<String>,
    pub places: Vec<Place>,
    pub advice: String,
    pub sketch: Option<String>,
}

/// Seconds of wall-clock time that the run would be shorter without a cause.
pub(crate) fn gain(facts: &Facts<'_>, cause: Cause) -> f64 {
    let seconds = match cause {
        Cause::Startup => startup::gain(facts),
        Cause::Serialize => serialize::gain(facts),
        Cause::Transfer => transfer::gain(facts),
        Cause::QueueContention => queue_contention::gain(facts),
        Cause::Rpc => rpc::gain(facts),
        Cause::Granularity => granularity::gain(facts),
        Cause::Imbalance => imbalance::gain(facts),
        Cause::Oversubscription => oversubscription::gain(facts),
        Cause::SerialFraction => serial_fraction::gain(facts),
        Cause::Gil => gil::gain(facts),
        Cause::IoWait => io_wait::gain(facts),
        Cause::Memory => memory::gain(facts),
        Cause::NotParallel => not_parallel::gain(facts),
        Cause::Compute | Cause::None => 0.0,
    };
    seconds.clamp(0.0, facts.elapsed)
}

/// Items in a task that make handing them over small beside the work.
pub(crate) fn chunk(facts: &Facts<'_>, pool: &PoolFacts) -> u64 {
    granularity::chunk(facts, pool)
}

/// A cause in a person's words.
pub(crate) fn words(facts: &Facts<'_>, cause: Cause) -> Words {
    match cause {
        Cause::Startup => startup::words(facts),
        Cause::Serialize => serialize::words(facts),
        Cause::Transfer => transfer::words(facts),
        Cause::QueueContention => queue_contention::words(facts),
        Cause::Rpc => rpc::words(facts),
        Cause::Granularity => granularity::words(facts),
        Cause::Imbalance => imbalance::words(facts),
        Cause::Oversubscription => oversubscription::words(facts),
        Cause::SerialFraction => serial_fraction::words(facts),
        Cause::Gil => gil::words(facts),
        Cause::IoWait => io_wait::words(facts),
        Cause::Memory => memory::words(facts),
        Cause::NotParallel => not_parallel::words(facts),
        Cause::Compute | Cause::None => none::words(facts),
    }
}

/// A cause as a finding.
pub(crate) fn finding(facts: &Facts<'_>, cause: Cause, gain: f64) -> Finding {
    let words = words(facts, cause);
    let core_seconds = facts.total[cause as usize];
    let share = if facts.process_seconds > 0.0 { core_seconds / facts.process_seconds } else { 0.0 };
    let mut evidence = vec![format!(
        "{} of {} process-seconds ({}) went into it; without it the run would take about {} instead of {}.",
        seconds(core_seconds),
        seconds(facts.process_seconds),
        percent(share),
        seconds(facts.elapsed - gain),
        seconds(facts.elapsed)
    )];
    evidence.extend(words.evidence);
    Finding {
        cause,
        share,
        core_seconds,
        costs_seconds: Some(gain),
        headline: words.headline,
        evidence,
        places: words.places,
        advice: words.advice,
        sketch: words.sketch,
    }
}

/// `1.24 s`, `31 ms`, `80 us`.
pub(crate) fn seconds(seconds: f64) -> String {
    let size = seconds.abs();
    if size >= 99.5 {
        format!("{seconds:.0} s")
    } else if size >= 9.95 {
        format!("{seconds:.1} s")
    } else if size >= 0.995 {
        format!("{seconds:.2} s")
    } else if size >= 9.95e-3 {
        format!("{:.0} ms", seconds * 1e3)
    } else if size >= 0.995e-3 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} us", seconds * 1e6)
    }
}

/// `210 MB`, `4.2 kB`.
pub(crate) fn bytes(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if bytes >= 0.995 * size {
            let value = bytes / size;
            return if value >= 9.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") };
        }
    }
    format!("{bytes:.0} bytes")
}

/// `61 %`.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value < 9.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

/// `1 task`, `40 tasks`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 {
        return format!("1 {one}");
    }
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {many}")
}

/// ` (script.py:31)`, or nothing.
fn located(site: &str) -> String {
    at_line(site).map_or_else(String::new, |at| format!(" ({at})"))
}

/// ` (script.py:31)` of the dearest place.
fn located_at(places: &[Place]) -> String {
    places.first().map_or_else(String::new, |place| format!(" ({}:{})", place.file, place.line))
}

/// A function's name, or words that stand for it.
fn named<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}

/// `40 times, 210 MB each`.
fn times(facts: &SiteFacts) -> String {
    let name = if facts.name.is_empty() { String::new() } else { format!("{}: ", facts.name) };
    let each = if facts.bytes > 0 && facts.count > 0 {
        format!(", {} each", bytes(facts.bytes as f64 / facts.count as f64))
    } else {
        String::new()
    };
    format!("{name}{} in {}{each}", seconds(facts.seconds), count(facts.count, "call", "calls"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [seconds(123.4), seconds(1.239), seconds(0.031), seconds(80e-6)],
            ["123 s", "1.24 s", "31 ms", "80 us"]
        );
        assert_eq!([bytes(210e6), bytes(4200.0), bytes(12.0)], ["210 MB", "4.2 kB", "12 bytes"]);
        assert_eq!([count(1, "task", "tasks"), count(1_234_567, "task", "tasks")], ["1 task", "1,234,567 tasks"]);
        assert_eq!([percent(0.614), percent(0.021)], ["61 %", "2.1 %"]);
    }
}

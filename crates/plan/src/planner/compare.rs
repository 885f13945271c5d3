//! The alternatives side by side: what `explain` and `last` show.

use super::{Kind, Planner};
use crate::model::{Prediction, Strategy, candidates};
use crate::workload::Workload;

/// The ways in which a map can be run, and what the model says of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The loop first, then each kind of helper with the number of helpers that is best for it.
    pub candidates: Vec<(Strategy, Prediction)>,
    /// Index of what the planner would choose.
    pub chosen: usize,
    /// Why, in one sentence.
    pub reason: String,
    /// Numbers of items, and for each the predicted seconds of the loop and of the best other way.
    pub curve: Vec<(u64, f64, f64)>,
    /// The fewest items for which helpers pay; `None`: however many there are, they do not.
    pub break_even: Option<u64>,
}

/// Points of the curve for each power of ten.
const POINTS: u32 = 8;

impl Planner {
    /// Compares the ways to run `items` items, by what is known now.
    pub fn compare(&self, items: u64) -> Comparison {
        let Some(workload) = self.workload(items) else {
            return Comparison {
                candidates: Vec::new(),
                chosen: 0,
                reason: "Nothing has been measured, so there is nothing to compare.".into(),
                curve: Vec::new(),
                break_even: None,
            };
        };
        let charges = &self.config().charges;
        let cores = self.config().cores;
        let kinds = &self.config().kinds;
        let seconds = |strategy: Strategy, workload: &Workload| strategy.seconds(charges, workload, cores, 1.0);
        let idle = |kind: Kind| if kind == Kind::Warm { self.config().idle } else { 0 };
        let least = |kinds: &[Kind], workload: &Workload| {
            let most = |kind: Kind| self.most_for(kind, workload.items);
            candidates(most, idle, kinds)
                .skip(1)
                .map(|strategy| (strategy, seconds(strategy, workload)))
                .reduce(|best, next| if next.1 < best.1 * 0.98 { next } else { best })
        };

        let mut rows = vec![Strategy::Serial];
        rows.extend(kinds.iter().filter_map(|kind| Some(least(&[*kind], &workload)?.0)));
        let candidates: Vec<(Strategy, Prediction)> =
            rows.into_iter().map(|strategy| (strategy, strategy.predict(charges, &workload, cores))).collect();
        let chosen = match self.best_with(idle, kinds, &workload) {
            Some((Strategy::Helped { kind, .. }, _)) => candidates
                .iter()
                .position(|(row, _)| matches!(row, Strategy::Helped { kind: other, .. } if *other == kind))
                .unwrap_or(0),
            _ => 0,
        };

        let mut curve = Vec::new();
        let decades = (items.max(2) as f64).log10().ceil() as u32 + 1;
        for step in 0..=decades.min(15) * POINTS {
            let count = 10_f64.powf(f64::from(step) / f64::from(POINTS)).round() as u64;
            let some = Workload { items: count, ..workload };
            let helped = least(kinds, &some).map_or(f64::INFINITY, |best| best.1);
            if curve.last().is_none_or(|last: &(u64, f64, f64)| last.0 < count) && helped.is_finite() {
                curve.push((count, seconds(Strategy::Serial, &some), helped));
            }
        }
        let break_even = self.break_even(&workload);
        let reason = reason(&candidates, chosen, &workload, break_even);
        Comparison { candidates, chosen, reason, curve, break_even }
    }

    /// The fewest items for which helpers pay, found by doubling and halving: the gain only grows with the items.
    fn break_even(&self, workload: &Workload) -> Option<u64> {
        let idle = |kind: Kind| if kind == Kind::Warm { self.config().idle } else { 0 };
        let pays = |items: u64| self.best_with(idle, &self.config().kinds, &Workload { items, ..*workload }).is_some();
        let first = (1..=40).map(|bit| 1_u64 << bit).find(|items| pays(*items))?;
        let (mut no, mut yes) = (first / 2, first);
        while yes - no > 1 {
            let middle = no + (yes - no) / 2;
            if pays(middle) { yes = middle } else { no = middle }
        }
        Some(yes)
    }
}

fn reason(
    candidates: &[(Strategy, Prediction)],
    chosen: usize,
    workload: &Workload,
    break_even: Option<u64>,
) -> String {
    let each = format!("{} items of {}", thousands(workload.items), duration(workload.seconds));
    let serial = candidates[0].1.seconds;
    match candidates[chosen].0 {
        Strategy::Serial => {
            let other = candidates[1..].iter().min_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
            match (other, break_even) {
                (None, _) => format!("The loop, since nothing else is allowed: {each} take {}.", duration(serial)),
                (Some((strategy, prediction)), Some(items)) if prediction.seconds > serial * 0.95 => format!(
                    "The loop: {each} take {}, {} would take {}; helpers pay from {} items on.",
                    duration(serial),
                    describe(*strategy),
                    duration(prediction.seconds),
                    thousands(items),
                ),
                (Some((strategy, prediction)), Some(_)) => format!(
                    "The loop: {each} take {}, and {} could take {}, but the cost of an item is not known well enough to \
                     bet on that.",
                    duration(serial),
                    describe(*strategy),
                    duration(prediction.seconds),
                ),
                (Some((strategy, prediction)), None) => format!(
                    "The loop: {each} take {}, {} would take {}, and more items would not change that.",
                    duration(serial),
                    describe(*strategy),
                    duration(prediction.seconds),
                ),
            }
        }
        strategy @ Strategy::Helped { kind, .. } => {
            let because = match kind {
                Kind::Threads if workload.sleep_share >= 0.5 => {
                    format!(", which sleep for {:.0} % of that,", 100.0 * workload.sleep_share)
                }
                Kind::Threads => ", which let other threads run meanwhile,".into(),
                Kind::Fork | Kind::Warm if workload.gil_share > 0.5 => ", which hold the interpreter's lock,".into(),
                Kind::Fork | Kind::Warm => String::new(),
            };
            let how = match kind {
                Kind::Fork => " that inherit the inputs",
                Kind::Threads | Kind::Warm => "",
            };
            format!(
                "{}{how}: {each}{because} take about {} so, and {} in the loop.",
                capital(&describe(strategy)),
                duration(candidates[chosen].1.seconds),
                duration(serial),
            )
        }
    }
}

/// `2 processes`: the caller and its helpers.
fn describe(strategy: Strategy) -> String {
    match strategy {
        Strategy::Serial => "the loop".into(),
        Strategy::Helped { kind, helpers, .. } => {
            let what = if kind == Kind::Threads { "threads" } else { "processes" };
            format!("{} {what} (this one and {helpers} more)", u64::from(helpers) + 1)
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| core::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

/// Seconds with a unit and three digits.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(duration(52.4e-9), "52.4 ns");
        assert_eq!(duration(1.5e-3), "1.50 ms");
        assert_eq!(duration(120.0), "120 s");
    }
}

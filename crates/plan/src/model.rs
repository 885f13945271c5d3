//! The break-even model: what a [`Workload`] takes on a machine with given [`MachineCharges`], in each of the ways in which
//! `map` can run it. The planner acts on it, `explain` shows it, the simulator is built of the same charges.
//!
//! In every way the caller works too. `k` helpers join it after `s` seconds and take `x` of the `R` items; the caller does
//! the rest. An item takes `c` seconds by itself, of which a share `w` needs a core, and with `p = k + 1` parties on `n`
//! cores it takes `c' = c max(1, p w / n)`:
//!
//! ```text
//! serial     R c
//!
//! parallel   max( a + (R - x) c' + x o,         the caller: orders helpers (a), works, sends and collects (o an item)
//!                 s + ceil(x / k) (c' + o'),    the helpers: come up (s), work, receive and answer (o' an item)
//!                 a + R c g )                   threads only: one at a time holds the lock, for the share g
//!
//!            o  = o' = item + (bytes_in + bytes_out) byte + dispatch / m      in chunks of m items
//! ```
//!
//! `x` is what makes the first two equal; where that is not a whole number of items a helper, the better neighbour. With
//! `x = 0` the helpers are of no use and the loop is left with their price. The times are those of an ideal division: that
//! of unequal items adds at most one chunk ([`crate::planner`]).

use crate::machine::MachineCharges;
use crate::workload::Workload;

/// A chunk should take about so long: long against its dispatch, short against everything that a person notices.
pub(crate) const CHUNK_SECONDS: f64 = 5e-3;

/// What can run items beside the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Threads of this process.
    Threads,
    /// Processes that are forked at the call: they have inputs and function, only indices travel to them.
    Fork,
    /// Processes that were started before or come out of a template: everything travels.
    Warm,
}

impl Kind {
    /// All kinds, in the order in which the planner prefers them where they are predicted to be equal.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Warm, Self::Fork];

    /// As the engine calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Fork => "fork",
            Self::Warm => "warm",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A way to run the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The plain loop.
    Serial,
    /// The caller and helpers.
    Helped {
        /// What they are.
        kind: Kind,
        /// How many beside the caller.
        helpers: u32,
        /// How many of them are up already, and cost nothing to start.
        up: u32,
    },
}

/// Predicted seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The expected time.
    pub seconds: f64,
    /// The time if items are as cheap as the measurements allow (two standard errors) and helpers come up soon.
    pub low: f64,
    /// The time if they are as dear, and helpers come up late.
    pub high: f64,
}

/// By what start-up times differ from run to run, down and up.
const START_SPREAD: (f64, f64) = (0.7, 1.5);

impl Strategy {
    /// Seconds that `workload` takes in this way on a machine with `cores` cores.
    pub fn predict(&self, machine: &MachineCharges, workload: &Workload, cores: u32) -> Prediction {
        let error = (2.0 * workload.error).clamp(0.0, 0.9);
        let with = |factor: f64, start: f64| {
            let workload = Workload { seconds: workload.seconds * factor, ..*workload };
            self.seconds(machine, &workload, cores, start)
        };
        let seconds = with(1.0, 1.0);
        Prediction {
            seconds,
            low: with(1.0 - error, START_SPREAD.0).min(seconds),
            high: with(1.0 + error, START_SPREAD.1).max(seconds),
        }
    }

    /// Seconds with start-up times scaled by `start`.
    pub(crate) fn seconds(&self, machine: &MachineCharges, workload: &Workload, cores: u32, start: f64) -> f64 {
        let items = workload.items as f64;
        let serial = items * workload.seconds;
        match *self {
            Self::Serial => serial,
            Self::Helped { helpers: 0, .. } => serial,
            Self::Helped { .. } if workload.items == 0 => 0.0,
            Self::Helped { kind, helpers, up } => {
                let k = f64::from(helpers);
                let fresh = f64::from(helpers.saturating_sub(up));
                let awake = 1.0 - workload.sleep_share.clamp(0.0, 1.0);
                let each = workload.seconds * ((k + 1.0) * awake / f64::from(cores.max(1))).max(1.0);
                let (order, ready) = start_up(kind, machine, workload, fresh);
                let overhead = transport(kind, machine, workload, helpers);
                let mine = |x: f64| order + (items - x) * each + x * overhead;
                let theirs = |x: f64| if x > 0.0 { ready * start + (x / k).ceil() * (each + overhead) } else { 0.0 };

                // An item given away saves the caller `each` and costs it `overhead`.
                let saved = each - overhead;
                if saved <= 0.0 {
                    return order + serial.max(0.0);
                }
                let even = ((order + items * each - ready * start) / ((each + overhead) / k + saved)).clamp(0.0, items);
                let rounds = (even / k).floor() * k;
                let best = [even.floor(), even.ceil(), rounds, rounds + k]
                    .into_iter()
                    .map(|x| x.clamp(0.0, items))
                    .map(|x| mine(x).max(theirs(x)))
                    .fold(order + serial, f64::min);
                match kind {
                    Kind::Threads => best.max(order + serial * workload.gil_share),
                    Kind::Fork | Kind::Warm => best,
                }
            }
        }
    }
}

/// For `fresh` helpers: the caller's seconds, and the seconds until they can take chunks.
fn start_up(kind: Kind, machine: &MachineCharges, workload: &Workload, fresh: f64) -> (f64, f64) {
    match kind {
        Kind::Threads => (fresh * machine.thread, fresh * machine.thread + machine.wake),
        Kind::Fork if fresh > 0.0 => (fresh * machine.fork_call, machine.fork.max(fresh * machine.fork_call)),
        Kind::Warm => {
            // One copy serves all, each of them reads it.
            let function = workload.function_bytes * machine.byte;
            let order = fresh * machine.warm_call + function;
            (order, function + if fresh > 0.0 { machine.warm.max(order) } else { machine.wake })
        }
        Kind::Fork => (0.0, machine.wake),
    }
}

/// Seconds an item of the caller, and as many of a helper, beside running it.
pub(crate) fn transport(kind: Kind, machine: &MachineCharges, workload: &Workload, helpers: u32) -> f64 {
    let fair = workload.items as f64 / (2.0 * f64::from(helpers) + 2.0);
    let chunk = (CHUNK_SECONDS / workload.seconds.max(1e-12)).min(fair).max(1.0);
    match kind {
        Kind::Threads => machine.hand / chunk,
        Kind::Fork | Kind::Warm => {
            let travels = if kind == Kind::Fork { 0.0 } else { workload.bytes_in } + workload.bytes_out;
            let unmeasured = machine.item + travels * machine.byte;
            workload.transport.unwrap_or(unmeasured) + machine.dispatch / chunk
        }
    }
}

/// All that the planner and `explain` compare: the loop first, then each kind with each sensible number of helpers.
///
/// `most` is the largest number of helpers, by kind; `up` how many there are already.
pub fn candidates(
    most: impl Fn(Kind) -> u32,
    up: impl Fn(Kind) -> u32,
    kinds: &[Kind],
) -> impl Iterator<Item = Strategy> {
    let helped: Vec<Strategy> = kinds
        .iter()
        .flat_map(|&kind| {
            let (most, up) = (most(kind), up(kind));
            let doubling = (0..31).map(|bit| 1_u32 << bit).take_while(move |helpers| *helpers < most);
            let last = (most > 0).then_some(most);
            doubling.chain(last).map(move |helpers| Strategy::Helped { kind, helpers, up: up.min(helpers) })
        })
        .collect();
    core::iter::once(Strategy::Serial).chain(helped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: u32 = 2;

    fn helped(kind: Kind, helpers: u32) -> Strategy {
        Strategy::Helped { kind, helpers, up: 0 }
    }

    fn predict(strategy: Strategy, workload: &Workload) -> f64 {
        strategy.predict(&MachineCharges::default(), workload, CORES).seconds
    }

    #[test]
    fn a_few_microseconds_of_work_stay_serial() {
        let work = Workload::pure_python(10, 1e-6);
        let serial = predict(Strategy::Serial, &work);
        for kind in Kind::ALL {
            assert!(serial < predict(helped(kind, 1), &work), "{kind:?}");
        }
    }

    #[test]
    fn long_pure_python_gains_by_processes_and_not_by_threads() {
        let work = Workload::pure_python(1000, 1e-3);
        let serial = predict(Strategy::Serial, &work);
        let processes = predict(helped(Kind::Warm, 1), &work);
        assert!(processes < 0.55 * serial, "{processes} against {serial}");
        assert!(predict(helped(Kind::Threads, 1), &work) >= serial);
    }

    #[test]
    fn sleeping_items_gain_by_more_threads_than_cores() {
        let work = Workload { gil_share: 0.0, sleep_share: 1.0, ..Workload::pure_python(100, 0.1) };
        let threads = predict(helped(Kind::Threads, 99), &work);
        assert!(threads < 0.02 * predict(Strategy::Serial, &work));
    }

    #[test]
    fn bytes_can_cost_more_than_they_gain() {
        // 80 MB to look at for a millisecond: moving them takes 16 ms at each side.
        let work = Workload { bytes_in: 80e6, ..Workload::pure_python(100, 1e-3) };
        assert!(predict(helped(Kind::Warm, 1), &work) > predict(Strategy::Serial, &work));
        assert!(predict(helped(Kind::Fork, 1), &work) < predict(Strategy::Serial, &work));
    }

    #[test]
    fn more_processes_than_cores_do_not_help_work_that_is_awake() {
        let work = Workload::pure_python(1000, 1e-3);
        assert!(predict(helped(Kind::Warm, 1), &work) < predict(helped(Kind::Warm, 7), &work));
    }

    #[test]
    fn no_items_take_no_time() {
        assert_eq!(predict(helped(Kind::Warm, 4), &Workload::pure_python(0, 1.0)), 0.0);
    }

    #[test]
    fn whole_items_are_counted() {
        // Three items for two parties: two rounds, not one and a half.
        let work = Workload::pure_python(3, 0.1);
        let seconds = predict(helped(Kind::Fork, 1), &work);
        assert!((0.2..0.21).contains(&seconds), "{seconds}");
    }

    #[test]
    fn what_is_not_known_well_has_a_wide_interval() {
        let sure = Workload::pure_python(1000, 1e-3);
        let unsure = Workload { error: 0.2, ..sure };
        let width = |work: &Workload| {
            let p = helped(Kind::Warm, 1).predict(&MachineCharges::default(), work, CORES);
            assert!(p.low <= p.seconds && p.seconds <= p.high);
            p.high - p.low
        };
        assert!(width(&unsure) > 5.0 * width(&sure));
    }

    #[test]
    fn a_helper_that_is_up_is_cheaper() {
        let work = Workload::pure_python(100, 1e-4);
        let up = Strategy::Helped { kind: Kind::Warm, helpers: 1, up: 1 };
        assert!(predict(up, &work) < predict(helped(Kind::Warm, 1), &work));
    }
}

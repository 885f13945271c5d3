//! How a run's time divides.

use crate::cause::Cause;

/// How much of a run one cause took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The cause.
    pub cause: Cause,
    /// Seconds, over all processes.
    pub core_seconds: f64,
    /// Part of all seconds, from 0 to 1.
    pub share: f64,
}

/// A run's time by cause. To be filled by the attribution (issue 4).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attribution {
    shares: Vec<Share>,
}

impl Attribution {
    /// From seconds by cause: several entries of one cause are added, causes without time are left out, and the shares add
    /// up to 1 (or there are none). Largest first; equal ones in [`Cause::ALL`]'s order.
    pub fn new(seconds: impl IntoIterator<Item = (Cause, f64)>) -> Self {
        let mut by_cause = std::collections::BTreeMap::new();
        for (cause, seconds) in seconds {
            *by_cause.entry(cause).or_insert(0.0) += seconds;
        }
        by_cause.retain(|_, seconds| *seconds > 0.0);
        let all: f64 = by_cause.values().sum();
        let mut shares: Vec<Share> = by_cause
            .into_iter()
            .map(|(cause, core_seconds)| Share { cause, core_seconds, share: core_seconds / all })
            .collect();
        shares.sort_by(|a, b| b.core_seconds.total_cmp(&a.core_seconds)); // stable: ties keep the map's order
        Self { shares }
    }

    /// The shares, largest first.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Seconds over all processes and causes.
    pub fn core_seconds(&self) -> f64 {
        self.shares.iter().map(|share| share.core_seconds).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_whole_largest_first() {
        let run =
            [(Cause::Gil, 1.0), (Cause::Compute, 2.0), (Cause::Gil, 4.0), (Cause::Rpc, 0.0), (Cause::Startup, 1.0)];
        let attribution = Attribution::new(run);
        let causes: Vec<Cause> = attribution.shares().iter().map(|share| share.cause).collect();
        assert_eq!(causes, [Cause::Gil, Cause::Compute, Cause::Startup]);
        assert_eq!(attribution.shares().iter().map(|share| share.share).sum::<f64>(), 1.0);
        assert_eq!(attribution.core_seconds(), 8.0);
    }

    #[test]
    fn a_run_without_time_has_no_shares() {
        assert_eq!(Attribution::new([(Cause::Compute, 0.0)]), Attribution::default());
    }
}

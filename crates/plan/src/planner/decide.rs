//! Whether helpers pay, which, and how many.

use super::{Command, Planner, Probe, SLEEPERS, Sharing};
use crate::model::{Kind, Strategy, candidates, transport};
use crate::workload::Workload;

/// The probe of the interpreter's lock needs to have looked for so long.
pub(super) const PROBE_SECONDS: f64 = 2.5e-3;

/// Later than this, a probe that says nothing has said enough.
pub(super) const PROBE_PATIENCE: f64 = 15e-3;

/// Work that sleeps for this share of its time and more needs no probe: what sleeps has let go of the lock.
const SLEEPS: f64 = 0.8;

/// Nothing is bet before the caller has worked for so long.
const LOOKED_AT: f64 = 0.3e-3;

/// A gain has to be this share of what is left of the loop.
const MARGIN: f64 = 0.05;

/// Threads have to have worked for so long before it is judged whether they helped.
const JUDGE_THREADS: f64 = 10e-3;

/// An item that keeps the caller from seeing what the probe has found.
const LONG: f64 = 1e-3;

/// Of each thread's help, this share has to be real.
const THREADS_HELP: f64 = 0.2;

/// So much of the loop must be left for processes to be ordered before it is known whether threads would do.
const ORDER_EARLY: f64 = 40e-3;

const KEPT: usize = 16;

/// Something that the planner decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// When.
    pub now: f64,
    /// What.
    pub strategy: Strategy,
    /// Items that were left.
    pub items: u64,
    /// Predicted seconds of the loop over them.
    pub serial: f64,
    /// Predicted seconds in the way that was decided on.
    pub seconds: f64,
}

impl Planner {
    /// The most helpers of a kind.
    pub(super) fn most(&self, kind: Kind) -> u32 {
        self.most_for(kind, self.expected())
    }

    /// The most helpers of a kind for so many items.
    pub(super) fn most_for(&self, kind: Kind, items: u64) -> u32 {
        let sleep = self.workload(items).map_or(0.0, |workload| workload.sleep_share);
        let default = match kind {
            Kind::Threads if sleep > 0.1 => SLEEPERS.max(self.config.cores),
            _ => self.config.cores,
        };
        let parties = self.config.workers.unwrap_or(default);
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        parties.saturating_sub(u32::from(self.config.here)).min(items)
    }

    /// Which kinds can be chosen now.
    fn kinds(&self) -> Vec<Kind> {
        let forked_or_warm = |kind: &Kind| match self.active {
            Some(active) => *kind == active,
            None => *kind != Kind::Threads || !self.threads_failed,
        };
        // Processes are not started by anybody but the caller.
        let of_use = |kind: &Kind| !self.crews[*kind as usize].hopeless() && (!self.away || *kind == Kind::Threads);
        self.config.kinds.iter().copied().filter(forked_or_warm).filter(of_use).collect()
    }

    /// Whether no helper would pay even if items were as dear as they may be, and let go of the lock.
    pub(super) fn nothing_would_pay(&self) -> bool {
        let Some(workload) = self.workload(self.expected()) else { return false };
        let dear = workload.seconds * (1.0 + 2.0 * workload.error);
        let gil_share = self.estimator.gil.unwrap_or(0.0);
        self.best(&self.kinds(), &Workload { seconds: dear, error: 0.0, gil_share, ..workload }).is_none()
    }

    fn idle(&self, kind: Kind) -> u32 {
        self.crews[kind as usize].all().max(if kind == Kind::Warm { self.config.idle } else { 0 })
    }

    /// The way with the least predicted time, and that time, for a workload as cheap as it may be. `None`: the loop.
    fn best(&self, kinds: &[Kind], workload: &Workload) -> Option<(Strategy, f64)> {
        self.best_with(|kind| self.idle(kind), kinds, workload)
    }

    /// The same with so many helpers of a kind being there already.
    pub(super) fn best_with(
        &self,
        up: impl Fn(Kind) -> u32,
        kinds: &[Kind],
        workload: &Workload,
    ) -> Option<(Strategy, f64)> {
        let error = (2.0 * workload.error).clamp(0.0, 0.7);
        let cheap = Workload { seconds: workload.seconds * (1.0 - error), ..*workload };
        let serial = cheap.items as f64 * cheap.seconds;
        let seconds = |strategy: Strategy| strategy.seconds(&self.config.charges, &cheap, self.config.cores, 1.25);
        let (strategy, best) = candidates(|kind| self.most_for(kind, workload.items), up, kinds)
            .skip(1)
            .map(|strategy| (strategy, seconds(strategy)))
            .reduce(|best, next| if next.1 < best.1 * 0.98 { next } else { best })?;
        (best < serial * (1.0 - MARGIN) - 20e-6).then_some((strategy, best))
    }

    pub(super) fn decide(&mut self, now: f64) -> Option<Command> {
        if self.config.must || !self.config.here {
            return self.order_all(now);
        }
        if self.config.kinds.is_empty() || !std::mem::take(&mut self.fresh) {
            return None;
        }
        if self.threads_do_not_help() {
            self.threads_failed = true;
            self.estimator.gil = Some(1.0);
            return Some(self.stop(Kind::Threads));
        }
        // A first item says little: it may import, compile, fill caches.
        if self.here_seconds < LOOKED_AT && !self.estimator.has_prior() {
            self.fresh = true;
            return None;
        }
        let workload = self.workload(self.expected())?;
        if self.early && self.estimator.gil.is_some() {
            self.early = false;
            if let Some((Strategy::Helped { kind: Kind::Threads, .. }, _)) = self.best(&self.config.kinds, &workload) {
                return Some(self.stop(Kind::Warm));
            }
        }
        let kinds = self.kinds();
        let (lock_known, sleeps) = (self.estimator.gil.is_some(), workload.sleep_share >= SLEEPS);
        let threads = kinds.contains(&Kind::Threads);
        if !threads || lock_known || sleeps || self.active.is_some() {
            let (strategy, _) = self.best(&kinds, &workload)?;
            return self.order(strategy, &workload, now);
        }
        // Threads or processes? That depends on the lock, and the probe tells.
        match self.probe {
            Probe::Untried => {
                let free = Workload { gil_share: 0.0, ..workload };
                self.best(&kinds, &free)?;
                self.probe = Probe::Running { since: now };
                self.fresh = true;
                Some(Command::Probe)
            }
            // Processes that are likely to be needed come up in the meantime. Not by fork: the probe is a thread.
            Probe::Running { .. } => {
                let cheap = workload.items as f64 * workload.seconds * (1.0 - (2.0 * workload.error).clamp(0.0, 0.7));
                if cheap < ORDER_EARLY || !kinds.contains(&Kind::Warm) {
                    return None;
                }
                let (strategy, _) = self.best(&[Kind::Warm], &workload)?;
                self.early = true;
                self.order(strategy, &workload, now)
            }
            Probe::Over => None,
        }
    }

    /// Lets the helpers of a kind go. What they have they finish.
    fn stop(&mut self, kind: Kind) -> Command {
        let crew = &mut self.crews[kind as usize];
        (crew.ordered, crew.up, crew.stopped) = (0, 0, true);
        self.active = None;
        self.fresh = true;
        Command::Stop(kind)
    }

    /// Orders what is missing of `strategy`.
    fn order(&mut self, strategy: Strategy, workload: &Workload, now: f64) -> Option<Command> {
        let Strategy::Helped { kind, helpers, .. } = strategy else { return None };
        let crew = &mut self.crews[kind as usize];
        let missing = helpers.min(crew.most.unwrap_or(u32::MAX)).saturating_sub(crew.all());
        if missing == 0 {
            return None;
        }
        crew.ordered += missing;
        crew.stopped = false;
        crew.ordered_at = now;
        if self.active != Some(kind) {
            self.sharing = Sharing::default();
        }
        self.active = Some(kind);
        let seconds = |strategy: Strategy| strategy.seconds(&self.config.charges, workload, self.config.cores, 1.0);
        if self.decisions.len() == KEPT {
            self.decisions.remove(0);
        }
        self.decisions.push(Decision {
            now,
            strategy,
            items: workload.items,
            serial: seconds(Strategy::Serial),
            seconds: seconds(strategy),
        });
        Some(Command::Start(kind, missing))
    }

    /// Helpers whatever they cost.
    fn order_all(&mut self, now: f64) -> Option<Command> {
        let kind = self.active.or(self.kinds().first().copied())?;
        let helpers = self.most(kind).max(u32::from(!self.config.here));
        let workload = self.workload(self.expected()).unwrap_or_else(|| Workload::pure_python(self.expected(), 0.0));
        self.order(Strategy::Helped { kind, helpers, up: 0 }, &workload, now)
    }

    /// Whether chunks go to this kind now.
    pub(super) fn feeds(&self, kind: Kind) -> bool {
        if self.config.must || !self.config.here {
            return true;
        }
        let Some(workload) = self.workload(self.expected()) else { return true };
        // Short items can wait for the probe's verdict. While a long one runs here, another core could do the next.
        if self.early && workload.seconds < LONG {
            return false;
        }
        // An item given away costs the caller its transport. If that is what running it costs, better run it.
        transport(kind, &self.config.charges, &workload, self.crews[kind as usize].all()) < 0.8 * workload.seconds
    }

    /// Whether threads share one core's worth of time between them.
    fn threads_do_not_help(&self) -> bool {
        let Sharing { here_wall, here_cpu, there_wall, there_cpu } = self.sharing;
        if self.active != Some(Kind::Threads) || !self.config.gil || there_wall < JUDGE_THREADS || here_wall <= 0.0 {
            return false;
        }
        if self.estimator.sleep_share().unwrap_or(0.0) > 0.5 || self.config.kinds.len() < 2 {
            return false;
        }
        let helpers = f64::from(self.crews[Kind::Threads as usize].up.min(self.config.cores.saturating_sub(1)).max(1));
        let running = here_cpu / here_wall + helpers * there_cpu / there_wall;
        running < 1.0 + THREADS_HELP * helpers
    }
}

//! What the benchmarks share: samples of all rivals in turns, medians, a child process.
#![allow(dead_code, reason = "each benchmark uses a part")]

use breakeven_shm::{Arena, ArenaConfig, after_fork_in_child, after_fork_in_parent, before_fork};
use std::time::{Duration, Instant};

/// Samples of each rival, taken in turns so that a noisy moment hits all of them.
const SAMPLES: usize = 21;

pub fn arena() -> Arena {
    Arena::create(ArenaConfig { limit: 1 << 30, reserve: 0 }).unwrap()
}

/// Prints the median and the quartiles of the nanoseconds a unit. Each rival's function does some
/// units of work and says how many; a sample calls it `calls` times. With an argument on the
/// command line, only the rivals whose name contains it.
pub fn compare(calls: u64, rivals: &mut [(&str, &mut dyn FnMut() -> u64)]) {
    let wanted: Option<String> = std::env::args().nth(1).filter(|text| !text.starts_with('-'));
    let mut samples = vec![Vec::new(); rivals.len()];
    for round in 0..=SAMPLES {
        for (nth, (name, work)) in rivals.iter_mut().enumerate() {
            if wanted.as_ref().is_some_and(|text| !name.contains(text)) {
                continue;
            }
            let started = Instant::now();
            let units: u64 = (0..calls).map(|_| work()).sum();
            let took = started.elapsed().as_nanos() as f64 / units as f64;
            if round > 0 {
                samples[nth].push(took); // the first round warms up
            }
        }
    }
    for ((name, _), mut samples) in rivals.iter().zip(samples) {
        samples.sort_by(f64::total_cmp);
        if samples.is_empty() {
            continue;
        }
        let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize];
        println!("  {name:<44} {:>12.1}  ({:.1} .. {:.1})", at(0.5), at(0.25), at(0.75));
    }
}

/// The same for single events that the caller times itself: `work` returns how long one took.
pub fn compare_times(events: usize, rivals: &mut [(&str, &mut dyn FnMut() -> Duration)]) {
    for (name, work) in rivals {
        let mut times: Vec<_> = (0..events).map(|_| work().as_nanos()).collect();
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!("  {name:<44} {:>12}  ({} .. {})", at(0.5), at(0.25), at(0.75));
    }
}

pub struct Child(libc::pid_t);

impl Child {
    pub fn wait(self) {
        // SAFETY: waits for our own child.
        unsafe { libc::waitpid(self.0, core::ptr::null_mut(), 0) };
    }
}

/// Runs `work` in a forked child.
pub fn in_child(work: impl FnOnce()) -> Child {
    before_fork();
    // SAFETY: a single-threaded program; the child leaves with `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            after_fork_in_child();
            work();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        pid => {
            after_fork_in_parent();
            Child(pid)
        }
    }
}

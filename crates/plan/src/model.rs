//! Predicted times: what a [`Workload`] takes on a machine with given [`MachineCharges`].
//!
//! With `N` items of `c` seconds, of which a share `s` sleeps and a share `g` holds the interpreter's lock, on `k` cores:
//!
//! ```text
//! serial            N c
//!
//! threads(n)        n * thread  +  max( N c / n,             each thread runs one item at a time
//!                                       N c (1 - s) / k,     awake items share the cores
//!                                       N c g )              one at a time holds the lock
//!
//! processes(n, m)   n * start   +  wake  +  tail
//!                   + max( N c / n + overhead / n,
//!                          (N c (1 - s) + overhead) / k,
//!                          overhead / 2 )                    the caller's own half of it is serial
//!
//!   overhead        2 (2 ceil(N / m) message  +  N (bytes_in + bytes_out) byte)
//!                   one task and one result a chunk of m items; each is written by one process and read by another
//!   tail            (1 - 1/n) m c: the others wait while the last chunk runs
//!   n               at most N for threads, at most ceil(N / m) for processes: more would find no work
//! ```
//!
//! The formulas are bounds that are met when one resource is short and the rest is not; where two are nearly as short, the
//! truth is a little longer.

use crate::machine::MachineCharges;
use crate::workload::Workload;

/// A way to run the items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// The plain loop.
    Serial,
    /// So many threads of this process.
    Threads {
        /// How many.
        workers: u32,
    },
    /// So many processes.
    Processes {
        /// How many.
        workers: u32,
        /// Items a message.
        chunk: u64,
        /// Seconds to start each: a [`MachineCharges`] price, or 0 for workers that wait already.
        start: f64,
    },
}

impl Strategy {
    /// Seconds that `workload` takes in this way on a machine with `cores` cores.
    pub fn predict(&self, machine: &MachineCharges, workload: &Workload, cores: u32) -> f64 {
        let items = workload.items as f64;
        let alone = items * workload.seconds;
        let awake = alone * (1.0 - workload.sleep_share);
        let cores = f64::from(cores.max(1));
        if workload.items == 0 {
            return 0.0;
        }
        match *self {
            Self::Serial => alone,
            Self::Threads { workers } => {
                let n = f64::from(workers.max(1)).min(items);
                let gil = alone * workload.gil_share;
                n * machine.thread + (alone / n).max(awake / cores).max(gil)
            }
            Self::Processes { workers, chunk, start } => {
                let chunk = chunk.clamp(1, workload.items);
                let chunks = workload.items.div_ceil(chunk) as f64;
                let n = f64::from(workers.max(1)).min(chunks);
                let bytes = items * (workload.bytes_in + workload.bytes_out);
                let overhead = 2.0 * (2.0 * chunks * machine.message + bytes * machine.byte);
                let tail = (1.0 - 1.0 / n) * chunk as f64 * workload.seconds;
                let busiest = ((alone + overhead) / n).max((awake + overhead) / cores).max(overhead / 2.0);
                n * start + machine.wake + busiest + tail
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: u32 = 2;

    fn predict(strategy: Strategy, workload: &Workload) -> f64 {
        strategy.predict(&MachineCharges::default(), workload, CORES)
    }

    #[test]
    fn a_few_microseconds_of_work_stay_serial() {
        let work = Workload::pure_python(10, 1e-6);
        let serial = predict(Strategy::Serial, &work);
        assert!(serial < predict(Strategy::Threads { workers: 2 }, &work));
        assert!(serial < predict(Strategy::Processes { workers: 2, chunk: 5, start: 0.0 }, &work));
    }

    #[test]
    fn long_pure_python_gains_by_processes_and_not_by_threads() {
        let work = Workload::pure_python(1000, 1e-3);
        let serial = predict(Strategy::Serial, &work);
        let processes = predict(Strategy::Processes { workers: 2, chunk: 10, start: 1e-3 }, &work);
        assert!(processes < 0.55 * serial, "{processes} against {serial}");
        assert!(predict(Strategy::Threads { workers: 2 }, &work) >= serial);
    }

    #[test]
    fn sleeping_items_gain_by_more_threads_than_cores() {
        let work = Workload { gil_share: 0.0, sleep_share: 1.0, ..Workload::pure_python(100, 0.1) };
        let threads = predict(Strategy::Threads { workers: 100 }, &work);
        assert!(threads < 0.02 * predict(Strategy::Serial, &work));
    }

    #[test]
    fn bytes_can_cost_more_than_they_gain() {
        // 80 MB to look at for a millisecond: moving them takes 5 ms at each side.
        let work = Workload { bytes_in: 80e6, ..Workload::pure_python(100, 1e-3) };
        let processes = predict(Strategy::Processes { workers: 2, chunk: 1, start: 0.0 }, &work);
        assert!(processes > predict(Strategy::Serial, &work));
    }

    #[test]
    fn more_processes_than_cores_do_not_help_work_that_is_awake() {
        let work = Workload::pure_python(1000, 1e-3);
        let two = predict(Strategy::Processes { workers: 2, chunk: 1, start: 1e-3 }, &work);
        let eight = predict(Strategy::Processes { workers: 8, chunk: 1, start: 1e-3 }, &work);
        assert!(two < eight);
    }

    #[test]
    fn no_items_take_no_time() {
        let work = Workload::pure_python(0, 1.0);
        assert_eq!(predict(Strategy::Processes { workers: 4, chunk: 1, start: 1.0 }, &work), 0.0);
    }
}

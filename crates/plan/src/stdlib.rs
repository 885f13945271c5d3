//! The time of a program that is parallel on the standard library's pools and queues.
//!
//! Its transport is another than ours: every message is pickled, goes through a pipe and wakes somebody; in the parent,
//! handler threads do that under the same interpreter's lock, one message after the other, and on a core that a worker could
//! have used. So with `n` workers on `k` cores
//!
//! ```text
//! T(n) = outside + n start + max( (work + sleep + worker_side) / m,      each worker runs one task at a time
//!                                 (work + worker_side + parent_side) / k, what is awake shares the cores
//!                                 parent_side,                           the handlers' own work is serial
//!                                 longest )                              a task is not divided
//!        m = n, but no more than there are tasks
//! ```
//!
//! and the plain loop takes `outside + work + sleep`.

/// A parallel program on the standard library, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StdlibRun {
    /// Before, between and after the parallel parts: the parent's own code, imports and all.
    pub outside: f64,
    /// CPU time of all tasks by themselves.
    pub work: f64,
    /// Time that the tasks sleep or wait for input, in all.
    pub sleep: f64,
    /// Tasks that can run at the same time, if there are workers for them.
    pub tasks: u64,
    /// The longest task.
    pub longest: f64,
    /// Until one more worker is there and gone: fork or spawn, imports, initialiser. Wall-clock time of the whole.
    pub start: f64,
    /// CPU time of the transport in the workers, in all: pickling, pipes, waking up.
    pub worker_side: f64,
    /// The same in the parent: handler and feeder threads.
    pub parent_side: f64,
}

impl StdlibRun {
    /// The plain loop.
    pub fn serial(&self) -> f64 {
        self.outside + self.work + self.sleep
    }

    /// With `workers` processes on `cores` cores.
    pub fn processes(&self, workers: u32, cores: u32) -> f64 {
        let (n, k) = (f64::from(workers.max(1)), f64::from(cores.max(1)));
        let at_a_time = n.min((self.tasks as f64).max(1.0));
        let busiest = ((self.work + self.sleep + self.worker_side) / at_a_time)
            .max((self.work + self.worker_side + self.parent_side) / k)
            .max(self.parent_side)
            .max(self.longest);
        self.outside + n * self.start + busiest
    }

    /// With `workers` threads of one process, whose work holds the interpreter's lock for the share `gil` of its CPU time.
    pub fn threads(&self, workers: u32, cores: u32, gil: f64, thread: f64) -> f64 {
        let (n, k) = (f64::from(workers.max(1)).min((self.tasks as f64).max(1.0)), f64::from(cores.max(1)));
        let busiest = ((self.work + self.sleep) / n).max(self.work / k).max(self.work * gil).max(self.longest);
        self.outside + n * thread + busiest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: StdlibRun = StdlibRun {
        outside: 0.5,
        work: 8.0,
        sleep: 0.0,
        tasks: 80,
        longest: 0.1,
        start: 0.01,
        worker_side: 0.0,
        parent_side: 0.0,
    };

    #[test]
    fn free_transport_divides_the_work_by_the_cores() {
        assert_eq!(RUN.serial(), 8.5);
        assert_eq!(RUN.processes(2, 2), 0.5 + 0.02 + 4.0);
        assert_eq!(RUN.processes(4, 2), 0.5 + 0.04 + 4.0);
    }

    #[test]
    fn the_parents_side_is_not_divided() {
        let run = StdlibRun { parent_side: 20.0, ..RUN };
        assert!(run.processes(64, 64) >= 20.0);
        assert!(run.serial() < run.processes(2, 2));
    }

    #[test]
    fn sleep_needs_workers_and_no_cores() {
        let run = StdlibRun { work: 0.0, sleep: 8.0, ..RUN };
        assert_eq!(run.processes(8, 2), 0.5 + 0.08 + 1.0);
        assert!(run.threads(80, 2, 1.0, 1e-4) < 0.7);
    }

    #[test]
    fn a_task_is_not_divided() {
        let run = StdlibRun { longest: 7.0, ..RUN };
        assert_eq!(run.processes(16, 16), 0.5 + 0.16 + 7.0);
    }

    #[test]
    fn threads_of_pure_python_take_the_loops_time() {
        assert!(RUN.threads(2, 2, 1.0, 1e-4) >= RUN.serial());
        assert!(RUN.threads(2, 2, 0.0, 1e-4) < 0.6 * RUN.serial());
    }
}

//! What a machine charges for parallelism.

/// The price of each thing that a parallel run does and a serial loop does not. Seconds throughout, so that prices add up
/// without conversions.
///
/// The defaults are of one 2-core x86-64 machine with CPython 3.11: measured, but for `spawn` and `thread`, which are
/// estimates, and `page_fault`, which follows from the time of a 54 MB copy into fresh pages. They are there to start with
/// and to make tests repeatable; a planner that decides about a user's program measures its own machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineCharges {
    /// Seconds until a forked worker runs its first instruction of ours.
    pub fork: f64,
    /// Seconds until a spawned interpreter has imported the program and can take work.
    pub spawn: f64,
    /// Seconds to start a thread.
    pub thread: f64,
    /// Seconds for the put and the get of one small message between processes that are awake, in the process that does them.
    pub message: f64,
    /// Seconds to copy one byte into memory that both sides have touched before.
    pub byte: f64,
    /// Seconds from waking a sleeping process until it runs.
    pub wake: f64,
    /// Seconds for the first touch of a page that the kernel has to provide and clear.
    pub page_fault: f64,
}

impl Default for MachineCharges {
    fn default() -> Self {
        Self {
            fork: 1e-3,
            spawn: 50e-3,
            thread: 50e-6,
            message: 0.25e-6,
            byte: 1.0 / 15e9,
            wake: 43e-6,
            // A copy of 54 MB into 13,184 fresh pages took 140 ms where 3.5 ms is the copy.
            page_fault: 10e-6,
        }
    }
}

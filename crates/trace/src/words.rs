//! What causes and kinds of change are called where a person reads them: the terminal's words and the page's.

use crate::cause::Cause;
use crate::report::FixKind;

/// What a second of a cause went into.
pub const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Compute => "the program's own work",
        Cause::Startup => "creating processes, imports, initialisers",
        Cause::Serialize => "pickling and unpickling",
        Cause::Transfer => "copying bytes through pipes",
        Cause::QueueContention => "queue locks and feeder threads",
        Cause::Rpc => "round trips to a manager",
        Cause::Granularity => "handing out tasks that are too small",
        Cause::Imbalance => "idle: another worker has the rest",
        Cause::Oversubscription => "more threads than cores",
        Cause::SerialFraction => "idle: the parent is at work",
        Cause::Gil => "waiting for the interpreter's lock",
        Cause::IoWait => "asleep, or in input and output",
        Cause::Memory => "page faults and copies of memory",
        Cause::NotParallel => "idle: one worker runs at a time",
        Cause::None => "nothing is wrong",
    }
}

/// What a kind of change means.
pub const fn fix(kind: FixKind) -> &'static str {
    match kind {
        FixKind::Serial => "the plain loop, in one process",
        FixKind::Threads => "threads instead of processes",
        FixKind::Asyncio => "coroutines instead of processes",
        FixKind::Chunking => "more items in a task",
        FixKind::Initializer => "send once to each worker",
        FixKind::SharedMemory => "arrays in shared memory",
        FixKind::FewerWorkers => "fewer workers",
        FixKind::MoreWorkers => "more workers",
        FixKind::LimitBlasThreads => "one BLAS thread in a worker",
        FixKind::PoolReuse => "one pool for the whole run",
        FixKind::AvoidManager => "results without a manager",
        FixKind::BatchMessages => "more in one message",
        FixKind::Rebalance => "share the work out otherwise",
        FixKind::Vectorise => "NumPy instead of the loop",
        FixKind::Run => "breakeven run, no edit",
        FixKind::Processes => "processes instead of threads",
    }
}

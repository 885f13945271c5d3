//! What a hook notes.

/// One event of one process. Its form in a ring is `crates/wire`'s, to be fixed with the hooks (issue 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds of the machine's monotonic clock, which all processes of a run share.
    pub at: u64,
    /// The process that wrote the record.
    pub process: u32,
    /// The thread that wrote it, as the kernel numbers threads.
    pub thread: u32,
    /// What happened.
    pub kind: RecordKind,
}

/// What can happen. A begin and its end are two records, so that a process that is killed in between leaves the begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// A process is being created: from the parent's call, or (`begin: false`) until the child's first own instruction.
    Start {
        /// Whether this is the beginning.
        begin: bool,
        /// The child.
        child: u32,
    },
    /// A module or an initialiser runs before the first task.
    Prepare {
        /// Whether this is the beginning.
        begin: bool,
    },
    /// An object is turned into bytes, or bytes into an object.
    Pickle {
        /// Whether this is the beginning.
        begin: bool,
        /// Bytes that came out or went in; 0 at the beginning.
        bytes: u64,
    },
    /// Bytes go through a pipe or a socket.
    Transfer {
        /// Whether this is the beginning.
        begin: bool,
        /// How many; 0 at the beginning of a read.
        bytes: u64,
    },
    /// A thread waits.
    Wait {
        /// Whether this is the beginning.
        begin: bool,
        /// For what.
        on: WaitFor,
    },
    /// A worker runs a task.
    Task {
        /// Whether this is the beginning.
        begin: bool,
        /// The task's number within its run.
        task: u64,
    },
    /// The process ends.
    Exit,
}

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// A lock, by a number that is the same in all processes.
    Lock(u64),
    /// Something to get from a queue, or room in it.
    Queue(u64),
    /// A manager's answer.
    Manager,
    /// A process to end.
    Process(u32),
    /// A result of a pool or an executor.
    Result,
}

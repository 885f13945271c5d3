//! What a hook notes: the contract between the hooks, which write records, and the attribution, which reads them.
//!
//! A record is 64 bytes, eight little-endian words, written once and whole when a span has ended:
//!
//! ```text
//!  +0   begin     u64   nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share
//!  +8   end       u64   the same; equal to `begin` for a point
//!  +16  cpu       u64   nanoseconds of CPU time that the thread used in between; u64::MAX: not measured
//!  +24  value     u64   bytes, items or a count, as the kind says
//!  +32  object    u64   which queue, pipe, lock, pool, process ...: the same number in all processes
//!  +40  link      u64   which task, message or call of that object
//!  +48  thread    u32   as the kernel numbers threads
//!  +52  kind      u16   a RecordKind
//!  +54  flags     u16   a set of Flags
//!  +56  site      u32   file and line in the user's code: an index into the process's strings; 0: unknown
//!  +60  name      u32   a type, function or method: an index into the process's strings; 0: none
//! ```
//!
//! Spans of one thread nest: two of them are apart, or one lies in the other (the hooks are functions that call
//! functions); [`RecordKind::LockHold`] is the exception, as a lock can be released by another function. What a thread does is what its innermost span says; outside of all spans it runs the program's own code.
//! A process that is killed inside spans leaves no records of these; what it was in says its table of open spans, which
//! becomes ordinary records, with [`Flags::CUT`], when the recording is collected.
//!
//! Numbers of objects: a pipe, socket or queue is the inode of the file descriptor that its *reader* has (0 bits above
//! 2^48); the two ends of a socket pair are told together by [`RecordKind::Pipe`]. A pool or executor is its task queue's
//! number. A lock is a hash of its semaphore's name, a manager a hash of its address. A process is its pid.

/// One span or point of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Nanoseconds of the monotonic clock.
    pub begin: u64,
    /// Nanoseconds of the monotonic clock, not before `begin`.
    pub end: u64,
    /// Nanoseconds on a CPU within the span, or [`Record::NOT_MEASURED`].
    pub cpu: u64,
    /// Bytes, items or a count, as the kind says.
    pub value: u64,
    /// Which queue, pipe, lock, pool or process; 0: none.
    pub object: u64,
    /// Which task or message.
    pub link: u64,
    /// The thread, as the kernel numbers threads.
    pub thread: u32,
    /// What happened.
    pub kind: RecordKind,
    /// More about it.
    pub flags: Flags,
    /// `file:line` in the user's code, an index into the process's strings; 0: unknown.
    pub site: u32,
    /// A type, function or method, an index into the process's strings; 0: none.
    pub name: u32,
}

impl Record {
    /// Bytes of a record in a ring and in a file.
    pub const SIZE: usize = 64;
    /// The value of `cpu` where nobody looked.
    pub const NOT_MEASURED: u64 = u64::MAX;

    /// As it lies in a ring.
    pub fn to_words(&self) -> [u64; 8] {
        [
            self.begin,
            self.end,
            self.cpu,
            self.value,
            self.object,
            self.link,
            u64::from(self.thread) | u64::from(self.kind.code()) << 32 | u64::from(self.flags.0) << 48,
            u64::from(self.site) | u64::from(self.name) << 32,
        ]
    }

    /// Reads it back. `None`: no record (an unknown kind, an end before its begin); another process wrote the words, so
    /// anything can stand there.
    pub fn from_words(words: [u64; 8]) -> Option<Self> {
        let [begin, end, cpu, value, object, link, what, text] = words;
        let kind = RecordKind::from_code((what >> 32) as u16)?;
        (begin <= end).then_some(Self {
            begin,
            end,
            cpu,
            value,
            object,
            link,
            thread: what as u32,
            kind,
            flags: Flags((what >> 48) as u16),
            site: text as u32,
            name: (text >> 32) as u32,
        })
    }

    /// Nanoseconds from begin to end.
    pub fn duration(&self) -> u64 {
        self.end - self.begin
    }
}

/// More about a record; a set of bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// The process ended (or the recording did) inside the span; its `end` is that moment.
    pub const CUT: Flags = Flags(1);
    /// The call raised an exception.
    pub const FAILED: Flags = Flags(1 << 1);
    /// A wait that had a time limit, and met it.
    pub const TIMED_OUT: Flags = Flags(1 << 2);
    /// A put or get that was told not to block.
    pub const NO_WAIT: Flags = Flags(1 << 3);
    /// Done by a thread that the standard library keeps (feeder, handler), not by the program's own.
    pub const HELPER: Flags = Flags(1 << 4);

    /// Whether all bits of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the link of a [`RecordKind::Argument`] says: `position | captured << 8 | of_map << 9 | identity << 16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Which of the call's, from 0.
    pub position: u64,
    /// The function brings it along: a method's object, a partial's argument, a closure's variable.
    pub captured: bool,
    /// The iterable of a map, or its first item: each task gets another.
    pub of_map: bool,
    /// Equal for one and the same object, 48 bits of its address; 0: not known.
    pub identity: u64,
}

impl Argument {
    /// From the record's link.
    pub const fn from_link(link: u64) -> Self {
        Self { position: link & 0xff, captured: link & 0x100 != 0, of_map: link & 0x200 != 0, identity: link >> 16 }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident = $code:literal, $name:literal;)+) => {
        /// What happened. Codes stand in saved recordings and do not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum RecordKind {
            $($(#[$doc])+ $variant = $code,)+
        }

        impl RecordKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The kind's number.
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The kind with a number.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The kind's name, as the hooks and exports write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

kinds! {
    // --- processes and threads
    /// In the parent: the call that creates a process (`Process.start`, and what a pool does for each worker), until it
    /// returns. object: the child's pid; name: start method; value: 1 if a pool or an executor did it.
    Start = 1, "start";
    /// A point, the child's first record. object: the parent's pid; name: the process's name; value: the nanosecond at
    /// which the kernel says that the process began (clock ticks are coarse: use the parent's `Start` where there is one).
    Born = 2, "born";
    /// In the child: from its first record until the target (or the worker's loop) is called; includes `Import`s.
    Boot = 3, "boot";
    /// The outermost import of a module, if it took longer than 200 us. name: the module.
    Import = 4, "import";
    /// A pool's or executor's initializer. name: the function; object: the pool.
    Initializer = 5, "initializer";
    /// `Process.run` in a child that is no pool's worker. name: the target; site: where it was started, if known.
    Run = 6, "run";
    /// A point: a thread has begun. name: its role, one of [`crate::recording::Role`]'s names, or the user's target; value:
    /// 1 if the program itself started it.
    Thread = 7, "thread";
    /// A point, the last record of a process that ends the ordinary way. value: exit code.
    Exit = 8, "exit";
    /// `Process.join`, `Thread.join`, or (a point) when a child's end was found out. object: the child's pid, or the
    /// thread; value: the exit code as an i64, 2^62 if there is none (yet).
    Join = 9, "join";
    /// In the parent: waiting for the ends of pools and executors (`Pool.join`, `Pool.__exit__`, `Executor.shutdown`).
    /// object: the pool.
    Close = 10, "close";

    // --- pools and executors
    /// The making of a pool or executor, including the start of its workers. object: the pool; value: workers; name: class.
    Pool = 20, "pool";
    /// A task is handed over (`apply_async`, `map`, `submit` ...), until the call returns; for calls that also wait, until
    /// they begin to. object: pool; link: first task's number, those of its chunks follow; value: tasks, or chunks of tasks
    /// (0: an iterator that does not say how many there will be); name: the function.
    Submit = 21, "submit";
    /// A task (or chunk of tasks) runs in a worker, process or thread. object: pool; link: the number that its `Submit`
    /// gave; value: items in it; name: the function. cpu is always measured.
    Task = 22, "task";
    /// The parent waits for results (`get`, `result`, `wait`, `next` of an `imap`). object: pool; link: task.
    Result = 23, "result";
    /// A point, for the first few submissions of a place: an argument or captured value. name: `variable: type`; value:
    /// its bytes, without what it refers to, but for arrays with their data; link: an [`Argument`](struct@Argument).
    Argument = 24, "argument";
    /// The program's own iterable makes the next item, within a `Submit` or in a pool's handler thread: the program's own
    /// code, if it takes longer than 20 us. object: pool; name: the iterable's type.
    Produce = 25, "produce";

    // --- bytes
    /// An object becomes bytes. value: bytes; name: the object's type; object, link: queue or pool and message, if known.
    Dump = 30, "dump";
    /// Bytes become an object. As `Dump`.
    Load = 31, "load";
    /// Bytes are written to a pipe or socket. value: bytes; object: the pipe. Longer than cpu where the reader was late.
    Send = 32, "send";
    /// Bytes are read; the span begins when the reader begins to wait. As `Send`.
    Recv = 33, "recv";
    /// A thread waits for a pipe without reading (`poll`, `connection.wait`), if longer than 20 us. object: the pipe, if it
    /// is one.
    Poll = 34, "poll";
    /// A point: a pipe was made. object, link: the numbers of its ends (equal for a one-way pipe). Records carry the number
    /// of the end that the process has: what is sent by one end of a socket pair is received by the other.
    Pipe = 35, "pipe";

    // --- queues
    /// A point: a queue was made. object: its number; name: class; value: maxsize (0: unbounded).
    Queue = 40, "queue";
    /// `put`. object: queue; link: this process's n-th put on it; name: the object's type.
    Put = 41, "put";
    /// `get`, from the call to the return: waiting for the lock, for a message, reading and unpickling. object: queue.
    Get = 42, "get";

    // --- locks
    /// A thread waits for a lock (or semaphore, condition, event, barrier) that was not free. object: lock; name: class.
    LockWait = 50, "lock_wait";
    /// A lock is held, if for longer than 20 us or waited for. object: lock.
    LockHold = 51, "lock_hold";
    /// A point at the process's end: how often its locks were taken without waiting. value: count.
    LockFree = 52, "lock_free";

    // --- managers
    /// A proxy's call and its answer. object: manager; name: method.
    Call = 60, "call";
    /// In the server: a request is carried out. object: manager; name: method.
    Serve = 61, "serve";

    // --- the recorder itself
    /// A point: BLAS and OpenMP libraries of this process. name: library; value: threads.
    Blas = 70, "blas";
    /// Points at the process's end: what the hooks have cost it, as they measured it. One for each kind of records, name: the
    /// kind's name; value: nanoseconds that its hooks took outside of the spans; link: calls. The last one, without a name, is
    /// the sum; link: records written.
    Cost = 71, "cost";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: RecordKind) -> Record {
        Record {
            begin: 5,
            end: 9,
            cpu: Record::NOT_MEASURED,
            value: 1 << 40,
            object: 3,
            link: 4,
            thread: 77,
            kind,
            flags: Flags(Flags::CUT.0 | Flags::HELPER.0),
            site: 1,
            name: u32::MAX,
        }
    }

    #[test]
    fn records_read_back() {
        for &kind in RecordKind::ALL {
            assert_eq!(Record::from_words(record(kind).to_words()), Some(record(kind)));
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut words = record(RecordKind::Task).to_words();
        words[6] |= 0xffff << 32;
        assert_eq!(Record::from_words(words), None, "an unknown kind");
        let mut words = record(RecordKind::Task).to_words();
        words[1] = 4;
        assert_eq!(Record::from_words(words), None, "an end before its begin");
    }

    #[test]
    fn flags_are_a_set() {
        let both = record(RecordKind::Task).flags;
        assert!(both.has(Flags::CUT) && both.has(Flags::HELPER) && !both.has(Flags::FAILED));
    }
}

//! One error per operation; the text says what was wrong, where, and what to do.

use std::fmt;

/// Why an arena could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateError {
    /// The kernel refused memory or a mapping.
    System(i32),
    /// This process uses too many arenas already.
    TooManyArenas,
    /// Too many processes use the arena.
    TooManyProcesses,
}

/// Why another process's arena could not be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachError {
    /// The descriptor is not an arena of ours, or of another version of breakeven.
    NotAnArena,
    /// As for creation.
    Create(CreateError),
}

/// Why a block could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllocError {
    /// The arena's limit would be exceeded.
    Limit {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes in blocks now.
        committed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The kernel has no pages left.
    System(i32),
    /// The reserved address range or the table of blocks is used up, or `wanted` is absurd.
    Exhausted {
        /// Bytes asked for.
        wanted: u64,
    },
    /// This process could not be registered.
    Register(CreateError),
}

/// Why a message was not sent. What was to be sent stays with the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrySendError {
    /// The channel holds as many messages as it may.
    Full,
    /// There is no memory for the message.
    Memory(AllocError),
    /// The channel does not exist any more.
    Closed,
    /// The message is longer than a record can be.
    TooLong,
}

/// Why no message was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none.
    Empty,
    /// The channel does not exist any more.
    Closed,
    /// The ring holds something that no sender writes: some process wrote where it must not.
    Corrupt,
    /// This process could not be registered.
    Register(CreateError),
}

/// Why a channel or blob could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// It was closed by its last user, or never existed.
    Gone,
    /// This process could not be registered, or the kernel refused.
    Create(CreateError),
}

fn os(code: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(code)
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::System(code) => write!(f, "cannot set up shared memory: {}", os(*code)),
            CreateError::TooManyArenas => f.write_str(
                "this process already uses 64 shared-memory arenas; queues that come from that \
                 many unrelated parents cannot be used in one process",
            ),
            CreateError::TooManyProcesses => write!(
                f,
                "{} processes already use this shared memory; end some of them or use a pool",
                crate::layout::MAX_PARTICIPANTS
            ),
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::NotAnArena => f.write_str(
                "the file descriptor is no shared-memory arena of this version of breakeven \
                 (parent and child must run the same version)",
            ),
            AttachError::Create(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocError::Limit { wanted, committed, limit } => write!(
                f,
                "no room for {wanted} bytes in shared memory: {committed} of {limit} bytes are in \
                 use; receive messages faster, bound the queue (maxsize), or raise the limit \
                 (breakeven.configure(memory_limit=...) or BREAKEVEN_MEMORY_LIMIT)"
            ),
            AllocError::System(code) => {
                write!(f, "the system has no memory for the message: {}", os(*code))
            }
            AllocError::Exhausted { wanted } => {
                write!(f, "no room for {wanted} bytes: the address range reserved for shared memory is used up")
            }
            AllocError::Register(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full => f.write_str("the channel is full"),
            TrySendError::Memory(error) => error.fmt(f),
            TrySendError::Closed => f.write_str("the channel was closed by its last user"),
            TrySendError::TooLong => f.write_str("the message is longer than a record; send it in a block"),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("the channel is empty"),
            TryRecvError::Closed => f.write_str("the channel was closed by its last user"),
            TryRecvError::Corrupt => f.write_str(
                "the channel's shared memory was overwritten by something else; it cannot be used \
                 any more",
            ),
            TryRecvError::Register(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Gone => f.write_str("it was closed by its last user"),
            OpenError::Create(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CreateError {}
impl std::error::Error for AttachError {}
impl std::error::Error for AllocError {}
impl std::error::Error for TrySendError {}
impl std::error::Error for TryRecvError {}
impl std::error::Error for OpenError {}

impl From<rustix::io::Errno> for CreateError {
    fn from(errno: rustix::io::Errno) -> CreateError {
        CreateError::System(errno.raw_os_error())
    }
}

impl From<OpenError> for TrySendError {
    fn from(error: OpenError) -> TrySendError {
        match error {
            OpenError::Gone => TrySendError::Closed,
            OpenError::Create(error) => TrySendError::Memory(AllocError::Register(error)),
        }
    }
}

impl From<OpenError> for TryRecvError {
    fn from(error: OpenError) -> TryRecvError {
        match error {
            OpenError::Gone => TryRecvError::Closed,
            OpenError::Create(error) => TryRecvError::Register(error),
        }
    }
}

impl From<CreateError> for AttachError {
    fn from(error: CreateError) -> AttachError {
        AttachError::Create(error)
    }
}

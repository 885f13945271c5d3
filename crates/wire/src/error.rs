use core::fmt;

/// Why bytes are not a message. Each variant names what was found, so that a report of a corrupt message is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// More bytes were announced than there are.
    Truncated {
        /// How many were needed.
        needed: u64,
        /// How many were left.
        left: u64,
    },
    /// The tag names no kind of message that this version knows.
    UnknownKind(u16),
    /// A value starts with a code that this version does not know.
    UnknownCode(u8),
    /// Bytes remain behind the end of the message.
    TrailingBytes(u64),
    /// Containers are nested more deeply than [`crate::MAX_DEPTH`].
    TooDeep,
    /// Text is not UTF-8.
    NotUtf8,
    /// A packed sequence announces an element kind, width or container that does not exist.
    BadPacked,
    /// A range points outside of the message's blocks.
    OutsideBlocks {
        /// Number of the block.
        block: u32,
        /// Where the range would end.
        end: u64,
    },
    /// The writer's output did not fit into the space that it was given.
    DoesNotFit,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => {
                write!(f, "message is cut short: {needed} more bytes announced, {left} left")
            }
            Self::UnknownKind(tag) => write!(f, "message of unknown kind (tag {tag:#06x})"),
            Self::UnknownCode(code) => write!(f, "value of unknown code {code:#04x}"),
            Self::TrailingBytes(n) => write!(f, "{n} bytes behind the end of the message"),
            Self::TooDeep => write!(f, "containers nested more than {} deep", crate::MAX_DEPTH),
            Self::NotUtf8 => write!(f, "text that is not UTF-8"),
            Self::BadPacked => write!(f, "packed sequence of unknown form"),
            Self::OutsideBlocks { block, end } => {
                write!(f, "range up to byte {end} of block {block} lies outside of the message's blocks")
            }
            Self::DoesNotFit => write!(f, "message does not fit into the space given"),
        }
    }
}

impl core::error::Error for WireError {}

use crate::cursor::Cursor;
use crate::{Blocks, WireError};

/// Some bytes of one of the message's blocks: `u32 block, u32 zero, u64 offset, u64 length` on the wire.
///
/// What is behind a range is not copied by the reader; the message's owner makes a view of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferRange {
    /// Which of the message's blocks, from 0.
    pub block: u32,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl BufferRange {
    /// Bytes that a range takes on the wire.
    pub const SIZE: usize = 24;

    /// The form on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..4].copy_from_slice(&self.block.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..].copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads one range and checks that it lies inside the blocks.
    pub(crate) fn read<B: Blocks + ?Sized>(cursor: &mut Cursor<'_>, blocks: &B) -> Result<Self, WireError> {
        let block = cursor.u32()?;
        let _reserved = cursor.u32()?;
        let range = Self { block, offset: cursor.u64()?, len: cursor.u64()? };
        range.check(blocks)?;
        Ok(range)
    }

    fn check<B: Blocks + ?Sized>(&self, blocks: &B) -> Result<(), WireError> {
        let outside = |end| WireError::OutsideBlocks { block: self.block, end };
        let end = self.offset.checked_add(self.len).ok_or(outside(u64::MAX))?;
        match blocks.bytes(self.block) {
            Some(bytes) if end <= bytes.len() as u64 => Ok(()),
            _ => Err(outside(end)),
        }
    }

    /// The bytes of a range; an error if it lies outside of `blocks`.
    pub fn resolve<'b, B: Blocks + ?Sized>(&self, blocks: &'b B) -> Result<&'b [u8], WireError> {
        self.check(blocks)?;
        let outside = WireError::OutsideBlocks { block: self.block, end: self.offset.saturating_add(self.len) };
        let bytes = blocks.bytes(self.block).ok_or(outside)?;
        // `check` has shown both to be at most a slice's length, so they fit into usize.
        bytes.get(self.offset as usize..(self.offset + self.len) as usize).ok_or(outside)
    }
}

use crate::cursor::Cursor;
use crate::{BufferRange, Reader, WireError};

/// Tag bit: the body lies at the start of block 0, and the payload is its length (u64).
pub const SPILLED: u16 = 1 << 15;

/// The blocks that came with a message, as bytes.
pub trait Blocks {
    /// The bytes of block `index`, or `None` if there is no such block.
    fn bytes(&self, index: u32) -> Option<&[u8]>;
}

impl<T: AsRef<[u8]>> Blocks for [T] {
    #[inline]
    fn bytes(&self, index: u32) -> Option<&[u8]> {
        self.get(index as usize).map(AsRef::as_ref)
    }
}

impl<T: AsRef<[u8]>, const N: usize> Blocks for [T; N] {
    #[inline]
    fn bytes(&self, index: u32) -> Option<&[u8]> {
        self.as_slice().bytes(index)
    }
}

/// What a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes without meaning to us.
    Raw = 0,
    /// One value ([`crate::Writer`], [`Reader`]).
    Value = 1,
    /// A pickle stream with its buffers.
    Pickle = 2,
}

impl Kind {
    /// The tag of a message of this kind whose body is in the ring.
    #[inline]
    #[must_use]
    pub const fn tag(self) -> u16 {
        self as u16
    }
}

/// A message whose tag has been understood and whose body has been found.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// What the bytes are.
    pub kind: Kind,
    /// The body.
    pub bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Finds the body of a message.
    #[inline]
    pub fn find<B: Blocks + ?Sized>(tag: u16, payload: &'a [u8], blocks: &'a B) -> Result<Self, WireError> {
        let kind = match tag & !SPILLED {
            0 => Kind::Raw,
            1 => Kind::Value,
            2 => Kind::Pickle,
            _ => return Err(WireError::UnknownKind(tag)),
        };
        if tag & SPILLED == 0 {
            return Ok(Self { kind, bytes: payload });
        }
        let mut cursor = Cursor::new(payload);
        let len = cursor.u64()?;
        if cursor.left() != 0 {
            return Err(WireError::TrailingBytes(cursor.left() as u64));
        }
        let bytes = BufferRange { block: 0, offset: 0, len }.resolve(blocks)?;
        Ok(Self { kind, bytes })
    }
}

/// The payload of a spilled message whose body has `len` bytes.
#[must_use]
pub fn spilled_payload(len: u64) -> [u8; 8] {
    len.to_le_bytes()
}

/// A message, ready to be read.
#[derive(Debug)]
pub enum Message<'a, B: Blocks + ?Sized> {
    /// Bytes without meaning to us.
    Raw(&'a [u8]),
    /// One value.
    Value(Reader<'a, B>),
    /// A pickle stream with its buffers.
    Pickle(PickleMessage<'a>),
}

impl<'a, B: Blocks + ?Sized> Message<'a, B> {
    /// Reads the tag and the fixed part of a message.
    #[inline]
    pub fn read(tag: u16, payload: &'a [u8], blocks: &'a B) -> Result<Self, WireError> {
        let body = Body::find(tag, payload, blocks)?;
        Ok(match body.kind {
            Kind::Raw => Self::Raw(body.bytes),
            Kind::Value => Self::Value(Reader::new(body.bytes, blocks)),
            Kind::Pickle => Self::Pickle(PickleMessage::read(body.bytes, blocks)?),
        })
    }
}

/// Bytes that stand before a pickle stream with `buffers` buffers.
#[must_use]
pub const fn pickle_header_len(buffers: usize) -> usize {
    4 + buffers * BufferRange::SIZE
}

/// What stands before a pickle stream, written to the start of `space`.
pub fn pickle_header(space: &mut [u8], ranges: &[BufferRange]) -> Result<(), WireError> {
    let count = u32::try_from(ranges.len()).map_err(|_| WireError::DoesNotFit)?;
    let space = space.get_mut(..pickle_header_len(ranges.len())).ok_or(WireError::DoesNotFit)?;
    let (head, table) = space.split_at_mut(4);
    head.copy_from_slice(&count.to_le_bytes());
    for (entry, range) in table.chunks_exact_mut(BufferRange::SIZE).zip(ranges) {
        entry.copy_from_slice(&range.to_bytes());
    }
    Ok(())
}

/// A pickle stream and the ranges of its out-of-band buffers, all of which lie inside the message's blocks.
#[derive(Debug, Clone, Copy)]
pub struct PickleMessage<'a> {
    table: &'a [u8],
    /// The pickle stream.
    pub stream: &'a [u8],
}

impl<'a> PickleMessage<'a> {
    fn read<B: Blocks + ?Sized>(body: &'a [u8], blocks: &B) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(body);
        let count = u64::from(cursor.u32()?);
        let needed = count * BufferRange::SIZE as u64;
        if needed > cursor.left() as u64 {
            return Err(WireError::Truncated { needed, left: cursor.left() as u64 });
        }
        let table = cursor.take(needed as usize)?;
        let mut check = Cursor::new(table);
        for _ in 0..count {
            BufferRange::read(&mut check, blocks)?;
        }
        Ok(Self { table, stream: cursor.rest() })
    }

    /// How many buffers there are.
    #[must_use]
    pub fn buffer_count(&self) -> usize {
        self.table.len() / BufferRange::SIZE
    }

    /// The buffers' ranges, in the order in which the stream asks for them.
    pub fn buffers(&self) -> impl ExactSizeIterator<Item = BufferRange> + 'a {
        self.table.as_chunks::<{ BufferRange::SIZE }>().0.iter().map(|entry| {
            // 24 bytes hold all three; they were checked when the message was read.
            let mut cursor = Cursor::new(entry);
            let block = cursor.u32().unwrap_or_default();
            let _reserved = cursor.u32();
            let mut next = || cursor.u64().unwrap_or_default();
            BufferRange { block, offset: next(), len: next() }
        })
    }
}

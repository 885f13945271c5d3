//! One value: a code byte, then what the code says. Containers are followed by their items.
//!
//! ```text
//! 00 None   01 False   02 True        nothing
//! 03 int    i32                       04 int  i64            05 int  i128
//! 06 float  f64
//! 07 str    u16 length, UTF-8         08 bytes  u16 length, bytes
//! 09 tuple  u16 count, items          0a list   u16 count, items      0b dict  u16 count, key and value each
//! 0c range  i64 start, stop, step
//! 0d packed header, elements          0e packed  header, range in a block
//! 0f str    range in a block          10 bytes  range in a block
//! 11 rows header, columns             12 rows  header, range in a block
//! ```

use crate::cursor::Cursor;
use crate::{Blocks, BufferRange, Packed, PackedItems, RowLengths, Rows, WireError};

/// How deeply containers may be nested in a value. What is deeper travels as a pickle.
pub const MAX_DEPTH: u32 = 16;

mod code {
    pub(super) const NONE: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    pub(super) const I32: u8 = 0x03;
    pub(super) const I64: u8 = 0x04;
    pub(super) const I128: u8 = 0x05;
    pub(super) const F64: u8 = 0x06;
    pub(super) const STR: u8 = 0x07;
    pub(super) const BYTES: u8 = 0x08;
    pub(super) const TUPLE: u8 = 0x09;
    pub(super) const LIST: u8 = 0x0a;
    pub(super) const DICT: u8 = 0x0b;
    pub(super) const RANGE: u8 = 0x0c;
    pub(super) const PACKED: u8 = 0x0d;
    pub(super) const PACKED_FAR: u8 = 0x0e;
    pub(super) const STR_FAR: u8 = 0x0f;
    pub(super) const BYTES_FAR: u8 = 0x10;
    pub(super) const ROWS: u8 = 0x11;
    pub(super) const ROWS_FAR: u8 = 0x12;
}

/// Writes a value into space of fixed size. Each method fails with [`WireError::DoesNotFit`] if the space is used up;
/// what was written before then is of no use (the caller falls back to another format).
#[derive(Debug)]
pub struct Writer<'a> {
    space: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `space`.
    #[inline]
    pub fn new(space: &'a mut [u8]) -> Self {
        Self { space, at: 0 }
    }

    /// Bytes written.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing has been written.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Bytes that can still be written.
    #[inline]
    #[must_use]
    pub fn left(&self) -> usize {
        self.space.len() - self.at
    }

    #[inline]
    fn claim(&mut self, n: usize) -> Result<&mut [u8], WireError> {
        let end = self.at.checked_add(n).ok_or(WireError::DoesNotFit)?;
        let space = self.space.get_mut(self.at..end).ok_or(WireError::DoesNotFit)?;
        self.at = end;
        Ok(space)
    }

    #[inline]
    fn coded<const N: usize>(&mut self, code: u8, content: [u8; N]) -> Result<(), WireError> {
        let space = self.claim(1 + N)?;
        space[0] = code;
        space[1..].copy_from_slice(&content);
        Ok(())
    }

    #[inline]
    fn counted(&mut self, code: u8, count: usize) -> Result<(), WireError> {
        let count = u16::try_from(count).map_err(|_| WireError::DoesNotFit)?;
        self.coded(code, count.to_le_bytes())
    }

    #[inline]
    fn sized(&mut self, code: u8, content: &[u8]) -> Result<(), WireError> {
        self.counted(code, content.len())?;
        self.claim(content.len())?.copy_from_slice(content);
        Ok(())
    }

    /// `None`.
    #[inline]
    pub fn none(&mut self) -> Result<(), WireError> {
        self.coded(code::NONE, [])
    }

    /// A truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) -> Result<(), WireError> {
        self.coded(if value { code::TRUE } else { code::FALSE }, [])
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) -> Result<(), WireError> {
        match i32::try_from(value) {
            Ok(value) => self.coded(code::I32, value.to_le_bytes()),
            Err(_) => self.coded(code::I64, value.to_le_bytes()),
        }
    }

    /// An integer that needs more than 64 bits.
    pub fn wide_int(&mut self, value: i128) -> Result<(), WireError> {
        self.coded(code::I128, value.to_le_bytes())
    }

    /// A double; every bit pattern is kept.
    #[inline]
    pub fn float(&mut self, value: f64) -> Result<(), WireError> {
        self.coded(code::F64, value.to_le_bytes())
    }

    /// Text.
    #[inline]
    pub fn str(&mut self, value: &str) -> Result<(), WireError> {
        self.sized(code::STR, value.as_bytes())
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), WireError> {
        self.sized(code::BYTES, value)
    }

    /// Opens a tuple; its items follow.
    #[inline]
    pub fn tuple(&mut self, count: usize) -> Result<(), WireError> {
        self.counted(code::TUPLE, count)
    }

    /// Opens a list; its items follow.
    #[inline]
    pub fn list(&mut self, count: usize) -> Result<(), WireError> {
        self.counted(code::LIST, count)
    }

    /// Opens a dict; `count` times a key and its value follow.
    #[inline]
    pub fn dict(&mut self, count: usize) -> Result<(), WireError> {
        self.counted(code::DICT, count)
    }

    /// A range.
    pub fn range(&mut self, start: i64, stop: i64, step: i64) -> Result<(), WireError> {
        let space = self.claim(25)?;
        space[0] = code::RANGE;
        space[1..9].copy_from_slice(&start.to_le_bytes());
        space[9..17].copy_from_slice(&stop.to_le_bytes());
        space[17..].copy_from_slice(&step.to_le_bytes());
        Ok(())
    }

    /// A packed sequence whose elements are written by the caller into the space that comes back.
    pub fn packed(&mut self, packed: Packed) -> Result<&mut [u8], WireError> {
        let data = packed.data_len().and_then(|n| usize::try_from(n).ok()).ok_or(WireError::DoesNotFit)?;
        // Checked before the header is written, since it is the usual reason to place the elements in a block instead.
        if self.left() < (1 + Packed::SIZE).saturating_add(data) {
            return Err(WireError::DoesNotFit);
        }
        self.coded(code::PACKED, packed.to_bytes())?;
        self.claim(data)
    }

    /// A packed sequence whose elements are in a block.
    pub fn packed_far(&mut self, packed: Packed, range: BufferRange) -> Result<(), WireError> {
        self.coded(code::PACKED_FAR, packed.to_bytes())?;
        self.claim(BufferRange::SIZE)?.copy_from_slice(&range.to_bytes());
        Ok(())
    }

    /// Rows whose columns are written by the caller into the space that comes back.
    pub fn rows(&mut self, rows: Rows) -> Result<&mut [u8], WireError> {
        let data = rows.data_len().and_then(|n| usize::try_from(n).ok()).ok_or(WireError::DoesNotFit)?;
        if self.left() < (1 + Rows::SIZE).saturating_add(data) {
            return Err(WireError::DoesNotFit);
        }
        self.coded(code::ROWS, rows.to_bytes())?;
        self.claim(data)
    }

    /// Rows whose columns are in a block.
    pub fn rows_far(&mut self, rows: Rows, range: BufferRange) -> Result<(), WireError> {
        self.coded(code::ROWS_FAR, rows.to_bytes())?;
        self.claim(BufferRange::SIZE)?.copy_from_slice(&range.to_bytes());
        Ok(())
    }

    /// Text that is in a block.
    pub fn str_far(&mut self, range: BufferRange) -> Result<(), WireError> {
        self.coded(code::STR_FAR, range.to_bytes())
    }

    /// Bytes that are in a block.
    pub fn bytes_far(&mut self, range: BufferRange) -> Result<(), WireError> {
        self.coded(code::BYTES_FAR, range.to_bytes())
    }
}

/// One step of reading a value. A container is followed by the tokens of its items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that needs more than 64 bits.
    WideInt(i128),
    /// A double.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A tuple of so many items.
    Tuple(usize),
    /// A list of so many items.
    List(usize),
    /// A dict of so many keys and values.
    Dict(usize),
    /// start, stop, step; step is not zero.
    Range(i64, i64, i64),
    /// Numbers that become a list or a tuple.
    Packed(Packed, PackedItems<'a>),
    /// Short sequences or texts that become a list or a tuple.
    Rows(Rows, RowLengths<'a>, PackedItems<'a>),
}

/// Reads a value token by token.
#[derive(Debug)]
pub struct Reader<'a, B: Blocks + ?Sized> {
    cursor: Cursor<'a>,
    blocks: &'a B,
    depth: u32,
}

impl<'a, B: Blocks + ?Sized> Reader<'a, B> {
    /// Reads from `body`; far pieces are found in `blocks`.
    #[inline]
    pub fn new(body: &'a [u8], blocks: &'a B) -> Self {
        Self { cursor: Cursor::new(body), blocks, depth: 0 }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.cursor.left()
    }

    /// Call before reading a container's items, and [`leave`](Self::leave) after: bounds the reader's recursion.
    #[inline]
    pub fn enter(&mut self) -> Result<(), WireError> {
        if self.depth == MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// The other half of [`enter`](Self::enter).
    #[inline]
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Call at the end: an error if anything is left over.
    #[inline]
    pub fn finish(&self) -> Result<(), WireError> {
        match self.cursor.left() {
            0 => Ok(()),
            n => Err(WireError::TrailingBytes(n as u64)),
        }
    }

    #[inline]
    fn sized(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.cursor.u16()?;
        self.cursor.take(len.into())
    }

    /// A container's count. Every item takes at least `item` bytes, so a count that the rest cannot hold is a lie, and
    /// is refused before anybody allocates for it.
    #[inline]
    fn count(&mut self, item: usize) -> Result<usize, WireError> {
        let count = usize::from(self.cursor.u16()?);
        let (needed, left) = (count * item, self.cursor.left());
        if needed > left {
            return Err(WireError::Truncated { needed: needed as u64, left: left as u64 });
        }
        Ok(count)
    }

    fn far(&mut self) -> Result<&'a [u8], WireError> {
        BufferRange::read(&mut self.cursor, self.blocks)?.resolve(self.blocks)
    }

    /// The next token.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, WireError> {
        Ok(match self.cursor.u8()? {
            code::NONE => Token::None,
            code::FALSE => Token::Bool(false),
            code::TRUE => Token::Bool(true),
            code::I32 => Token::Int(self.cursor.i32()?.into()),
            code::I64 => Token::Int(self.cursor.i64()?),
            code::I128 => Token::WideInt(self.cursor.i128()?),
            code::F64 => Token::Float(self.cursor.f64()?),
            code::STR => Token::Str(core::str::from_utf8(self.sized()?).map_err(|_| WireError::NotUtf8)?),
            code::BYTES => Token::Bytes(self.sized()?),
            code::TUPLE => Token::Tuple(self.count(1)?),
            code::LIST => Token::List(self.count(1)?),
            code::DICT => Token::Dict(self.count(2)?),
            code => return self.rare(code),
        })
    }

    fn rare(&mut self, code: u8) -> Result<Token<'a>, WireError> {
        Ok(match code {
            code::RANGE => {
                let (start, stop, step) = (self.cursor.i64()?, self.cursor.i64()?, self.cursor.i64()?);
                if step == 0 {
                    return Err(WireError::BadPacked);
                }
                Token::Range(start, stop, step)
            }
            code::PACKED => {
                let packed = Packed::read(&mut self.cursor)?;
                let len = packed.data_len().ok_or(WireError::BadPacked)?;
                let left = self.cursor.left();
                let len = usize::try_from(len).map_err(|_| WireError::Truncated { needed: len, left: left as u64 })?;
                Token::Packed(packed, packed.items(self.cursor.take(len)?)?)
            }
            code::PACKED_FAR => {
                let packed = Packed::read(&mut self.cursor)?;
                Token::Packed(packed, packed.items(self.far()?)?)
            }
            code::ROWS => {
                let rows = Rows::read(&mut self.cursor)?;
                let len = rows.data_len().ok_or(WireError::BadPacked)?;
                let left = self.cursor.left();
                let len = usize::try_from(len).map_err(|_| WireError::Truncated { needed: len, left: left as u64 })?;
                let (lengths, elements) = rows.columns(self.cursor.take(len)?)?;
                Token::Rows(rows, lengths, elements)
            }
            code::ROWS_FAR => {
                let rows = Rows::read(&mut self.cursor)?;
                let (lengths, elements) = rows.columns(self.far()?)?;
                Token::Rows(rows, lengths, elements)
            }
            code::STR_FAR => Token::Str(core::str::from_utf8(self.far()?).map_err(|_| WireError::NotUtf8)?),
            code::BYTES_FAR => Token::Bytes(self.far()?),
            unknown => return Err(WireError::UnknownCode(unknown)),
        })
    }
}

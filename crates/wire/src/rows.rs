//! Rows: a sequence of short sequences of one kind, as two columns: how long each row is, and all their elements.
//!
//! ```text
//! u8 element · u8 width in bytes · u8 row (0 list, 1 tuple, 2 str, 3 bytes) · u8 container (0 list, 1 tuple)
//! u8 width of a length in bytes (0: all rows are equally long) · u8 lazy · u16 zero · u64 rows · u64 elements
//! ```
//!
//! These 24 bytes stand in the value. The columns stand in a block, or directly behind the header: first the lengths
//! (unsigned; none if all rows are equally long), then the elements, as in `packed.rs`. The elements of text are its
//! bytes in UTF-8 (element 0, width 1).
//!
//! Rows that are all equally long have at least one element each, so there is no header that announces more rows than
//! there are bytes.

use crate::cursor::Cursor;
use crate::packed::read_flag;
use crate::{ElementKind, Packed, PackedItems, Sequence, WireError};

/// What each row was and becomes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A list or a tuple.
    Items(Sequence),
    /// Text.
    Str,
    /// Bytes.
    Bytes,
}

/// How long a length is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthWidth {
    /// There is no column of lengths: all rows are equally long.
    Uniform,
    /// 8 bits.
    W1,
    /// 16 bits.
    W2,
    /// 32 bits.
    W4,
}

impl LengthWidth {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Uniform => 0,
            Self::W1 => 1,
            Self::W2 => 2,
            Self::W4 => 4,
        }
    }

    /// The narrowest column for lengths up to `longest`.
    #[must_use]
    pub const fn for_longest(longest: u32) -> Self {
        if longest <= u8::MAX as u32 {
            Self::W1
        } else if longest <= u16::MAX as u32 {
            Self::W2
        } else {
            Self::W4
        }
    }
}

/// Header of packed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// What the elements are.
    pub element: ElementKind,
    /// What each row becomes.
    pub row: RowKind,
    /// What all of it becomes.
    pub sequence: Sequence,
    /// How long a length is.
    pub length: LengthWidth,
    /// Number of rows.
    pub rows: u64,
    /// Number of elements of all rows.
    pub elements: u64,
    /// Whether the receiver may make the rows while it goes through them.
    pub lazy: bool,
}

impl Rows {
    /// Bytes of the header.
    pub const SIZE: usize = 24;

    /// Bytes of the column of lengths.
    fn lengths_len(&self) -> Option<u64> {
        self.rows.checked_mul(self.length.bytes() as u64)
    }

    /// Bytes of both columns; `None` if that is more than a `u64` holds.
    #[must_use]
    pub fn data_len(&self) -> Option<u64> {
        self.elements.checked_mul(self.element.bytes() as u64)?.checked_add(self.lengths_len()?)
    }

    /// The form on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0] = self.element.code();
        out[1] = self.element.bytes() as u8;
        out[2] = match self.row {
            RowKind::Items(sequence) => sequence.code(),
            RowKind::Str => 2,
            RowKind::Bytes => 3,
        };
        out[3] = self.sequence.code();
        out[4] = self.length.bytes() as u8;
        out[5] = self.lazy.into();
        out[8..16].copy_from_slice(&self.rows.to_le_bytes());
        out[16..].copy_from_slice(&self.elements.to_le_bytes());
        out
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let element = ElementKind::from_codes(cursor.u8()?, cursor.u8()?)?;
        let row = match cursor.u8()? {
            2 => RowKind::Str,
            3 => RowKind::Bytes,
            code => RowKind::Items(Sequence::from_code(code)?),
        };
        let sequence = Sequence::from_code(cursor.u8()?)?;
        let length = match cursor.u8()? {
            0 => LengthWidth::Uniform,
            1 => LengthWidth::W1,
            2 => LengthWidth::W2,
            4 => LengthWidth::W4,
            _ => return Err(WireError::BadPacked),
        };
        let lazy = read_flag(cursor.u8()?)?;
        let reserved = cursor.u16()?;
        let (rows, elements) = (cursor.u64()?, cursor.u64()?);
        let text = !matches!(row, RowKind::Items(_));
        let even = length != LengthWidth::Uniform || (elements >= rows && elements.checked_rem(rows) == Some(0));
        if reserved != 0 || !even || (text && element != ElementKind::BYTE) {
            return Err(WireError::BadPacked);
        }
        Ok(Self { element, row, sequence, length, rows, elements, lazy })
    }

    /// Joins the header with its columns; an error unless `data` is exactly as long as the header says.
    pub fn columns(self, data: &[u8]) -> Result<(RowLengths<'_>, PackedItems<'_>), WireError> {
        let needed = self.data_len().ok_or(WireError::BadPacked)?;
        let cut = || WireError::Truncated { needed, left: data.len() as u64 };
        if needed != data.len() as u64 {
            return Err(cut());
        }
        // Both are at most `needed`, which is the length of a slice.
        let lengths = self.lengths_len().and_then(|n| usize::try_from(n).ok()).ok_or(WireError::BadPacked)?;
        let (lengths, elements) = data.split_at_checked(lengths).ok_or_else(cut)?;
        let packed = Packed { element: self.element, sequence: self.sequence, count: self.elements, lazy: false };
        let lengths = match self.length {
            LengthWidth::Uniform => RowLengths::Uniform {
                rows: usize::try_from(self.rows).map_err(|_| WireError::BadPacked)?,
                each: usize::try_from(self.elements / self.rows.max(1)).map_err(|_| WireError::BadPacked)?,
            },
            LengthWidth::W1 => RowLengths::U8(lengths),
            LengthWidth::W2 => RowLengths::U16(lengths.as_chunks().0),
            LengthWidth::W4 => RowLengths::U32(lengths.as_chunks().0),
        };
        Ok((lengths, packed.items(elements)?))
    }
}

/// How long the rows are. That these lengths add up to the number of elements is for the reader to check as it goes: they
/// may lie in memory that somebody else can write, so each should be read once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowLengths<'a> {
    /// All the same.
    Uniform {
        /// How many rows.
        rows: usize,
        /// Elements of each.
        each: usize,
    },
    /// A byte for each row.
    U8(&'a [u8]),
    /// 16 bits for each row.
    U16(&'a [[u8; 2]]),
    /// 32 bits for each row.
    U32(&'a [[u8; 4]]),
}

impl<'a> RowLengths<'a> {
    /// Those from `start` on, at most `most`.
    #[must_use]
    pub fn part(&self, start: usize, most: usize) -> RowLengths<'a> {
        fn cut<T>(lengths: &[T], start: usize, most: usize) -> &[T] {
            let rest = lengths.get(start..).unwrap_or_default();
            rest.get(..most).unwrap_or(rest)
        }
        match *self {
            Self::Uniform { rows, each } => RowLengths::Uniform { rows: rows.saturating_sub(start).min(most), each },
            Self::U8(lengths) => RowLengths::U8(cut(lengths, start, most)),
            Self::U16(lengths) => RowLengths::U16(cut(lengths, start, most)),
            Self::U32(lengths) => RowLengths::U32(cut(lengths, start, most)),
        }
    }

    /// The bytes that they are made of; none if all are the same.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Uniform { .. } => &[],
            Self::U8(lengths) => lengths,
            Self::U16(lengths) => lengths.as_flattened(),
            Self::U32(lengths) => lengths.as_flattened(),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub const fn rows(&self) -> usize {
        match *self {
            Self::Uniform { rows, .. } => rows,
            Self::U8(lengths) => lengths.len(),
            Self::U16(lengths) => lengths.len(),
            Self::U32(lengths) => lengths.len(),
        }
    }

    /// The length of row `index`, which is below [`rows`](Self::rows).
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> usize {
        match *self {
            Self::Uniform { each, .. } => each,
            Self::U8(lengths) => lengths[index].into(),
            Self::U16(lengths) => u16::from_le_bytes(lengths[index]).into(),
            Self::U32(lengths) => u32::from_le_bytes(lengths[index]) as usize,
        }
    }
}

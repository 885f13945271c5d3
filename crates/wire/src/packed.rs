//! Homogeneous sequences of numbers: `count` elements of one width, back to back.
//!
//! ```text
//! u8 element (0 signed int, 1 float, 2 flag) · u8 width in bytes · u8 container (0 list, 1 tuple) · u8 lazy · u32 zero
//! u64 count
//! ```
//!
//! `lazy` (0 or 1): the receiver may make the items one after another, while it goes through them.
//! A flag is None (0), False (1) or True (2).
//!
//! The 16 bytes of header stand in the value; the elements stand in a block, or directly behind the header.

use crate::WireError;
use crate::cursor::Cursor;

/// The container that a packed sequence came from and becomes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// A list.
    List,
    /// A tuple.
    Tuple,
}

impl Sequence {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::List => 0,
            Self::Tuple => 1,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Result<Self, WireError> {
        match code {
            0 => Ok(Self::List),
            1 => Ok(Self::Tuple),
            _ => Err(WireError::BadPacked),
        }
    }
}

/// Width of a packed integer. The narrowest one that holds every element is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// 8 bits.
    W1,
    /// 16 bits.
    W2,
    /// 32 bits.
    W4,
    /// 64 bits.
    W8,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::W1 => 1,
            Self::W2 => 2,
            Self::W4 => 4,
            Self::W8 => 8,
        }
    }

    /// The narrowest width that holds both.
    #[must_use]
    pub const fn for_range(min: i64, max: i64) -> Self {
        if min >= i8::MIN as i64 && max <= i8::MAX as i64 {
            Self::W1
        } else if min >= i16::MIN as i64 && max <= i16::MAX as i64 {
            Self::W2
        } else if min >= i32::MIN as i64 && max <= i32::MAX as i64 {
            Self::W4
        } else {
            Self::W8
        }
    }
}

/// What the elements of a packed sequence are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementKind {
    /// Signed integers of one width.
    Int(Width),
    /// IEEE 754 double precision.
    Float,
    /// None, False or True.
    Flag,
}

impl ElementKind {
    /// Elements that are bytes.
    pub const BYTE: Self = Self::Int(Width::W1);

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Int(_) => 0,
            Self::Float => 1,
            Self::Flag => 2,
        }
    }

    pub(crate) const fn from_codes(element: u8, width: u8) -> Result<Self, WireError> {
        Ok(match (element, width) {
            (0, 1) => Self::Int(Width::W1),
            (0, 2) => Self::Int(Width::W2),
            (0, 4) => Self::Int(Width::W4),
            (0, 8) => Self::Int(Width::W8),
            (1, 8) => Self::Float,
            (2, 1) => Self::Flag,
            _ => return Err(WireError::BadPacked),
        })
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Int(width) => width.bytes(),
            Self::Float => 8,
            Self::Flag => 1,
        }
    }
}

/// Header of a packed sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// What the elements are.
    pub element: ElementKind,
    /// What it becomes.
    pub sequence: Sequence,
    /// Number of elements.
    pub count: u64,
    /// Whether the receiver may make the items while it goes through them.
    pub lazy: bool,
}

/// A byte that is 0 or 1.
pub(crate) fn read_flag(byte: u8) -> Result<bool, WireError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::BadPacked),
    }
}

impl Packed {
    /// Bytes of the header.
    pub const SIZE: usize = 16;

    /// Bytes of all elements; `None` if that is more than a `u64` holds.
    #[must_use]
    pub fn data_len(&self) -> Option<u64> {
        self.count.checked_mul(self.element.bytes() as u64)
    }

    /// The form on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0] = self.element.code();
        out[1] = self.element.bytes() as u8;
        out[2] = self.sequence.code();
        out[3] = self.lazy.into();
        out[8..].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let element = ElementKind::from_codes(cursor.u8()?, cursor.u8()?)?;
        let sequence = Sequence::from_code(cursor.u8()?)?;
        let lazy = read_flag(cursor.u8()?)?;
        if cursor.u32()? != 0 {
            return Err(WireError::BadPacked);
        }
        Ok(Self { element, sequence, count: cursor.u64()?, lazy })
    }

    /// Joins the header with its elements; an error unless `data` is exactly as long as the header says.
    pub fn items(self, data: &[u8]) -> Result<PackedItems<'_>, WireError> {
        let needed = self.data_len().ok_or(WireError::BadPacked)?;
        if needed != data.len() as u64 {
            return Err(WireError::Truncated { needed, left: data.len() as u64 });
        }
        Ok(match self.element {
            ElementKind::Int(Width::W1) => PackedItems::I8(data),
            ElementKind::Int(Width::W2) => PackedItems::I16(data.as_chunks().0),
            ElementKind::Int(Width::W4) => PackedItems::I32(data.as_chunks().0),
            ElementKind::Int(Width::W8) => PackedItems::I64(data.as_chunks().0),
            ElementKind::Float => PackedItems::F64(data.as_chunks().0),
            ElementKind::Flag => PackedItems::Flags(data),
        })
    }
}

/// The elements of a packed sequence, by kind, so that a loop over them has no branch inside. [`Element`] reads one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PackedItems<'a> {
    /// 8-bit integers.
    I8(&'a [u8]),
    /// 16-bit integers.
    I16(&'a [[u8; 2]]),
    /// 32-bit integers.
    I32(&'a [[u8; 4]]),
    /// 64-bit integers.
    I64(&'a [[u8; 8]]),
    /// Doubles.
    F64(&'a [[u8; 8]]),
    /// None, False and True; other bytes are damage.
    Flags(&'a [u8]),
}

impl<'a> PackedItems<'a> {
    /// Those from `start` on, at most `most`.
    #[must_use]
    pub fn part(&self, start: usize, most: usize) -> PackedItems<'a> {
        fn cut<T>(items: &[T], start: usize, most: usize) -> &[T] {
            let rest = items.get(start..).unwrap_or_default();
            rest.get(..most).unwrap_or(rest)
        }
        match *self {
            Self::I8(items) => PackedItems::I8(cut(items, start, most)),
            Self::I16(items) => PackedItems::I16(cut(items, start, most)),
            Self::I32(items) => PackedItems::I32(cut(items, start, most)),
            Self::I64(items) => PackedItems::I64(cut(items, start, most)),
            Self::F64(items) => PackedItems::F64(cut(items, start, most)),
            Self::Flags(items) => PackedItems::Flags(cut(items, start, most)),
        }
    }

    /// The bytes that they are made of.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::I8(items) | Self::Flags(items) => items,
            Self::I16(items) => items.as_flattened(),
            Self::I32(items) => items.as_flattened(),
            Self::I64(items) | Self::F64(items) => items.as_flattened(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I8(items) | Self::Flags(items) => items.len(),
            Self::I16(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::I64(items) | Self::F64(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One packed None (in the form `None`) or truth value.
pub fn flag_to_byte(flag: Option<bool>) -> u8 {
    match flag {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}

/// The other way round.
#[inline]
pub fn flag_from_byte(byte: u8) -> Result<Option<bool>, WireError> {
    match byte {
        0 => Ok(None),
        1 => Ok(Some(false)),
        2 => Ok(Some(true)),
        _ => Err(WireError::BadPacked),
    }
}

/// One packed integer, in the form in which a block holds it.
pub trait Element: Copy {
    /// Its value.
    fn widen(self) -> i64;
    /// `value` in this width, or `None` if it does not fit.
    fn narrow(value: i64) -> Option<Self>;
}

impl Element for u8 {
    #[inline]
    fn widen(self) -> i64 {
        i64::from(self as i8)
    }
    #[inline]
    fn narrow(value: i64) -> Option<Self> {
        i8::try_from(value).ok().map(|v| v as u8)
    }
}

macro_rules! element {
    ($int:ty, $n:literal) => {
        impl Element for [u8; $n] {
            #[inline]
            fn widen(self) -> i64 {
                i64::from(<$int>::from_le_bytes(self))
            }
            #[inline]
            fn narrow(value: i64) -> Option<Self> {
                <$int>::try_from(value).ok().map(<$int>::to_le_bytes)
            }
        }
    };
}
element!(i16, 2);
element!(i32, 4);
element!(i64, 8);

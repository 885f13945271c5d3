//! Homogeneous sequences of numbers: `count` elements of one width, back to back.
//!
//! ```text
//! u8 element (0 signed int, 1 float) · u8 width in bytes · u8 container (0 list, 1 tuple) · u8 zero · u32 zero · u64 count
//! ```
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
}

impl ElementKind {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Int(width) => width.bytes(),
            Self::Float => 8,
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
        out[0] = matches!(self.element, ElementKind::Float).into();
        out[1] = self.element.bytes() as u8;
        out[2] = matches!(self.sequence, Sequence::Tuple).into();
        out[8..].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let (element, width, container) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
        let reserved = (cursor.u8()?, cursor.u32()?);
        let element = match (element, width) {
            (0, 1) => ElementKind::Int(Width::W1),
            (0, 2) => ElementKind::Int(Width::W2),
            (0, 4) => ElementKind::Int(Width::W4),
            (0, 8) => ElementKind::Int(Width::W8),
            (1, 8) => ElementKind::Float,
            _ => return Err(WireError::BadPacked),
        };
        let sequence = match container {
            0 => Sequence::List,
            1 => Sequence::Tuple,
            _ => return Err(WireError::BadPacked),
        };
        if reserved != (0, 0) {
            return Err(WireError::BadPacked);
        }
        Ok(Self { element, sequence, count: cursor.u64()? })
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
}

impl PackedItems<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I8(items) => items.len(),
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

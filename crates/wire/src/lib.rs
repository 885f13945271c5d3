//! What travels in a ring record or in a block of the arena, byte by byte: the value format of breakeven.
//!
//! A message is a *tag* (16 bits), a *payload* (a few hundred bytes that lie in the ring itself) and *blocks* (memory
//! that changes hands with the message). This crate says what they mean; it knows neither Python nor shared memory.
//!
//! ```text
//! tag      bits 0..8   Kind: Raw, Value or Pickle
//!          bit  15     SPILLED: the body did not fit into the ring; it lies at the start of block 0, and the payload is
//!                      its length (u64)
//! body     Raw         the bytes themselves, for transport without a codec
//!          Value       exactly one value, coded as in `value.rs`
//!          Pickle      u32 n, n buffer ranges (24 bytes each, see `range.rs`), then the pickle stream to the end
//! ```
//!
//! All numbers are little-endian and unaligned.
//!
//! # Trust
//!
//! The bytes were written by another process, which may have been killed, may be of another version, or may lie. So the
//! readers here are total: every input gives a value or a [`WireError`], nothing panics, nothing loops for longer than
//! the input is long, and **no length that was read decides over an allocation** before it has been checked against the
//! number of bytes that are really there. `fuzz/` and `tests/` hold them to it.
#![forbid(unsafe_code)]

mod cursor;
mod error;
mod message;
mod packed;
mod range;
mod rows;
mod value;

pub use error::WireError;
pub use message::{
    Blocks, Body, Kind, Message, PickleMessage, SPILLED, pickle_header, pickle_header_len, spilled_payload,
};
pub use packed::{Element, ElementKind, Packed, PackedItems, Sequence, Width, flag_from_byte, flag_to_byte};
pub use range::BufferRange;
pub use rows::{LengthWidth, RowKind, RowLengths, Rows};
pub use value::{MAX_DEPTH, Reader, Token, Writer};

/// Offsets of separate pieces inside one block are multiples of this, so that any element type is aligned.
pub const PIECE_ALIGN: u64 = 64;

/// Rounds `n` up to the next multiple of [`PIECE_ALIGN`]; saturates instead of wrapping.
#[must_use]
pub const fn align_piece(n: u64) -> u64 {
    n.saturating_add(PIECE_ALIGN - 1) & !(PIECE_ALIGN - 1)
}

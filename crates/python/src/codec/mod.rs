//! Objects to messages and back. Which object takes which form:
//!
//! | object (exact type) | form |
//! |---|---|
//! | None, bool, int up to 128 bits, float, str, bytes, range | a value; long str and bytes in a block |
//! | tuple, list, dict of such, shallow and small, nothing mutable twice | a value |
//! | list or tuple of ints (64 bits) or of floats, of any length | packed, in a block if long |
//! | everything else | pickle protocol 5; buffers of 32 KiB and more in blocks of their own |
//!
//! Subclasses take pickle, always. So does whatever contains the same list or dict twice: that it is one object must
//! show at the other end.

mod anchor;
mod decode;
mod encode;
mod exact;
mod memory;
mod pickler;
mod view;

pub(crate) use decode::{decode, decode_inline, first_token, loads};
pub(crate) use encode::{
    FillError, INLINE, Outgoing, PIPED_FROM, Piped, ScalarSpace, SmallSpace, Space, encode, piped, raw, scalar, small,
};
pub(crate) use exact::check_interpreter;
pub(crate) use memory::{Heap, Storage};
pub(crate) use pickler::{Collector, Held, ReducerTable};
pub(crate) use view::BlockView;

//! Objects to messages and back. Which object takes which form:
//!
//! | object (exact type) | form |
//! |---|---|
//! | None, bool, int up to 128 bits, float, str, bytes, range | a value; long str and bytes in a block |
//! | tuple, list, dict of such, shallow and small, nothing mutable twice | a value |
//! | list or tuple of ints (64 bits), of floats, or of None and bool, of any length | packed, in a block if long |
//! | list or tuple of eight and more lists or tuples of these, or of short str or bytes | columns, in a block if long |
//! | everything else | pickle protocol 5; buffers of 32 KiB and more in blocks of their own |
//!
//! Subclasses take pickle, always. So does whatever contains the same list or dict twice: that it is one object must
//! show at the other end.

mod anchor;
mod decode;
mod encode;
mod exact;
mod items;
mod memory;
mod pickler;
mod rows;
mod slice;
mod view;

pub(crate) use decode::{decode, decode_inline, decode_lazily, first_token, loads};
pub(crate) use encode::{
    FillError, INLINE, Outgoing, PIPED_FROM, Piped, ScalarSpace, SmallSpace, Space, encode, encode_value, piped, raw,
    scalar, small,
};
pub(crate) use exact::check_interpreter;
pub(crate) use items::Items;
pub(crate) use memory::{Heap, Storage};
pub(crate) use pickler::{Collector, Held, ReducerTable};
pub(crate) use slice::Slice;
pub(crate) use view::BlockView;

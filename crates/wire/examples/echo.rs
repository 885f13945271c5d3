//! A Rust program that talks with a Python one over breakeven's channels.
//!
//! ```text
//! echo ARENA_FD REQUESTS_ID REQUESTS_EVENT_FD REPLIES_ID REPLIES_EVENT_FD
//! ```
//!
//! The arguments are what `breakeven._native.Channel.handle()` says in the Python parent, for two channels; the
//! descriptors are inherited. For each object that comes it sends one back: numbers doubled, texts in capitals, tuples,
//! lists and dicts with their items treated likewise. `None` ends it. `tests/interop/test_rust_example.py` is the other
//! side.
#![allow(clippy::disallowed_methods, reason = "a program: its settings are its arguments")]

use breakeven_shm::{Arena, Block, Channel, MAX_INLINE, Message, RootId, Ticket, TryRecvError, Wait};
use breakeven_wire::{
    BufferRange, Element, ElementKind, Kind, Message as Wire, Packed, PackedItems, Reader, RowKind, Rows, Token, Width,
    WireError, Writer,
};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [arena_fd, requests, requests_event, replies, replies_event] = &arguments[..] else {
        return Err("usage: echo ARENA_FD REQUESTS_ID REQUESTS_EVENT_FD REPLIES_ID REPLIES_EVENT_FD".into());
    };
    let arena = Arena::attach(inherited(arena_fd)?)?;
    let requests = open(&arena, requests, requests_event)?;
    let replies = open(&arena, replies, replies_event)?;
    let mut message = Message::new();
    loop {
        match requests.try_recv(&mut message) {
            Ok(()) => {}
            Err(TryRecvError::Empty) => {
                let waited = requests.wait_readable(Duration::from_secs(1));
                if waited == Wait::TimedOut && arena.reap() > 0 && arena.participants().len() == 1 {
                    return Err("the other side is gone".into());
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        if !answer(&arena, &message, &replies)? {
            return Ok(());
        }
    }
}

fn inherited(number: &str) -> Result<OwnedFd, Failure> {
    // SAFETY: the parent passed this descriptor for us to keep, as the usage says; nothing else here uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number.parse()?) })
}

fn open(arena: &Arena, id: &str, event: &str) -> Result<Channel, Failure> {
    // Below the channel's name, above who keeps it alive until we have opened it.
    let id: u128 = id.parse()?;
    let ticket = Ticket { id: RootId::from_bits(id as u64), lender: (id >> 64) as u32 };
    Ok(Channel::open(arena, ticket, Some(inherited(event)?))?)
}

/// Answers one message; false if it says that there will be no more.
fn answer(arena: &Arena, message: &Message, replies: &Channel) -> Result<bool, Failure> {
    let blocks: Vec<&[u8]> = message.blocks.iter().map(Block::as_slice).collect();
    let mut space = [0; MAX_INLINE];
    let mut writer = Writer::new(&mut space);
    let mut reply = Reply { arena, blocks: Vec::new() };
    match Wire::read(message.tag, message.payload(), &blocks[..])? {
        Wire::Value(mut reader) => {
            let token = reader.token()?;
            if token == Token::None {
                return Ok(false);
            }
            reply.write(token, &mut reader, &mut writer)?;
            reader.finish()?;
        }
        Wire::Raw(bytes) => writer.bytes(bytes)?,
        Wire::Pickle(pickle) => writer.str(&format!("{} bytes that only Python can read", pickle.stream.len()))?,
    }
    let len = writer.len();
    while replies.try_send(Kind::Value.tag(), &space[..len], &mut reply.blocks).is_err() {
        replies.wait_writable(Duration::from_secs(1));
    }
    Ok(true)
}

/// What of an answer lies outside the ring.
struct Reply<'a> {
    arena: &'a Arena,
    blocks: Vec<Block>,
}

impl Reply<'_> {
    fn write(
        &mut self,
        token: Token<'_>,
        reader: &mut Reader<'_, [&[u8]]>,
        writer: &mut Writer<'_>,
    ) -> Result<(), Failure> {
        let items = match token {
            Token::Tuple(count) => {
                writer.tuple(count)?;
                count
            }
            Token::List(count) => {
                writer.list(count)?;
                count
            }
            Token::Dict(count) => {
                writer.dict(count)?;
                2 * count
            }
            Token::None => return Ok(writer.none()?),
            Token::Bool(value) => return Ok(writer.bool(value)?),
            Token::Int(value) => return Ok(writer.wide_int(2 * i128::from(value))?),
            Token::WideInt(value) => return Ok(writer.wide_int(value.wrapping_mul(2))?),
            Token::Float(value) => return Ok(writer.float(2.0 * value)?),
            Token::Str(text) => return Ok(writer.str(&text.to_uppercase())?),
            Token::Bytes(bytes) => return Ok(writer.bytes(&bytes.to_ascii_uppercase())?),
            Token::Range(start, stop, step) => return Ok(writer.range(start, stop, step)?),
            Token::Packed(packed, items) => {
                let (element, bytes) = doubled(packed.element, items);
                let packed = Packed { element, ..packed };
                match writer.packed(packed) {
                    Ok(place) => place.copy_from_slice(&bytes),
                    Err(WireError::DoesNotFit) => writer.packed_far(packed, self.far(&bytes)?)?,
                    Err(error) => return Err(error.into()),
                }
                return Ok(());
            }
            Token::Rows(rows, lengths, elements) => {
                let (element, bytes) = match rows.row {
                    RowKind::Items(_) => doubled(rows.element, elements),
                    RowKind::Str | RowKind::Bytes => (rows.element, elements.bytes().to_ascii_uppercase()),
                };
                let (rows, columns) = (Rows { element, ..rows }, [lengths.bytes(), &bytes].concat());
                match writer.rows(rows) {
                    Ok(place) => place.copy_from_slice(&columns),
                    Err(WireError::DoesNotFit) => writer.rows_far(rows, self.far(&columns)?)?,
                    Err(error) => return Err(error.into()),
                }
                return Ok(());
            }
        };
        reader.enter()?;
        for _ in 0..items {
            let token = reader.token()?;
            self.write(token, reader, writer)?;
        }
        reader.leave();
        Ok(())
    }

    /// A block of its own for what does not fit into the ring.
    fn far(&mut self, bytes: &[u8]) -> Result<BufferRange, Failure> {
        let mut block = self.arena.alloc(bytes.len())?;
        block.as_mut_slice().copy_from_slice(bytes);
        self.blocks.push(block);
        Ok(BufferRange { block: self.blocks.len() as u32 - 1, offset: 0, len: bytes.len() as u64 })
    }
}

/// Numbers times two, back to back, and what they are now. Truth values stay.
fn doubled(element: ElementKind, items: PackedItems<'_>) -> (ElementKind, Vec<u8>) {
    let doubled: Vec<[u8; 8]> = match items {
        PackedItems::I8(items) => items.iter().map(|&item| twice(item)).collect(),
        PackedItems::I16(items) => items.iter().map(|&item| twice(item)).collect(),
        PackedItems::I32(items) => items.iter().map(|&item| twice(item)).collect(),
        PackedItems::I64(items) => items.iter().map(|&item| twice(item)).collect(),
        PackedItems::F64(items) => items.iter().map(|&item| (2.0 * f64::from_le_bytes(item)).to_le_bytes()).collect(),
        PackedItems::Flags(flags) => return (element, flags.to_vec()),
    };
    let element = match element {
        ElementKind::Int(_) => ElementKind::Int(Width::W8),
        other => other,
    };
    (element, doubled.into_flattened())
}

fn twice(item: impl Element) -> [u8; 8] {
    item.widen().wrapping_mul(2).to_le_bytes()
}

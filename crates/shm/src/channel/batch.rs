//! Many messages under one lock.

use super::end::Record;
use crate::arena::Block;

/// Messages to be sent together, in order.
#[derive(Debug, Default)]
pub struct OutBatch {
    bytes: Vec<u8>,
    messages: Vec<Entry>,
    /// The blocks of the messages that were not sent yet, in order.
    blocks: Vec<Block>,
    /// How many of `messages` were sent, and how many blocks went with them.
    sent: usize,
    blocks_sent: usize,
}

/// A message of a batch: where its parts end; they begin where those of the one before end. (One
/// vector of blocks for each message would be simpler, and cost twice the time of a small message.)
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    bytes_end: usize,
    blocks_end: usize,
}

/// Where the parts of message `nth` begin: bytes, blocks.
fn start(messages: &[Entry], nth: usize) -> (usize, usize) {
    match nth.checked_sub(1) {
        Some(before) => (messages[before].bytes_end, messages[before].blocks_end),
        None => (0, 0),
    }
}

impl OutBatch {
    /// An empty batch.
    pub fn new() -> OutBatch {
        OutBatch::default()
    }

    /// Adds a message. `payload` is at most [`super::MAX_INLINE`] bytes and `blocks` at most
    /// [`super::MAX_MESSAGE_BLOCKS`]; a longer message panics here rather than in a ring.
    #[inline]
    pub fn push(&mut self, tag: u16, payload: &[u8], blocks: Vec<Block>) {
        assert!(payload.len() <= super::MAX_INLINE && blocks.len() <= super::MAX_MESSAGE_BLOCKS);
        self.bytes.extend_from_slice(payload);
        if !blocks.is_empty() {
            self.blocks.extend(blocks);
        }
        let blocks_end = self.blocks_sent + self.blocks.len();
        self.messages.push(Entry { tag, bytes_end: self.bytes.len(), blocks_end });
    }

    /// Messages that were not sent yet.
    pub fn len(&self) -> usize {
        self.messages.len() - self.sent
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all messages; blocks of those that were not sent are given back.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
        self.blocks.clear();
        (self.sent, self.blocks_sent) = (0, 0);
    }

    #[inline]
    pub(super) fn next(&self, nth: usize) -> Option<Record<'_>> {
        let nth = self.sent + nth;
        let message = self.messages.get(nth)?;
        let (bytes, blocks) = start(&self.messages, nth);
        Some(Record {
            tag: message.tag,
            payload: &self.bytes[bytes..message.bytes_end],
            blocks: &self.blocks[blocks - self.blocks_sent..message.blocks_end - self.blocks_sent],
        })
    }

    pub(super) fn mark_sent(&mut self, count: usize) {
        self.sent += count;
        let (_, blocks) = start(&self.messages, self.sent);
        // The channel's now.
        self.blocks.drain(..blocks - self.blocks_sent).for_each(core::mem::forget);
        self.blocks_sent = blocks;
    }
}

/// Messages received together, in order.
#[derive(Debug, Default)]
pub struct InBatch {
    bytes: Vec<u8>,
    messages: Vec<Entry>,
    pub(super) blocks: Vec<Block>,
}

impl InBatch {
    /// An empty batch.
    pub fn new() -> InBatch {
        InBatch::default()
    }

    /// How many messages it holds.
    #[allow(clippy::len_without_is_empty, reason = "a received batch is never empty")]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes the messages out: tag, payload, blocks.
    pub fn drain(&mut self) -> impl Iterator<Item = (u16, &[u8], Vec<Block>)> {
        let InBatch { bytes, messages, blocks } = self;
        let (bytes, mut blocks) = (&*bytes, blocks.drain(..));
        let (mut at, mut blocks_at) = (0, 0);
        messages.drain(..).map(move |Entry { tag, bytes_end, blocks_end }| {
            let payload = &bytes[at..bytes_end];
            let of_message = match blocks_end - blocks_at {
                0 => Vec::new(),
                count => blocks.by_ref().take(count).collect(),
            };
            (at, blocks_at) = (bytes_end, blocks_end);
            (tag, payload, of_message)
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
        self.blocks.clear();
    }

    /// Adds a message whose blocks were put behind `blocks` already.
    #[inline]
    pub(super) fn push(&mut self, tag: u16, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        let (bytes_end, blocks_end) = (self.bytes.len(), self.blocks.len());
        self.messages.push(Entry { tag, bytes_end, blocks_end });
    }
}

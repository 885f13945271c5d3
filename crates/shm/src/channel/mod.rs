//! Channels: queues of messages between any number of senders and receivers. Protocol, kill table
//! and drawings are in `README.md` beside this file.

pub mod ring;

mod marks;

mod batch;
mod end;
mod finish;

use crate::arena::{Arena, Block, BlockRef, Counter};
use crate::crash::{store, store64};
use crate::error::{AllocError, OpenError, TryRecvError, TrySendError};
use crate::layout::{Descriptor, SharedRepr, kind};
use crate::lock::{Guard, lock};
use crate::participant::Reachable;
use crate::primitive::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::primitive::{AtomicU32, AtomicU64, fence};
use crate::root::{self, BODY_AT, RootId};
use crate::sys::memfd;
use crate::sys::robust::RobustMutex;
use crate::wait::{EventWord, KernelFutex, Sleep, SpinPolicy};
use marks::Front;
use ring::{Mark, precedes, sequence_distance};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

pub use batch::{InBatch, OutBatch};
use end::{Record, Ring};

/// Longest payload of one message; more goes into a block.
pub const MAX_INLINE: usize = 1024;
/// Most blocks that one message can carry.
pub const MAX_MESSAGE_BLOCKS: usize = 64;
/// Cells of a channel's first ring; each further ring is twice as large, up to `MOST_CELLS`.
const FIRST_CELLS: u32 = 512;
/// The same for a channel that holds few messages: with its header, less than a page.
const FEW_CELLS: u32 = 32;
const MOST_CELLS: u32 = 1 << 16;

const _: () = assert!(MOST_CELLS <= ring::MAX_CELLS);

const ALIVE: u32 = 1;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct ChannelHeader {
    state: AtomicU32,
    maxsize: AtomicU32,
    claim_slots: AtomicU32,
    fd_armed: AtomicU32,
    /// What the channel's users keep here; see [`Channel::note`].
    note: AtomicU64,
    _pad0: [AtomicU64; 5],
    // The senders' lines.
    send_lock: RobustMutex,
    /// Names the ring that senders write to (`end::place_word`), or 0.
    send_ring: AtomicU64,
    /// Sequence of the next message: the committed tail's, a store behind.
    sent: AtomicU64,
    rings_made: AtomicU64,
    _pad2: [AtomicU64; 5],
    // The receivers' lines.
    recv_lock: RobustMutex,
    /// Names the ring that receivers read from (`end::place_word`), or 0.
    recv_ring: AtomicU64,
    /// Sequence of the next message to be taken: the committed head's, a store behind.
    taken: AtomicU64,
    _pad4: [AtomicU64; 6],
    readable: EventWord,
    writable: EventWord,
    waits: AtomicU64,
    wakes: AtomicU64,
    _pad5: [AtomicU64; 6],
    finish: finish::Finish,
}

// SAFETY: atomics, locks and event words only.
unsafe impl SharedRepr for ChannelHeader {}

const _: () = {
    assert!(size_of::<ChannelHeader>() <= root::HANDLES_AT as usize);
    assert!(core::mem::offset_of!(ChannelHeader, send_lock) == 64);
    assert!(core::mem::offset_of!(ChannelHeader, send_ring) == 128);
    assert!(core::mem::offset_of!(ChannelHeader, recv_lock) == 192);
    assert!(core::mem::offset_of!(ChannelHeader, recv_ring) == 256);
    assert!(core::mem::offset_of!(ChannelHeader, readable) == 320);
    assert!(core::mem::offset_of!(ChannelHeader, writable) == 384);
    assert!(core::mem::offset_of!(ChannelHeader, finish) == 512);
};

/// What kind of channel to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChannelConfig {
    /// Most messages that it holds; 0 for no bound.
    pub maxsize: u32,
    /// How many claim slots it has (see [`Channel::set_claim_slot`]).
    pub claim_slots: u32,
}

/// Figures about a channel at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelStatistics {
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever taken.
    pub taken: u64,
    /// Rings ever made.
    pub rings_made: u64,
    /// Rings that exist now.
    pub rings: u64,
    /// Bytes in these rings.
    pub ring_bytes: u64,
    /// Times somebody went to sleep on the channel.
    pub waits: u64,
    /// Times a sleeper was woken.
    pub wakes: u64,
}

/// What a process hands to a child that it starts, so that the child can open a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The channel.
    pub id: RootId,
    /// The participant that keeps a handle for the child until the child has its own; 0 for none.
    pub lender: u32,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// What was waited for may be there: try again.
    Ready,
    /// The timeout passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
    /// One of the descriptors that were watched is ready.
    Watched,
}

/// For so long a watching wait sleeps on the channel alone, which is what costs senders least: results that come at this
/// rate never make one of them write to the event descriptor.
const WATCH_AFTER: Duration = Duration::from_millis(2);

/// `fd_armed`: somebody has asked for the descriptor. The rest counts those who watch at this moment.
const ARMED_FOR_EVER: u32 = 1;
const ARMED_ONCE: u32 = 2;

/// One handle on a channel. Usable from any thread.
#[derive(Debug)]
pub struct Channel {
    arena: Arena,
    id: RootId,
    header_at: u64,
    header: &'static ChannelHeader,
    maxsize: u32,
    claim_slots: u32,
    /// Claim slot of this handle, plus one.
    claim: AtomicU32,
    /// The participant on whose account this handle is; after a fork, the parent (see `enter`).
    holder: AtomicU32,
    event: Option<OwnedFd>,
    recv_spin: SpinPolicy,
    send_spin: SpinPolicy,
}

/// A received message. The payload is a copy; the blocks are this process's.
#[derive(Debug)]
pub struct Message {
    /// The sender's tag.
    pub tag: u16,
    /// Which message of the channel this is, from 0.
    pub sequence: u64,
    /// The blocks that it carried.
    pub blocks: Vec<Block>,
    len: usize,
    payload: [core::mem::MaybeUninit<u8>; MAX_INLINE],
}

impl Message {
    /// A place to receive messages into; reusable.
    #[allow(clippy::new_without_default, reason = "a kilobyte that one places deliberately")]
    #[inline]
    pub fn new() -> Message {
        Message {
            tag: 0,
            sequence: 0,
            blocks: Vec::new(),
            len: 0,
            payload: [const { core::mem::MaybeUninit::uninit() }; MAX_INLINE],
        }
    }

    /// The bytes that were sent.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        // SAFETY: `set` initialised the first `len` bytes (0 before any message came).
        unsafe { core::slice::from_raw_parts(self.payload.as_ptr().cast(), self.len) }
    }

    #[inline]
    fn set(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= MAX_INLINE);
        // SAFETY: the source is a slice, the destination is `MAX_INLINE` bytes long, and every
        // record's length was checked against that; they cannot overlap, one being shared memory.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.payload.as_mut_ptr().cast(), bytes.len());
        }
        self.len = bytes.len();
    }
}

impl Channel {
    /// Makes a channel in `arena`.
    pub fn create(arena: &Arena, config: ChannelConfig) -> Result<Channel, AllocError> {
        let mut channel = Channel::create_with(arena, config, FIRST_CELLS)?;
        let event = memfd::eventfd().map_err(|errno| AllocError::System(errno.raw_os_error()));
        channel.event = Some(event?); // dropping `channel` on failure ends it properly
        Ok(channel)
    }

    /// Makes a channel for few messages at a time that has no event descriptor: whoever reads it learns by other means
    /// that there is something.
    pub fn create_quiet(arena: &Arena, config: ChannelConfig) -> Result<Channel, AllocError> {
        Channel::create_with(arena, config, FEW_CELLS)
    }

    fn create_with(arena: &Arena, config: ChannelConfig, cells: u32) -> Result<Channel, AllocError> {
        let len = BODY_AT as usize + config.claim_slots as usize * size_of::<AtomicU64>();
        let mut root = arena.alloc(len)?;
        root.as_mut_slice().fill(0);
        let descriptor = arena.descriptor(root.index()).expect("a block of ours");
        let (header_at, _) = arena.extent(descriptor).expect("a block of ours");
        let address = arena.inner.segment.address(header_at, size_of::<ChannelHeader>());
        let raw = address.cast::<ChannelHeader>().as_ptr();
        // SAFETY: the block is large enough, aligned, and nobody else's yet.
        unsafe {
            RobustMutex::init(&raw mut (*raw).send_lock);
            RobustMutex::init(&raw mut (*raw).recv_lock);
        }
        let header: &ChannelHeader = arena.inner.segment.at(header_at);
        let ring = Ring::create(arena, root.owner(), cells, Mark::start(0))?;
        header.maxsize.store(config.maxsize, Relaxed);
        header.claim_slots.store(config.claim_slots, Relaxed);
        header.send_ring.store(ring.word(), Relaxed);
        header.recv_ring.store(ring.word(), Relaxed);
        header.rings_made.store(1, Relaxed);
        header.state.store(ALIVE, Relaxed);
        let id = root::commit(arena, root, kind::CHANNEL);
        Ok(Channel::new(*arena, id, header_at, None))
    }

    fn new(arena: Arena, id: RootId, header_at: u64, event: Option<OwnedFd>) -> Channel {
        let header: &ChannelHeader = arena.inner.segment.at(header_at);
        Channel {
            arena,
            id,
            header_at,
            header,
            maxsize: header.maxsize.load(Relaxed),
            claim_slots: header.claim_slots.load(Relaxed),
            claim: AtomicU32::new(0),
            holder: AtomicU32::new(arena.inner.me.get()),
            event,
            recv_spin: SpinPolicy::new(),
            send_spin: SpinPolicy::new(),
        }
    }

    /// Opens a channel that another process handed over, with the event descriptor that came with
    /// it (see [`event_fd`](Self::event_fd)), and returns what the lender kept for us.
    pub fn open(arena: &Arena, ticket: Ticket, event: Option<OwnedFd>) -> Result<Channel, OpenError> {
        root::acquire(arena, ticket.id, kind::CHANNEL)?;
        if ticket.lender != 0 {
            root::release(arena, ticket.id, ticket.lender);
        }
        let descriptor = arena.descriptor(ticket.id.index).ok_or(OpenError::Gone)?;
        let (header_at, size) = arena.extent(descriptor).ok_or(OpenError::Gone)?;
        let channel = Channel::new(*arena, ticket.id, header_at, event);
        let needed = BODY_AT + u64::from(channel.claim_slots) * size_of::<AtomicU64>() as u64;
        if needed > size { Err(OpenError::Gone) } else { Ok(channel) }
    }

    /// A ticket for a child that is being started. The channel stays alive until the child has
    /// opened it (or this process ends).
    pub fn lend(&self) -> Result<Ticket, OpenError> {
        Ok(Ticket { id: self.id, lender: root::lend(&self.arena, self.id, kind::CHANNEL)? })
    }

    /// Takes back the tickets that were made and not used. Only where this is the process's one handle on the channel, and
    /// no child that was given a ticket can be on its way any more.
    pub fn end_loans(&self) {
        if self.enter().is_ok() {
            root::end_loans(&self.arena, self.id);
        }
    }

    /// The channel's name.
    pub fn id(&self) -> RootId {
        self.id
    }

    /// The arena that it lies in.
    pub fn arena(&self) -> Arena {
        self.arena
    }

    /// Most messages that it holds; 0 for no bound.
    pub fn maxsize(&self) -> u32 {
        self.maxsize
    }

    #[inline]
    fn header(&self) -> &'static ChannelHeader {
        self.header
    }

    /// Sends one message. On success `blocks` is empty: they belong to the channel. On failure
    /// nothing was sent and nothing was taken.
    ///
    /// Never waits but for the lock of the sending end. Returns the message's sequence number.
    #[inline]
    pub fn try_send(&self, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<u64, TrySendError> {
        self.send_within(self.maxsize, tag, payload, blocks)
    }

    /// As [`try_send`](Self::try_send), even if the channel is full.
    pub fn send_past_bound(&self, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<u64, TrySendError> {
        self.send_within(0, tag, payload, blocks)
    }

    #[inline]
    fn send_within(&self, bound: u32, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<u64, TrySendError> {
        let record = Record { tag, payload, blocks };
        match self.send_record(bound, &record) {
            Err(TrySendError::Memory(AllocError::Limit { .. })) => {
                self.arena.reap();
                self.send_record(bound, &record)
            }
            outcome => outcome,
        }
        .inspect(|_| {
            if !blocks.is_empty() {
                blocks.drain(..).for_each(core::mem::forget);
            }
        })
    }

    fn send_record(&self, bound: u32, record: &Record<'_>) -> Result<u64, TrySendError> {
        let me = self.enter()?;
        if record.payload.len() > MAX_INLINE || record.blocks.len() > MAX_MESSAGE_BLOCKS {
            return Err(TrySendError::TooLong);
        }
        self.check(me, record);
        let header = self.header();
        let guard = self.lock_send();
        if header.state.load(Relaxed) != ALIVE {
            return Err(TrySendError::Closed);
        }
        let sequence = header.sent.load(Relaxed);
        if bound > 0 && sequence_distance(header.taken.load(Acquire), sequence) >= u64::from(bound) {
            return Err(TrySendError::Full);
        }
        let mut ring = self.send_ring().ok_or(TrySendError::Closed)?;
        let tail = ring.marks().tail();
        let tail = match ring.write(tail, record) {
            Some(tail) => tail,
            None => {
                ring = self.add_ring(me, &ring, tail)?;
                let tail = ring.marks().tail();
                ring.write(tail, record).ok_or(TrySendError::TooLong)?
            }
        };
        // SYNC POINT: message. The record is visible to whoever sees this tail.
        ring.marks().publish(tail);
        store64(&header.sent, tail.sequence(), Release);
        drop(guard);
        self.announce_messages(1);
        Ok(sequence)
    }

    /// Panics if the record is one that no caller may make: it would corrupt the channel for
    /// everybody.
    #[inline]
    fn check(&self, me: u32, record: &Record<'_>) {
        assert!(record.tag != end::SKIP, "this tag is the ring's own");
        for block in record.blocks {
            assert!(
                block.arena() == self.arena && block.owner() == me,
                "a message's blocks are the sender's own and lie in the channel's arena"
            );
        }
    }

    /// Sends the messages of `batch` from the one after those already sent, as many as fit; they
    /// are marked as sent. Returns how many that were; an error only if that is none.
    pub fn try_send_batch(&self, batch: &mut OutBatch) -> Result<usize, TrySendError> {
        let me = self.enter()?;
        let header = self.header();
        let guard = self.lock_send();
        if header.state.load(Relaxed) != ALIVE {
            return Err(TrySendError::Closed);
        }
        let first = header.sent.load(Relaxed);
        let mut room = usize::MAX;
        if self.maxsize > 0 {
            let held = sequence_distance(header.taken.load(Acquire), first);
            room = u64::from(self.maxsize).saturating_sub(held) as usize;
            if room == 0 && !batch.is_empty() {
                return Err(TrySendError::Full);
            }
        }
        let mut ring = self.send_ring().ok_or(TrySendError::Closed)?;
        let mut tail = ring.marks().tail();
        let mut sent = 0;
        let mut failure = None;
        while sent < room {
            let Some(record) = batch.next(sent) else { break };
            self.check(me, &record);
            tail = match ring.write(tail, &record) {
                Some(tail) => tail,
                None => {
                    // What was written so far goes out before the ring is left.
                    ring.marks().publish(tail);
                    ring = match self.add_ring(me, &ring, tail) {
                        Ok(ring) => ring,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    };
                    tail = ring.marks().tail();
                    match ring.write(tail, &record) {
                        Some(tail) => tail,
                        None => {
                            failure = Some(TrySendError::TooLong);
                            break;
                        }
                    }
                }
            };
            sent += 1;
        }
        ring.marks().publish(tail); // SYNC POINT: message
        store64(&header.sent, tail.sequence(), Release);
        drop(guard);
        batch.mark_sent(sent);
        match failure {
            Some(error) if sent == 0 => return Err(error),
            _ => {}
        }
        if sent > 0 {
            self.announce_messages(sent as u32);
        }
        Ok(sent)
    }

    #[inline]
    fn announce_messages(&self, messages: u32) {
        let header = self.header();
        let woken = header.readable.notify(&KernelFutex, messages);
        if woken > 0 {
            header.wakes.fetch_add(woken as u64, Relaxed);
            self.arena.count(Counter::Wakes, woken as u64);
        }
        if header.fd_armed.load(Relaxed) != 0 {
            self.raise_event();
        }
    }

    /// This process's participant id, for which this handle is counted: without that, the channel
    /// could end, and its memory become something else, under our hands.
    #[inline]
    fn enter(&self) -> Result<u32, OpenError> {
        let me = self.arena.me().map_err(OpenError::Create)?;
        if me != self.holder.load(Relaxed) {
            self.adopt(me)?;
        }
        Ok(me)
    }

    /// First use of a handle that came through a fork. Normally it was counted for this child
    /// before the fork. Was it not (a fork that nobody told us of, or one whose parent died and
    /// was cleaned up after before the child could speak up), it needs a count of its own, which
    /// it gets if the channel still exists.
    #[cold]
    fn adopt(&self, me: u32) -> Result<(), OpenError> {
        let holder = self.holder.load(Relaxed);
        let inherited = self.arena.inherited(me);
        if !inherited {
            root::acquire(&self.arena, self.id, kind::CHANNEL)?;
        }
        let adopted = self.holder.compare_exchange(holder, me, Relaxed, Relaxed);
        if adopted.is_err() && !inherited {
            root::release(&self.arena, self.id, me); // another thread was faster
        }
        Ok(())
    }

    #[inline]
    fn lock_send(&self) -> Guard<'static> {
        let header = self.header();
        let guard = lock(&header.send_lock);
        if guard.owner_died() {
            self.arena.header().reap_wanted.store(1, Relaxed);
            self.repair_senders_end();
        }
        guard
    }

    #[inline]
    fn lock_recv(&self) -> Guard<'static> {
        let header = self.header();
        let guard = lock(&header.recv_lock);
        if guard.owner_died() {
            self.arena.header().reap_wanted.store(1, Relaxed);
            if let Some(ring) = self.ring_of(&header.recv_ring) {
                header.taken.store(ring.marks().head().sequence(), Release);
            }
        }
        guard
    }

    #[inline]
    fn ring_of(&self, word: &AtomicU64) -> Option<Ring> {
        Ring::at(&self.arena, word.load(Acquire))
    }

    /// The ring that senders write to: the last of the chain. The send lock is held.
    #[inline]
    fn send_ring(&self) -> Option<Ring> {
        self.ring_of(&self.header().send_ring)
    }

    /// Puts right what a sender left that died with the lock. The send lock is held.
    #[cold]
    fn repair_senders_end(&self) {
        let header = self.header();
        // Died after linking a ring and before noting it: the word is one ring behind. With the
        // receivers stopped that ring still exists: they note the new one before they leave it.
        let receivers = self.lock_recv();
        while let Some(next) = self.send_ring().and_then(|ring| ring.next(&self.arena)) {
            store64(&header.send_ring, next.word(), Release);
        }
        drop(receivers);
        // Died after publishing and before counting.
        if let Some(ring) = self.send_ring() {
            header.sent.store(ring.marks().tail().sequence(), Release);
        }
    }

    /// Links a ring twice as large behind `ring`, which is full. The send lock is held.
    #[cold]
    fn add_ring(&self, me: u32, ring: &Ring, tail: Mark) -> Result<Ring, TrySendError> {
        let cells = (ring.capacity() * 2).min(MOST_CELLS);
        let new = Ring::create(&self.arena, me, cells, Mark::start(tail.sequence())).map_err(TrySendError::Memory)?;
        ring.marks().link(new.word()); // commits
        let header = self.header();
        store64(&header.send_ring, new.word(), Relaxed);
        header.rings_made.fetch_add(1, Relaxed);
        Ok(new)
    }

    /// Takes one message into `message`.
    #[inline]
    pub fn try_recv(&self, message: &mut Message) -> Result<(), TryRecvError> {
        let me = self.enter()?;
        if !message.blocks.is_empty() {
            message.blocks.clear(); // of the message before; not with the lock held
        }
        let guard = self.lock_recv();
        let outcome = self.take(
            me,
            message,
            |message| &mut message.blocks,
            |message, record, sequence| {
                message.tag = record.tag;
                message.sequence = sequence;
                message.set(record.payload);
            },
        );
        drop(guard);
        outcome?;
        self.announce_space(1);
        Ok(())
    }

    /// Takes up to `max` messages into `batch` (emptied first). Returns how many; never zero.
    pub fn try_recv_batch(&self, max: usize, batch: &mut InBatch) -> Result<usize, TryRecvError> {
        batch.clear();
        let me = self.enter()?;
        let guard = self.lock_recv();
        let mut outcome = Ok(());
        while batch.len() < max {
            outcome = self.take(
                me,
                batch,
                |batch| &mut batch.blocks,
                |batch, record, _| {
                    batch.push(record.tag, record.payload);
                },
            );
            if outcome.is_err() {
                break;
            }
        }
        drop(guard);
        if batch.len() == 0 {
            return outcome.map(|()| 0);
        }
        self.announce_space(batch.len() as u32);
        Ok(batch.len())
    }

    #[inline]
    fn announce_space(&self, messages: u32) {
        let header = self.header();
        if self.maxsize > 0 {
            let woken = header.writable.notify(&KernelFutex, messages);
            if woken > 0 {
                header.wakes.fetch_add(woken as u64, Relaxed);
                self.arena.count(Counter::Wakes, woken as u64);
            }
        }
        // Read after `taken` was changed under the lock that `arm_event` takes after arming: one of
        // the two sees the other.
        if header.fd_armed.load(Relaxed) != 0 && self.is_empty() {
            self.settle_event();
        }
    }

    #[cold]
    fn raise_event(&self) {
        let Some(event) = &self.event else { return };
        memfd::raise(event.as_fd());
        fence(SeqCst);
        // A receiver may have taken the message, and lowered, before we raised.
        if self.is_empty() {
            self.settle_event();
        }
    }

    /// Makes the event descriptor readable exactly if there are messages. Whoever makes the channel
    /// empty or not empty comes here (or to `raise_event`) after that, and looks once more after
    /// each change of the descriptor: so whoever acts on an outdated view corrects it himself.
    #[cold]
    fn settle_event(&self) {
        let Some(event) = &self.event else { return };
        loop {
            let empty = self.is_empty();
            if empty {
                memfd::lower(event.as_fd())
            } else {
                memfd::raise(event.as_fd())
            }
            fence(SeqCst);
            if self.is_empty() == empty {
                return;
            }
        }
    }

    /// Takes the first message: its blocks go behind those that are in `blocks` of `into`, and
    /// `use_record` copies the rest out of the ring. The recv lock is held.
    #[inline]
    fn take<T>(
        &self,
        me: u32,
        into: &mut T,
        blocks: impl FnOnce(&mut T) -> &mut Vec<Block>,
        use_record: impl FnOnce(&mut T, &Record<'_>, u64),
    ) -> Result<(), TryRecvError> {
        let header = self.header();
        if header.state.load(Relaxed) != ALIVE {
            return Err(TryRecvError::Closed);
        }
        let mut ring = self.ring_of(&header.recv_ring).ok_or(TryRecvError::Closed)?;
        loop {
            let head = ring.marks().head();
            match ring.marks().front(head) {
                Front::Message => {}
                Front::Empty => return Err(TryRecvError::Empty),
                Front::Successor(word) => {
                    let next = Ring::at(&self.arena, word).ok_or(TryRecvError::Corrupt)?;
                    self.leave_ring(me, &ring, &next);
                    ring = next;
                    continue;
                }
            }
            let (record, references, end) = ring.read(head).ok_or(TryRecvError::Corrupt)?;
            if !references.is_empty() {
                self.claim_blocks(me, references, blocks(into))?;
            }
            let claim = self.claim.load(Relaxed);
            if claim != 0 {
                store64(self.claim_word(claim - 1), head.sequence() + 1, Relaxed);
            }
            use_record(into, &record, head.sequence());
            ring.marks().release(end); // commits
            store64(&header.taken, end.sequence(), Release);
            return Ok(());
        }
    }

    /// Makes a message's blocks this process's. They stay reachable through the ring until the head
    /// passes the message, so dying in between loses nothing.
    #[cold]
    fn claim_blocks(&self, me: u32, references: &[BlockRef], blocks: &mut Vec<Block>) -> Result<(), TryRecvError> {
        let before = blocks.len();
        for reference in references {
            let descriptor = self.arena.descriptor(reference.index).ok_or(TryRecvError::Corrupt)?;
            if descriptor.generation.load(Relaxed) != reference.generation {
                blocks.drain(before..).for_each(core::mem::forget);
                return Err(TryRecvError::Corrupt);
            }
            store(&descriptor.owner, me, Relaxed);
            blocks.push(self.arena.block(reference.index, me, reference.len as usize));
        }
        Ok(())
    }

    /// Goes on to the next ring and gives the old one back. The recv lock is held.
    #[cold]
    fn leave_ring(&self, me: u32, ring: &Ring, next: &Ring) {
        let (old, new) = (ring.word(), next.word());
        // The sender that linked `next` notes it right after; should it have died in between, the
        // word must not go on naming a block that others are about to use. Both store the same
        // value, and nobody else can until the send lock is free.
        let _ = self.header().send_ring.compare_exchange(old, new, AcqRel, Relaxed);
        crate::crash::point();
        ring.own(&self.arena, me);
        store64(&self.header().recv_ring, new, Release); // commits
        self.arena.release(ring.index());
    }

    /// Messages in the channel. Exact when nobody sends or receives at this moment.
    #[inline]
    pub fn len(&self) -> u64 {
        let header = self.header();
        let taken = header.taken.load(Acquire);
        let distance = sequence_distance(taken, header.sent.load(Acquire));
        // `taken` may run ahead of a `sent` that was read before it.
        if distance > ring::SEQUENCE_MASK / 2 { 0 } else { distance }
    }

    /// Whether there is no message.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a bounded channel holds as many messages as it may.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.maxsize > 0 && self.len() >= u64::from(self.maxsize)
    }

    /// A word that every user of the channel sees; 0 at first. It means what they agree on.
    #[inline]
    pub fn note(&self) -> u64 {
        self.header().note.load(Acquire)
    }

    /// Changes the note in one step.
    pub fn change_note(&self, change: impl Fn(u64) -> u64) {
        let _ = self.header().note.fetch_update(AcqRel, Acquire, |note| Some(change(note)));
    }

    /// How many messages were ever taken (modulo 2^44).
    pub fn taken(&self) -> u64 {
        self.header().taken.load(Acquire)
    }

    /// Whether message `sequence` was taken by somebody.
    pub fn was_taken(&self, sequence: u64) -> bool {
        let _guard = self.lock_recv(); // lets the mirror catch up if a receiver died
        precedes(sequence, self.taken())
    }

    /// From now on each message taken through this handle is noted in claim slot `slot` in the
    /// same step, so that others can tell what a receiver was working on when it died.
    /// Returns false if the channel has no such slot.
    pub fn set_claim_slot(&self, slot: u32) -> bool {
        let exists = slot < self.claim_slots;
        if exists {
            self.claim.store(slot + 1, Relaxed);
        }
        exists
    }

    fn claim_word(&self, slot: u32) -> &'static AtomicU64 {
        let at = self.header_at + BODY_AT + u64::from(slot) * size_of::<AtomicU64>() as u64;
        self.arena.inner.segment.at(at)
    }

    /// The last message noted in a claim slot.
    pub fn claim(&self, slot: u32) -> Option<u64> {
        if slot >= self.claim_slots {
            return None;
        }
        self.claim_word(slot).load(Acquire).checked_sub(1)
    }

    /// Empties a claim slot, for its next user.
    pub fn clear_claim(&self, slot: u32) {
        if slot < self.claim_slots {
            self.claim_word(slot).store(0, Release);
        }
    }

    /// Waits until there may be a message, at most for `timeout`.
    ///
    /// Spins briefly, then sleeps. To be called in slices (some tens of milliseconds on a thread
    /// that has to look for signals, a second elsewhere): a wake-up is lost if the process that
    /// was chosen for it dies, and the end of the slice makes up for that.
    pub fn wait_readable(&self, timeout: Duration) -> Wait {
        let header = self.header();
        self.wait(&header.readable, &self.recv_spin, timeout, |exactly| {
            if exactly { self.has_message_exactly() } else { !self.is_empty() }
        })
    }

    /// As `wait_readable`, but also ends when one of the descriptors `watched` becomes readable or its other end goes: the
    /// pidfd of a process whose message may never come, say. Looks at them after a few milliseconds of silence only. What
    /// is no open descriptor is ignored.
    pub fn wait_readable_watching(&self, watched: &[RawFd], timeout: Duration) -> Wait {
        let first = timeout.min(WATCH_AFTER);
        let waited = self.wait_readable(first);
        let Some(event) = &self.event else {
            return if waited == Wait::TimedOut { self.wait_readable(timeout - first) } else { waited };
        };
        if waited != Wait::TimedOut {
            return waited;
        }
        let header = self.header();
        // Killed before the other half, this process leaves the descriptor armed: dearer, not wrong.
        header.fd_armed.fetch_add(ARMED_ONCE, SeqCst);
        self.start_event();
        let waited = match crate::sys::poll::wait(event.as_fd(), watched, timeout - first) {
            Ok(None) => Wait::TimedOut,
            Ok(Some(true)) => Wait::Ready,
            Ok(Some(false)) => Wait::Watched,
            Err(_) => Wait::Interrupted,
        };
        header.fd_armed.fetch_sub(ARMED_ONCE, SeqCst);
        waited
    }

    /// Waits until there may be room for a message, at most for `timeout`. As `wait_readable`.
    pub fn wait_writable(&self, timeout: Duration) -> Wait {
        let header = self.header();
        self.wait(&header.writable, &self.send_spin, timeout, |exactly| {
            if exactly {
                drop(self.lock_recv()); // lets `taken` catch up if a receiver died
            }
            !self.is_full()
        })
    }

    fn wait(
        &self,
        word: &EventWord,
        spin: &SpinPolicy,
        timeout: Duration,
        mut ready: impl FnMut(bool) -> bool,
    ) -> Wait {
        if spin.spin(|| ready(false)) || self.enter().is_err() {
            return Wait::Ready; // in the second case the next try says what is wrong
        }
        let ticket = word.announce();
        if ready(true) || self.header().state.load(Relaxed) != ALIVE {
            return Wait::Ready;
        }
        self.header().waits.fetch_add(1, Relaxed);
        self.arena.count(Counter::Sleeps, 1);
        let started = crate::sys::process::monotonic_ns();
        match word.sleep(&KernelFutex, ticket, timeout) {
            Sleep::Woken => {
                spin.slept(crate::sys::process::monotonic_ns() - started);
                Wait::Ready
            }
            Sleep::TimedOut if ready(true) => Wait::Ready,
            Sleep::TimedOut => {
                self.arena.reap_if_wanted();
                Wait::TimedOut
            }
            Sleep::Interrupted => Wait::Interrupted,
        }
    }

    /// As `!is_empty()`, but also right after a sender died between publishing a message and
    /// counting it.
    fn has_message_exactly(&self) -> bool {
        let _guard = self.lock_recv();
        let Some(mut ring) = self.ring_of(&self.header().recv_ring) else { return false };
        loop {
            if ring.marks().has_message_exactly(ring.marks().head()) {
                return true;
            }
            match ring.next(&self.arena) {
                Some(next) => ring = next,
                None => return false,
            }
        }
    }

    /// Wakes everybody who waits on the channel; they look again.
    pub fn wake_all(&self) {
        let header = self.header();
        header.readable.notify_all(&KernelFutex);
        header.writable.notify_all(&KernelFutex);
    }

    /// The descriptor that goes with the channel, to be handed to children with the ticket.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(AsFd::as_fd)
    }

    /// From now on the event descriptor is readable exactly while the channel holds messages, in
    /// all processes. Costs each send and receive a system call, so only on request.
    pub fn arm_event(&self) {
        self.header().fd_armed.fetch_or(ARMED_FOR_EVER, SeqCst);
        self.start_event();
    }

    /// After arming: brings the descriptor in line with what is in the channel.
    fn start_event(&self) {
        fence(SeqCst);
        // Let the counts catch up, should somebody have died; see also `announce_space`.
        drop(self.lock_send());
        drop(self.lock_recv());
        self.settle_event();
    }

    /// Figures about the channel.
    pub fn statistics(&self) -> ChannelStatistics {
        let header = self.header();
        // Both, so that the counts have caught up with what a dead process did.
        let guard = (self.lock_send(), self.lock_recv());
        let (mut rings, mut ring_bytes) = (0, 0);
        let mut next = self.ring_of(&header.recv_ring);
        while let Some(ring) = next {
            rings += 1;
            ring_bytes += u64::from(ring.capacity()) * ring::CELL as u64;
            next = ring.next(&self.arena);
        }
        drop(guard);
        ChannelStatistics {
            sent: header.sent.load(Acquire),
            taken: header.taken.load(Acquire),
            rings_made: header.rings_made.load(Relaxed),
            rings,
            ring_bytes,
            waits: header.waits.load(Relaxed),
            wakes: header.wakes.load(Relaxed),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if crate::crash::crashed() {
            return;
        }
        let me = self.arena.inner.me.get();
        if me == self.holder.load(Relaxed) || self.arena.inherited(me) {
            root::release(&self.arena, self.id, me);
        }
    }
}

/// A handle for the housekeeping of a channel that nobody may have a handle on any more. Never
/// dropped: it has no count of its own.
fn caretaker(arena: &Arena, descriptor: &Descriptor) -> Option<core::mem::ManuallyDrop<Channel>> {
    let (header_at, _) = arena.extent(descriptor)?;
    let id = RootId { index: 0, generation: 0 };
    Some(core::mem::ManuallyDrop::new(Channel::new(*arena, id, header_at, None)))
}

/// Collects what a channel keeps alive: its rings and the blocks of the messages in them.
pub(crate) fn survey(arena: &Arena, descriptor: &Descriptor, reachable: &mut Reachable) {
    let Some(channel) = caretaker(arena, descriptor) else { return };
    let header = channel.header();
    let _send = channel.lock_send();
    let _recv = channel.lock_recv();
    let mut next = channel.ring_of(&header.recv_ring);
    while let Some(ring) = next {
        reachable.insert(ring.index());
        let mut head = ring.marks().head();
        while ring.marks().has_message_exactly(head) {
            let Some((_, references, end)) = ring.read(head) else { break };
            references.iter().for_each(|reference| reachable.insert(reference.index));
            head = end;
        }
        next = ring.next(arena);
    }
    // Whoever died may have been about to wake somebody.
    channel.wake_all();
}

/// Gives back a channel's messages and rings. Repeatable at every step.
pub(crate) fn empty_for_destruction(arena: &Arena, descriptor: &Descriptor, me: u32) {
    let Some(channel) = caretaker(arena, descriptor) else { return };
    let header = channel.header();
    let _send = channel.lock_send();
    let _recv = channel.lock_recv();
    let mut blocks = Vec::new();
    while channel.take(me, &mut blocks, |blocks| blocks, |blocks, _, _| blocks.clear()).is_ok() {}
    if let Some(last) = channel.ring_of(&header.recv_ring) {
        last.own(arena, me);
        // Before the ring goes: whoever repeats this follows the word.
        store64(&header.send_ring, 0, Relaxed);
        store64(&header.recv_ring, 0, Release); // commits
        arena.release(last.index());
    }
    if header.state.swap(0, Relaxed) == ALIVE {
        // From here on the arena counts them; see `messages_sent`.
        let sent = header.sent.load(Relaxed);
        arena.header().departed[Counter::Messages as usize].fetch_add(sent, Relaxed);
    }
}

/// Messages sent over all channels that exist.
pub(crate) fn messages_sent(arena: &Arena) -> u64 {
    let guard = arena.lock_roots();
    let sent = root::of_kind(arena, kind::CHANNEL)
        .filter_map(|descriptor| caretaker(arena, descriptor))
        .map(|channel| channel.header.sent.load(Relaxed))
        .sum();
    drop(guard);
    sent
}

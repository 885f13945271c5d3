//! Pipes whose large messages go through shared memory.
//!
//! A pipe carries what the standard library's `Connection` writes: a length, and that many bytes. A long message goes into
//! a quiet channel of the pair's (one for each direction, a *lane*), and the pipe carries a *parcel* in its place: a pickle
//! of fixed length that names the lane and the message's number in it. Whoever reads the pipe with our `Connection`
//! recognises the parcel and takes the message; whoever unpickles it otherwise gets the object all the same, as long as
//! he is one of this tree of processes.
//!
//! **Who owns a long message.** The lane, which lives as long as anybody has a handle on it; each connection object has
//! one on each of its lanes, and closing it gives them back. So nothing outlives both ends, whoever is killed when.
//!
//! | killed | what is left | put right by |
//! |---|---|---|
//! | sender, after the message and before its parcel | a message whose number never comes | the reader of the next parcel passes over it; the last handle |
//! | reader, after the parcel and before the message | the same | the same |
//! | reader, with messages under way | messages | the sender, whose next write fails, empties the lane; the last handle |
//!
//! **Who may read.** A message may take the lane only if all who read the other end are ours. The lane's note says so:
//!
//! | bit | set | cleared |
//! |---|---|---|
//! | DOUBTED | somebody was told the descriptor of the reading end, and may read it in his own way | by a `recv` of ours at that end |
//! | TRUSTED | by that `recv`: this program uses descriptors to wait | never |
//! | from MOVING | one for each reading end that was pickled to another process, which may not be of this tree | when it was unpickled in this tree |
//!
//! Objects take the lane if no bit but TRUSTED is set; bytes, which mean something only to our `Connection`, if none is.
//!
//! **How much.** At most [`UNDER_WAY`] messages are in a lane; then the sender waits for the reader, as it would for room
//! in the pipe, and as there it ends with an error if there is no reader any more. Where no memory can be had, the message
//! goes through the pipe.

use core::time::Duration;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use breakeven_shm::{
    Arena, Block, Channel as Shared, ChannelConfig, Message, RootId, Ticket, TryRecvError, TrySendError, stream,
};
use breakeven_wire::{Kind, SPILLED};
use pyo3::exceptions::{PyEOFError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::channel::{changed, decode_blocks, fill_outgoing, open, receive_error};
use crate::codec::{self, Held, INLINE, Outgoing, PIPED_FROM, Piped, Space};
use crate::enter::{Deadline, wait_slice};
use crate::statics::statics;
use crate::{arena, error};

/// Most messages in a lane. One would do for order; some keep both sides busy.
const UNDER_WAY: u32 = 8;
/// A wait for the reader looks this often whether there still is one.
const STEP: Duration = Duration::from_millis(50);

const DOUBTED: u64 = 1;
const TRUSTED: u64 = 2;
const MOVING: u64 = 1 << 8;

const EPIPE: i32 = 32;
const EINTR: i32 = 4;

type Secret = [u8; 16];

/// One direction of a pipe.
struct Lane {
    channel: Shared,
    secret: Secret,
    /// The parcel of message 0.
    parcel: Vec<u8>,
}

/// Where a parcel has the number of its message.
const NUMBER: usize = 10;

impl Lane {
    fn new(channel: Shared, secret: Secret) -> Lane {
        let (device, inode) = channel.arena().identity();
        // Protocol 4; STACK_GLOBAL of the function, a tuple of its arguments, REDUCE.
        let mut parcel = vec![0x80, 4];
        for text in ["breakeven._native", "_parcel"] {
            parcel.extend([0x8c, text.len() as u8]);
            parcel.extend(text.as_bytes());
        }
        parcel.extend([0x93, b'(', b'C', secret.len() as u8]);
        parcel.extend(secret);
        for number in [device, inode, channel.id().to_bits(), 0] {
            parcel.extend([0x8a, 9]);
            parcel.extend(number.to_le_bytes());
            parcel.push(0); // so that none is negative
        }
        parcel.extend(*b"tR.");
        Lane { channel, secret, parcel }
    }

    fn open(arena: &Arena, id: u64, lender: u32, secret: Secret) -> PyResult<Lane> {
        let ticket = Ticket { id: RootId::from_bits(id), lender };
        Ok(Lane::new(Shared::open(arena, ticket, None).map_err(|e| error::open(&e))?, secret))
    }

    fn number_at(&self) -> usize {
        self.parcel.len() - b"tR.".len() - (NUMBER - 1)
    }

    /// The parcel of message `sequence`, with its length before it, as the pipe carries it.
    fn parcel_of(&self, sequence: u64) -> Vec<u8> {
        let mut framed = frame(self.parcel.len());
        framed.extend(&self.parcel);
        let at = 4 + self.number_at();
        framed[at..at + 8].copy_from_slice(&sequence.to_le_bytes());
        framed
    }

    /// Which message these bytes stand for, if they are a parcel of this lane.
    fn number_of(&self, bytes: &[u8]) -> Option<u64> {
        let at = self.number_at();
        if bytes.len() != self.parcel.len()
            || bytes[..at] != self.parcel[..at]
            || bytes[at + 8..] != self.parcel[at + 8..]
        {
            return None;
        }
        Some(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")))
    }

    /// Takes message `sequence`, passing over those before it: nobody is going to ask for them.
    fn take(&self, sequence: u64) -> PyResult<Message> {
        let mut message = Message::new();
        loop {
            match self.channel.try_recv(&mut message) {
                Ok(()) if message.sequence == sequence => return Ok(message),
                Ok(()) => {}
                Err(TryRecvError::Empty) => {
                    return Err(PyOSError::new_err(
                        "the data of this message is gone: somebody else who reads the same end has taken it",
                    ));
                }
                Err(error) => return Err(receive_error(&error)),
            }
        }
    }

    /// Gives back what nobody can receive any more.
    fn empty(&self) {
        let mut message = Message::new();
        while self.channel.try_recv(&mut message).is_ok() {}
    }
}

/// A length as `Connection` writes it. Longer messages than an i32 can count do not come here.
fn frame(len: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(4 + len);
    framed.extend((len as i32).to_be_bytes());
    framed
}

/// What a connection object has of the pipe's shared half. It knows no descriptor: each call is told it, so that closing
/// and duplicating stay the connection's own. Holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct PipeEnd {
    incoming: Option<Lane>,
    outgoing: Option<Lane>,
}

/// Identity of an arena, lender (0 for none), incoming lane, outgoing lane, secret.
type Name = (u64, u64, u32, Option<u64>, Option<u64>, Secret);

#[pymethods]
impl PipeEnd {
    /// The two ends of a new pipe; of one that is not `duplex` the first one receives. `secret`: 16 random bytes.
    #[staticmethod]
    fn pair(py: Python<'_>, duplex: bool, secret: Secret) -> PyResult<(PipeEnd, PipeEnd)> {
        let arena = arena::arena(py)?;
        let lane = || -> PyResult<(Lane, Lane)> {
            let config = ChannelConfig { maxsize: UNDER_WAY, claim_slots: 0 };
            let channel = Shared::create_quiet(&arena, config).map_err(|e| error::memory(py, &e))?;
            let id = channel.id().to_bits();
            Ok((Lane::new(channel, secret), Lane::open(&arena, id, 0, secret)?))
        };
        let (to_first, from_second) = lane()?;
        let mut ends = (
            PipeEnd { incoming: Some(to_first), outgoing: None },
            PipeEnd { incoming: None, outgoing: Some(from_second) },
        );
        if duplex {
            let (to_second, from_first) = lane()?;
            ends.0.outgoing = Some(from_first);
            ends.1.incoming = Some(to_second);
        }
        Ok(ends)
    }

    /// The end that `name` or `lend` described. Takes ownership of `arena_fd`; without one, the arena must be one that this
    /// process uses already, and the result is None if it is not, or if the pipe's shared half is gone.
    #[staticmethod]
    fn attach(arena_fd: Option<i32>, name: Name) -> PyResult<Option<PipeEnd>> {
        let (device, inode, lender, incoming, outgoing, secret) = name;
        let arena = match arena_fd {
            Some(fd) if fd < 0 => return Err(PyValueError::new_err("arena_fd must be an open file descriptor")),
            Some(fd) => {
                // SAFETY: the caller gives the descriptor away, as documented; nothing else closes it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Some(Arena::attach(fd).map_err(|e| error::attach(&e))?)
            }
            None => Arena::all().find(|arena| arena.identity() == (device, inode)),
        };
        let Some(arena) = arena else { return Ok(None) };
        let lane = |id: Option<u64>| id.map(|id| Lane::open(&arena, id, lender, secret)).transpose();
        match (lane(incoming), lane(outgoing)) {
            (Ok(incoming), Ok(outgoing)) => Ok(Some(PipeEnd { incoming, outgoing })),
            (Err(error), _) | (_, Err(error)) if arena_fd.is_some() => Err(error),
            _ => Ok(None),
        }
    }

    /// What `attach` takes in a process that has the arena, or is given its descriptor. Somebody must keep this end, or a
    /// copy of it, until then.
    fn name(&self) -> PyResult<Name> {
        self.name_with(0)
    }

    /// As `name`, and the shared half is kept for whoever attaches, until he has, or this process ends.
    fn lend(&self) -> PyResult<Name> {
        let mut lender = 0;
        for lane in [&self.incoming, &self.outgoing].into_iter().flatten() {
            lender = lane.channel.lend().map_err(|e| error::open(&e))?.lender;
        }
        self.name_with(lender)
    }

    /// The same end once more.
    fn copy(&self) -> PyResult<PipeEnd> {
        let again = |lane: &Option<Lane>| {
            let Some(lane) = lane else { return Ok(None) };
            Lane::open(&lane.channel.arena(), lane.channel.id().to_bits(), 0, lane.secret).map(Some)
        };
        Ok(PipeEnd { incoming: again(&self.incoming)?, outgoing: again(&self.outgoing)? })
    }

    /// The arena's descriptor, which stays this process's.
    #[getter]
    fn arena_fd(&self) -> PyResult<i32> {
        let fd = self.any()?.channel.arena().fd();
        Ok(fd.ok_or_else(|| PyOSError::new_err("the arena has no descriptor"))?.as_raw_fd())
    }

    /// Says that somebody learned the descriptor of this end, and may read it in his own way.
    fn doubt(&self) {
        if let Some(lane) = &self.incoming
            && lane.channel.note() & TRUSTED == 0
        {
            lane.channel.change_note(|note| if note & TRUSTED == 0 { note | DOUBTED } else { note });
        }
    }

    /// Says that this end is on its way to a process that may not be able to attach it.
    fn depart(&self) {
        if let Some(lane) = &self.incoming {
            lane.channel.change_note(|note| note.saturating_add(MOVING));
        }
    }

    /// Says that an end that departed was attached.
    fn arrive(&self) {
        if let Some(lane) = &self.incoming {
            lane.channel.change_note(|note| if note >= MOVING { note - MOVING } else { note });
        }
    }

    /// Whether long objects that are sent here take shared memory at the moment.
    #[getter]
    fn shares(&self) -> bool {
        self.lane_for_objects().is_some()
    }

    /// Sends an object. False if it is to be sent in the standard library's way: the reader may not be ours, or there is no
    /// memory.
    fn send(&self, py: Python<'_>, fd: i32, obj: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(lane) = self.lane_for_objects() else { return Ok(false) };
        let mut space: Space = [0; INLINE];
        // The first look at a long list guesses; and another thread may change it between being looked at and copied.
        for attempt in 0..10 {
            match codec::piped(obj, &mut space, attempt == 0)? {
                Piped::Stream(pieces, len) => {
                    let mut framed = frame(len);
                    for piece in &pieces {
                        // SAFETY: the buffer is exported while `pieces` lives; the bytes are copied at once.
                        framed.extend(unsafe { core::slice::from_raw_parts(piece.start(), piece.len()) });
                    }
                    drop(pieces);
                    self.write(py, fd, &framed)?;
                    return Ok(true);
                }
                Piped::Blocks(outgoing) => match self.send_by(py, lane, fd, &outgoing, &space)? {
                    Sent::Yes => return Ok(true),
                    Sent::NoMemory => return Ok(false),
                    Sent::Changed => {}
                },
            }
        }
        Err(changed())
    }

    /// Sends bytes. False as for `send`.
    fn send_bytes(&self, py: Python<'_>, fd: i32, data: &Bound<'_, PyAny>) -> PyResult<bool> {
        let held = Held::new(data)?;
        if !held.contiguous() {
            return Ok(false);
        }
        let len = held.len();
        if len < PIPED_FROM {
            let mut framed = frame(len);
            // SAFETY: the buffer is exported, contiguous, and copied at once.
            framed.extend(unsafe { core::slice::from_raw_parts(held.start(), len) });
            drop(held);
            self.write(py, fd, &framed)?;
            return Ok(true);
        }
        drop(held);
        let Some(lane) = self.outgoing.as_ref().filter(|lane| lane.channel.note() == 0) else { return Ok(false) };
        let mut space: Space = [0; INLINE];
        let outgoing = codec::raw(data, &mut space)?;
        match self.send_by(py, lane, fd, &outgoing, &space)? {
            Sent::Yes => Ok(true),
            Sent::NoMemory => Ok(false),
            Sent::Changed => Err(changed()),
        }
    }

    /// Receives an object; waits for one. Raises EOFError if there is none and nobody can send one.
    fn recv<'py>(&self, py: Python<'py>, fd: i32) -> PyResult<Bound<'py, PyAny>> {
        match self.receive(py, fd, None)? {
            Received::Bytes(bytes) => codec::loads(py, &bytes),
            Received::Parcel(mut message) => {
                let raw = is_raw(&message);
                let object = open_detached(py, &mut message)?;
                if raw { codec::loads(py, &object) } else { Ok(object) }
            }
            Received::TooLong => unreachable!("without a limit nothing is too long"),
        }
    }

    /// Receives bytes; None if there are more than `maxsize`. Otherwise as `recv`.
    #[pyo3(signature = (fd, maxsize=None))]
    fn recv_bytes<'py>(&self, py: Python<'py>, fd: i32, maxsize: Option<u64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let fits = |len: u64| maxsize.is_none_or(|most| len <= most);
        match self.receive(py, fd, maxsize)? {
            Received::Bytes(bytes) => Ok(Some(bytes)),
            Received::TooLong => Ok(None),
            Received::Parcel(mut message) => {
                let raw = is_raw(&message);
                if raw && !fits(raw_len(&message)) {
                    return Ok(None);
                }
                let object = open_detached(py, &mut message)?;
                let bytes: Bound<'py, PyBytes> = if raw {
                    object.cast_into()?
                } else {
                    // What `send` sent, as it would have come through the pipe.
                    let pickler = py.import("multiprocessing.reduction")?.getattr("ForkingPickler")?;
                    let stream = pickler.call_method1("dumps", (object,))?;
                    stream.call_method0("tobytes")?.cast_into()?
                };
                Ok(fits(bytes.as_bytes().len() as u64).then_some(bytes))
            }
        }
    }

    fn __repr__(&self) -> String {
        let lanes = [&self.incoming, &self.outgoing].into_iter().flatten();
        let under_way: u64 = lanes.map(|lane| lane.channel.len()).sum();
        format!("<breakeven.PipeEnd, {under_way} messages in shared memory>")
    }
}

enum Sent {
    Yes,
    NoMemory,
    Changed,
}

enum Received<'py> {
    Bytes(Bound<'py, PyBytes>),
    Parcel(Box<Message>),
    TooLong,
}

impl PipeEnd {
    fn any(&self) -> PyResult<&Lane> {
        let lane = self.incoming.as_ref().or(self.outgoing.as_ref());
        lane.ok_or_else(|| PyRuntimeError::new_err("a pipe's end has at least one lane"))
    }

    fn name_with(&self, lender: u32) -> PyResult<Name> {
        let any = self.any()?;
        let (device, inode) = any.channel.arena().identity();
        let id = |lane: &Option<Lane>| lane.as_ref().map(|lane| lane.channel.id().to_bits());
        Ok((device, inode, lender, id(&self.incoming), id(&self.outgoing), any.secret))
    }

    fn lane_for_objects(&self) -> Option<&Lane> {
        self.outgoing.as_ref().filter(|lane| lane.channel.note() & !TRUSTED == 0)
    }

    /// Sends a laid-out message through the lane, and its parcel through the pipe.
    fn send_by(&self, py: Python<'_>, lane: &Lane, fd: i32, outgoing: &Outgoing<'_>, space: &Space) -> PyResult<Sent> {
        // Before any memory is taken: a sender that is ahead must not fill it.
        let past_bound = self.wait_for_room(py, lane, fd)?;
        let mut blocks: Vec<Block> = match fill_outgoing(py, &lane.channel.arena(), outgoing, None) {
            Ok(Some(blocks)) => blocks,
            Ok(None) => return Ok(Sent::Changed),
            Err(error) if error.is_instance(py, statics(py).memory_limit_error.bind(py)) => return Ok(Sent::NoMemory),
            Err(error) => return Err(error),
        };
        let payload = &space[..outgoing.payload];
        let mut past_bound = past_bound;
        let sequence = loop {
            let sent = if past_bound {
                lane.channel.send_past_bound(outgoing.tag, payload, &mut blocks)
            } else {
                lane.channel.try_send(outgoing.tag, payload, &mut blocks)
            };
            match sent {
                Ok(sequence) => break sequence,
                // Another sender was faster.
                Err(TrySendError::Full) => past_bound = self.wait_for_room(py, lane, fd)?,
                Err(TrySendError::Memory(_)) => return Ok(Sent::NoMemory),
                Err(error) => return Err(PyOSError::new_err(error.to_string())),
            }
        };
        self.write(py, fd, &lane.parcel_of(sequence))?;
        Ok(Sent::Yes)
    }

    /// Waits until the lane has room. True: it is full, but of messages that nobody is going to ask for, since the pipe is
    /// empty; whoever reads the next parcel clears them away.
    fn wait_for_room(&self, py: Python<'_>, lane: &Lane, fd: i32) -> PyResult<bool> {
        while lane.channel.is_full() {
            if stream::reader_is_gone(fd) {
                lane.empty();
                return Err(failed(py, EPIPE));
            }
            let was_empty = stream::all_is_read(fd);
            wait_slice(py, Deadline::Never, |slice| lane.channel.wait_writable(slice.min(STEP)))?;
            if was_empty && stream::all_is_read(fd) && lane.channel.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes all of `bytes` to the pipe.
    fn write(&self, py: Python<'_>, fd: i32, mut bytes: &[u8]) -> PyResult<()> {
        while !bytes.is_empty() {
            match py.detach(|| stream::write(fd, bytes)) {
                Ok(written) => bytes = &bytes[written..],
                Err(EINTR) => py.check_signals()?,
                Err(errno) => {
                    if errno == EPIPE
                        && let Some(lane) = &self.outgoing
                    {
                        lane.empty();
                    }
                    return Err(failed(py, errno));
                }
            }
        }
        Ok(())
    }

    fn receive<'py>(&self, py: Python<'py>, fd: i32, maxsize: Option<u64>) -> PyResult<Received<'py>> {
        let lane = self.incoming.as_ref();
        if let Some(lane) = lane
            && lane.channel.note() & DOUBTED != 0
        {
            lane.channel.change_note(|note| (note | TRUSTED) & !DOUBTED);
        }
        let mut header = [0; 4];
        read_exactly(py, fd, &mut header)?;
        let mut len = i64::from(i32::from_be_bytes(header));
        if len == -1 {
            let mut header = [0; 8];
            read_exactly(py, fd, &mut header)?;
            len = i64::try_from(u64::from_be_bytes(header)).unwrap_or(i64::MAX);
        }
        let Ok(len) = usize::try_from(len) else {
            return Err(PyOSError::new_err(format!("what came through the pipe is no message: its length is {len}")));
        };
        if let Some(lane) = lane.filter(|lane| lane.parcel.len() == len) {
            let mut bytes = [0; 256];
            let bytes = &mut bytes[..len];
            read_exactly(py, fd, bytes)?;
            if let Some(sequence) = lane.number_of(bytes) {
                return lane.take(sequence).map(|message| Received::Parcel(Box::new(message)));
            }
            if maxsize.is_some_and(|most| len as u64 > most) {
                return Ok(Received::TooLong);
            }
            return Ok(Received::Bytes(PyBytes::new(py, bytes)));
        }
        if maxsize.is_some_and(|most| len as u64 > most) {
            return Ok(Received::TooLong);
        }
        Ok(Received::Bytes(PyBytes::new_with(py, len, |bytes| read_exactly(py, fd, bytes))?))
    }
}

/// Whether these are bytes of `send_bytes`, and not an object.
fn is_raw(message: &Message) -> bool {
    message.tag & !SPILLED == Kind::Raw.tag()
}

fn raw_len(message: &Message) -> u64 {
    let spilled = message.payload().first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    if message.tag & SPILLED != 0 { spilled.unwrap_or(0) } else { message.payload().len() as u64 }
}

fn open_detached<'py>(py: Python<'py>, message: &mut Message) -> PyResult<Bound<'py, PyAny>> {
    let blocks = core::mem::take(&mut message.blocks);
    match blocks.first().map(Block::arena) {
        Some(arena) => decode_blocks(py, &arena, message.tag, message.payload(), blocks, codec::decode),
        None => open(py, message),
    }
}

/// An OSError of the class that goes with the number.
#[cold]
fn failed(py: Python<'_>, errno: i32) -> PyErr {
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (errno,)));
    let text = text.and_then(|text| Ok(text.cast_into::<PyString>()?.to_string())).unwrap_or_default();
    PyOSError::new_err((errno, text))
}

/// Fills `bytes` from the pipe. EOFError if nothing came and nobody can write.
fn read_exactly(py: Python<'_>, fd: i32, bytes: &mut [u8]) -> PyResult<()> {
    let mut have = 0;
    while have < bytes.len() {
        match py.detach(|| stream::read(fd, &mut bytes[have..])) {
            Ok(0) if have == 0 => return Err(PyEOFError::new_err(())),
            Ok(0) => return Err(PyOSError::new_err("got end of file during message")),
            Ok(more) => have += more,
            Err(EINTR) => py.check_signals()?,
            Err(errno) => return Err(failed(py, errno)),
        }
    }
    Ok(())
}

/// What a parcel is when it is unpickled: the object, for readers of this tree that read the pipe in their own way.
#[pyfunction]
pub(crate) fn _parcel<'py>(
    py: Python<'py>,
    secret: Secret,
    device: u64,
    inode: u64,
    id: u64,
    sequence: u64,
) -> PyResult<Bound<'py, PyAny>> {
    let arena = Arena::all().find(|arena| arena.identity() == (device, inode)).ok_or_else(|| {
        PyOSError::new_err(
            "this message lies in the shared memory of another tree of processes: its sender did not know that the \
             pipe's descriptor would be read here; let the sender use multiprocessing.Pipe, or send_bytes",
        )
    })?;
    let lane = Lane::open(&arena, id, 0, secret)?;
    let mut message = lane.take(sequence)?;
    let raw = is_raw(&message);
    let object = open_detached(py, &mut message)?;
    if raw { codec::loads(py, &object) } else { Ok(object) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(arena: &Arena) -> Lane {
        let config = ChannelConfig { maxsize: UNDER_WAY, claim_slots: 0 };
        Lane::new(Shared::create_quiet(arena, config).expect("memory"), [7; 16])
    }

    #[test]
    fn a_parcel_is_known_by_its_lane_only() {
        let arena = Arena::heap(1 << 20, 1 << 22).expect("an arena");
        let (one, other) = (lane(&arena), lane(&arena));
        let framed = one.parcel_of(0x0102_0304_0506);
        let (header, parcel) = framed.split_at(4);
        assert_eq!(i32::from_be_bytes(header.try_into().expect("four")) as usize, parcel.len());
        assert!(parcel.len() < 256);
        assert_eq!(one.number_of(parcel), Some(0x0102_0304_0506));
        assert_eq!(other.number_of(parcel), None);
        assert_eq!(one.number_of(&parcel[1..]), None);
    }

    #[test]
    fn messages_that_nobody_asked_for_are_passed_over() {
        let arena = Arena::heap(1 << 20, 1 << 22).expect("an arena");
        let lane = lane(&arena);
        for number in 0..3u8 {
            let sent = lane.channel.try_send(0, &[number], &mut Vec::new());
            assert_eq!(sent.expect("room"), u64::from(number));
        }
        assert_eq!(lane.take(2).map(|message| message.payload().to_vec()).ok(), Some(vec![2]));
        assert!(lane.channel.is_empty());
    }

    #[test]
    fn a_full_lane_takes_more_where_that_is_asked_for() {
        let arena = Arena::heap(1 << 20, 1 << 22).expect("an arena");
        let lane = lane(&arena);
        for _ in 0..UNDER_WAY {
            lane.channel.try_send(0, &[], &mut Vec::new()).expect("room");
        }
        assert!(matches!(lane.channel.try_send(0, &[], &mut Vec::new()), Err(TrySendError::Full)));
        assert!(lane.channel.send_past_bound(0, &[], &mut Vec::new()).is_ok());
        lane.empty();
        assert!(lane.channel.is_empty());
    }
}

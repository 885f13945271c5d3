//! Channels: queues of objects between any number of processes.

use core::time::Duration;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use breakeven_shm::{
    AllocError, Arena, Block, Channel as SharedChannel, ChannelConfig, Counter, InBatch, Message, OutBatch, RootId,
    Ticket, TryRecvError, TrySendError, Wait,
};
use breakeven_wire::Kind;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};

use crate::closable::{Brief, Closable, User};
use crate::codec::{self, FillError, INLINE, ScalarSpace, SmallSpace, Space, Storage};
use crate::enter::{Deadline, wait_slice};
use crate::{arena, error};

/// A put that finds no memory waits for the channel's readers to free some; if the channel is empty and this long
/// nothing was freed, nobody is going to.
const MEMORY_PATIENCE: Duration = Duration::from_secs(1);
/// Messages that are collected before they are sent together.
const BATCH: usize = 512;
/// Most messages that are taken under one lock.
const TAKE: usize = 4096;

/// A queue of objects between processes, in shared memory. A handle on it is inherited by a forked child; for others see
/// `handle` and `attach`.
///
/// The list of hooks is the only Python object that it holds. It is tracked by the garbage collector, which breaks a cycle
/// through a hook by clearing the list; hence `__traverse__` without `__clear__`.
#[pyclass(frozen, weakref, module = "breakeven._native")]
pub(crate) struct Channel {
    shared: Closable<SharedChannel>,
    /// What to call with an object that cannot be encoded: nothing or one callable. A list, because that has its lock, if
    /// it needs one, from the interpreter.
    hooks: Py<PyList>,
    /// Most messages that it holds; 0 for no bound.
    #[pyo3(get)]
    maxsize: u32,
}

/// Blocks of so many bytes are entered into the page tables without the interpreter's lock.
const POPULATE_DETACHED_FROM: usize = 1 << 20;

type Inside<'a> = User<'a, SharedChannel>;

#[pymethods]
impl Channel {
    /// Makes a channel in this process's arena. `maxsize`: most messages that it holds, 0 for no bound. `claim_slots`:
    /// how many receivers can note what they took.
    #[new]
    #[pyo3(signature = (maxsize=0, *, claim_slots=0))]
    fn new(py: Python<'_>, maxsize: i64, claim_slots: u32) -> PyResult<Self> {
        // As in the standard library, a negative size means none. A size that no memory could hold is no bound either.
        let maxsize = if maxsize <= 0 { 0 } else { u32::try_from(maxsize).unwrap_or(0) };
        let arena = arena::arena(py)?;
        let shared =
            SharedChannel::create(&arena, ChannelConfig { maxsize, claim_slots }).map_err(|e| error::memory(py, &e))?;
        Ok(Channel::over(py, shared))
    }

    /// Opens the channel that `handle` described, in another process. Takes ownership of both descriptors.
    #[staticmethod]
    fn attach(py: Python<'_>, arena_fd: i32, channel_id: u128, event_fd: i32) -> PyResult<Self> {
        if arena_fd < 0 {
            return Err(PyValueError::new_err("arena_fd must be an open file descriptor"));
        }
        // SAFETY: the caller gives these descriptors away, as documented; nothing else closes them.
        let (arena_fd, event) =
            unsafe { (OwnedFd::from_raw_fd(arena_fd), (event_fd >= 0).then(|| OwnedFd::from_raw_fd(event_fd))) };
        let arena = Arena::attach(arena_fd).map_err(|e| error::attach(&e))?;
        let ticket = Ticket { id: RootId::from_bits(channel_id as u64), lender: (channel_id >> 64) as u32 };
        let shared = SharedChannel::open(&arena, ticket, event).map_err(|e| error::open(&e))?;
        Ok(Channel::over(py, shared))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.hooks)
    }

    /// Puts an object. Returns the message's sequence number in this channel, from 0. Raises `queue.Full`,
    /// `MemoryLimitError`, `ValueError` if the channel is closed, or why the object cannot be pickled.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        match self.put_one(py, obj, block, timeout)? {
            Ok(sequence) => Ok(sequence),
            Err(unencodable) => Err(unencodable),
        }
    }

    /// As `put`, but only of an object that needs no pickle; returns None, and puts nothing, if it is another. What is put
    /// so runs no code of the user's when it is taken, and shares no object with anything else.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put_plain(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<u64>> {
        let mut small: SmallSpace = [0; 128];
        if let Some(len) = codec::small(obj, &mut small) {
            return self.put_value(py, &small[..len], block, timeout).map(Some);
        }
        let deadline = Deadline::new(block, timeout)?;
        let channel = self.enter()?;
        let mut space: Space = [0; INLINE];
        let wait = WaitForMemory { channel: self, inside: &channel, deadline };
        match fill_as(Form::Value, py, &channel.arena(), obj, &mut space, Some(&wait))?? {
            None => Ok(None),
            Some((tag, payload, blocks)) => {
                self.send_payload(py, &channel, tag, &space[..payload], blocks, deadline).map(Some)
            }
        }
    }

    /// As `put`, but returns nothing, and gives an object that cannot be encoded to the error hook, if there is one.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn send(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match self.put_one(py, obj, block, timeout)? {
            Ok(_) => Ok(()),
            Err(unencodable) => self.give_to_hook(py, unencodable, obj),
        }
    }

    /// Sets what `send` and `put_many` do with an object that cannot be encoded, on this handle: they call
    /// `hook(exception, obj)`, drop the object and go on. `None`: they raise. Only for errors of the object's own
    /// (`Exception`), not for a full or closed channel or missing memory.
    #[pyo3(signature = (hook))]
    fn set_error_hook(&self, py: Python<'_>, hook: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let hooks = self.hooks.bind(py);
        hooks.del_slice(0, hooks.len())?;
        match hook {
            Some(hook) => hooks.append(hook),
            None => Ok(()),
        }
    }

    /// Takes an object. Raises `queue.Empty`, `ValueError` if the channel is closed, or why the object cannot be unpickled
    /// (it is taken all the same).
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut message = Message::new();
        self.receive(py, &mut message, block, timeout)?;
        open(py, &mut message)
    }

    /// As `get`, but where a tuple was sent with a long `Slice` of numbers or short sequences in it, `Items` comes in its
    /// place: an iterable that makes them in small parts, so that one who goes through it once needs no memory for all.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get_lazily<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut message = Message::new();
        self.receive(py, &mut message, block, timeout)?;
        open_as(py, &mut message, codec::decode_lazily)
    }

    /// Puts each of `items`. Returns how many there were. Raises what `put` raises; the exception's attribute `put` then
    /// says how many of them were put.
    #[pyo3(signature = (items, block=true, timeout=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let deadline = Deadline::new(block, timeout)?;
        let mut batch = OutBatch::new();
        let mut put = 0;
        let outcome = self.put_each(py, items, deadline, &mut batch, &mut put);
        match outcome {
            Ok(()) => Ok(put),
            Err(error) => {
                // An exception class without a dict cannot say it; the error itself matters more.
                let _ = error.value(py).setattr("put", put);
                Err(error)
            }
        }
    }

    /// Takes all objects that are there, up to `max_items`; waits for the first one. Raises what `get` raises; if one of
    /// them cannot be unpickled, the exception's attribute `received` is the list of the others, which are taken too.
    ///
    /// `watch`: descriptors (a sequence of int). If one of them becomes readable while nothing is there, the list is empty.
    #[pyo3(signature = (max_items=None, block=true, timeout=None, watch=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        max_items: Option<usize>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
        watch: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let max_items = max_items.unwrap_or(usize::MAX);
        let list = PyList::empty(py);
        if max_items == 0 {
            return Ok(list);
        }
        let channel = self.enter()?;
        let mut batch = InBatch::new();
        let mut failure: Option<PyErr> = None;
        let mut deadline = None;
        while list.len() < max_items && failure.is_none() {
            if !list.is_empty() {
                py.detach(|| ()); // other threads' turn
            }
            match channel.try_recv_batch(TAKE.min(max_items - list.len()), &mut batch) {
                Ok(_) => {}
                Err(TryRecvError::Empty) if !list.is_empty() => break,
                Err(TryRecvError::Empty) => {
                    let deadline = match deadline {
                        Some(deadline) => deadline,
                        None => *deadline.insert(Deadline::new(block, timeout)?),
                    };
                    let mut ready = false;
                    let again = match watch {
                        None => self.wait_for(py, &channel, deadline, SharedChannel::wait_readable)?,
                        Some(watch) => {
                            let watch: Vec<i32> = watch.extract()?;
                            self.wait_for(py, &channel, deadline, |channel, slice| {
                                let waited = channel.wait_readable_watching(&watch, slice);
                                ready = waited == Wait::Watched;
                                waited
                            })?
                        }
                    };
                    if ready && channel.is_empty() {
                        return Ok(list);
                    }
                    if !again {
                        return Err(error::empty(py));
                    }
                    continue;
                }
                Err(error) => return Err(receive_error(&error)),
            }
            for (tag, payload, blocks) in batch.drain() {
                let object = if blocks.is_empty() {
                    codec::decode_inline(py, tag, payload)
                } else {
                    decode_blocks(py, &channel.arena(), tag, payload, blocks, codec::decode)
                };
                match object {
                    Ok(object) => list.append(object)?,
                    Err(error) => {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        match failure {
            None => Ok(list),
            Some(error) => {
                let _ = error.value(py).setattr("received", &list);
                Err(error)
            }
        }
    }

    /// Puts bytes as they are, from anything with a contiguous buffer: no codec. Otherwise as `put`.
    #[pyo3(signature = (data, block=true, timeout=None))]
    fn put_bytes(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let deadline = Deadline::new(block, timeout)?;
        let channel = self.enter()?;
        let mut space = [0; INLINE];
        let outgoing = codec::raw(data, &mut space)?;
        let blocks = match outgoing.needs_blocks() {
            false => Vec::new(),
            true => {
                self.wait_for_room(py, &channel, deadline)?;
                let wait = WaitForMemory { channel: self, inside: &channel, deadline };
                fill_outgoing(py, &channel.arena(), &outgoing, Some(&wait))?.ok_or_else(changed)?
            }
        };
        let payload = &space[..outgoing.payload];
        self.send_payload(py, &channel, outgoing.tag, payload, blocks, deadline)
    }

    /// Takes a message that `put_bytes` put. Raises `TypeError` if it is another (which is taken all the same).
    #[pyo3(signature = (block=true, timeout=None))]
    fn get_bytes<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut message = Message::new();
        self.receive(py, &mut message, block, timeout)?;
        let object = open(py, &mut message)?;
        if message.tag & !breakeven_wire::SPILLED != Kind::Raw.tag() {
            return Err(PyTypeError::new_err("the message was put with put(), not with put_bytes()"));
        }
        Ok(object.cast_into()?)
    }

    /// Messages in the channel at this moment.
    fn qsize(&self) -> PyResult<u64> {
        Ok(self.enter()?.len())
    }

    /// Whether there is no message at this moment.
    fn empty(&self) -> PyResult<bool> {
        Ok(self.enter()?.is_empty())
    }

    /// Whether a bounded channel holds as many messages as it may.
    fn full(&self) -> PyResult<bool> {
        Ok(self.enter()?.is_full())
    }

    /// How many messages were ever put, by anybody.
    fn puts(&self) -> PyResult<u64> {
        Ok(self.enter()?.statistics().sent)
    }

    /// How many messages were ever taken: somebody has taken message n if n < taken().
    fn taken(&self) -> PyResult<u64> {
        Ok(self.enter()?.taken())
    }

    /// From now on each message taken through this handle is noted in claim slot `slot`, in the same step.
    fn set_claim_slot(&self, slot: u32) -> PyResult<()> {
        match self.enter()?.set_claim_slot(slot) {
            true => Ok(()),
            false => Err(PyValueError::new_err(format!("the channel was made without claim slot {slot}"))),
        }
    }

    /// Sequence number of the last message that was noted in a claim slot, or None.
    fn claim(&self, slot: u32) -> PyResult<Option<u64>> {
        Ok(self.enter()?.claim(slot))
    }

    /// Empties a claim slot, for its next user.
    fn clear_claim(&self, slot: u32) -> PyResult<()> {
        self.enter()?.clear_claim(slot);
        Ok(())
    }

    /// A descriptor that is readable exactly while the channel holds messages; for `select` and the like, not for reading.
    /// Asking for it costs every later put and get a system call.
    fn fileno(&self) -> PyResult<i32> {
        let channel = self.enter()?;
        let fd = channel.event_fd().ok_or_else(|| PyOSError::new_err("the channel has no event descriptor"))?;
        channel.arm_event();
        Ok(fd.as_raw_fd())
    }

    /// What one child process needs to open the channel: descriptor of the arena, number of the channel, descriptor of the
    /// event. The descriptors stay this process's: duplicate them into the child. To be asked for once per child, since
    /// the channel is kept alive for a child that has been given it.
    fn handle(&self) -> PyResult<(i32, u128, i32)> {
        let channel = self.enter()?;
        let arena_fd = channel.arena().fd().ok_or_else(|| PyOSError::new_err("the arena has no descriptor"))?;
        let ticket = channel.lend().map_err(|e| error::open(&e))?;
        let id = u128::from(ticket.id.to_bits()) | u128::from(ticket.lender) << 64;
        Ok((arena_fd.as_raw_fd(), id, channel.event_fd().map_or(-1, |fd| fd.as_raw_fd())))
    }

    /// No child that was given a `handle` is on its way any more: what was kept for those who never came is given up. Only
    /// for who has this process's one handle on the channel.
    fn end_loans(&self) -> PyResult<()> {
        self.enter()?.end_loans();
        Ok(())
    }

    /// Lets go of the channel in this process. Threads that wait on it here get `ValueError`, as all later calls do.
    fn close(&self) {
        // Woken before and after: a thread may go to sleep just before the mark is set.
        if let Some(channel) = self.shared.enter() {
            self.shared.close();
            channel.wake_all();
        }
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Says that one more message that was taken has been dealt with. Returns False if that was said of all messages that
    /// were ever put.
    fn task_done(&self) -> PyResult<bool> {
        self.enter()?.finish_one().map_err(|e| error::open(&e))
    }

    /// How many messages were put and not yet said to be dealt with.
    fn unfinished(&self) -> PyResult<u64> {
        Ok(self.enter()?.unfinished())
    }

    /// Waits until all messages are dealt with.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let channel = self.enter()?;
        let since = channel.times_finished().map_err(|e| error::open(&e))?;
        while !channel.has_finished(since) {
            wait_slice(py, Deadline::Never, |slice| channel.wait_finished(since, slice))?;
            if self.shared.is_closed() {
                return Err(error::closed());
            }
        }
        Ok(())
    }

    /// Wakes everybody who waits on the channel, in all processes; they look again and go on waiting.
    fn wake_all(&self) -> PyResult<()> {
        self.enter()?.wake_all();
        Ok(())
    }

    /// Figures about the channel, over all processes.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let channel = self.enter()?;
        let figures = channel.statistics();
        let dict = PyDict::new(py);
        dict.set_item("puts", figures.sent)?;
        dict.set_item("gets", figures.taken)?;
        dict.set_item("qsize", channel.len())?;
        dict.set_item("maxsize", self.maxsize)?;
        dict.set_item("rings", figures.rings)?;
        dict.set_item("rings_made", figures.rings_made)?;
        dict.set_item("ring_bytes", figures.ring_bytes)?;
        dict.set_item("waits", figures.waits)?;
        dict.set_item("wakes", figures.wakes)?;
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        match self.shared.enter() {
            None => "<breakeven.Channel, closed>".to_owned(),
            Some(channel) => format!("<breakeven.Channel {:#x}, {} messages>", channel.id().to_bits(), channel.len()),
        }
    }
}

impl Channel {
    fn over(py: Python<'_>, shared: SharedChannel) -> Self {
        let maxsize = shared.maxsize();
        Channel { shared: Closable::new(shared), hooks: PyList::empty(py).unbind(), maxsize }
    }

    /// Puts one object. The outer error is about the channel, the inner one about the object.
    #[inline]
    fn put_one(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Result<u64, PyErr>> {
        let mut space: ScalarSpace = [0; 16];
        match codec::scalar(obj, &mut space) {
            Some(len) => self.put_value(py, &space[..len], block, timeout).map(Ok),
            None => self.put_small(py, obj, block, timeout),
        }
    }

    /// Not inlined, so that a number does not pay for this one's space on the stack.
    #[inline(never)]
    fn put_small(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Result<u64, PyErr>> {
        let mut space: SmallSpace = [0; 128];
        match codec::small(obj, &mut space) {
            Some(len) => self.put_value(py, &space[..len], block, timeout).map(Ok),
            None => self.put_any(py, obj, Deadline::new(block, timeout)?),
        }
    }

    #[inline]
    fn put_value(
        &self,
        py: Python<'_>,
        payload: &[u8],
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        match self.brief()?.try_send(Kind::Value.tag(), payload, &mut Vec::new()) {
            Ok(sequence) => Ok(sequence),
            Err(_) => {
                let deadline = Deadline::new(block, timeout)?;
                self.send_payload(py, &self.enter()?, Kind::Value.tag(), payload, Vec::new(), deadline)
            }
        }
    }

    /// Gives an object that cannot be encoded to the hook; raises the error if there is none, or if it is none of the
    /// object's own (an interrupt, say).
    #[cold]
    fn give_to_hook(&self, py: Python<'_>, error: PyErr, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.hooks.bind(py).get_item(0) {
            Ok(hook) if error.is_instance_of::<PyException>(py) => {
                hook.call1((error.into_value(py), obj))?;
                Ok(())
            }
            _ => Err(error),
        }
    }

    #[inline]
    fn enter(&self) -> PyResult<Inside<'_>> {
        self.shared.enter().ok_or_else(error::closed)
    }

    #[inline]
    fn brief(&self) -> PyResult<Brief<'_, SharedChannel>> {
        // SAFETY: all methods are entered attached; the result is used for one `try_` call that never detaches.
        unsafe { self.shared.brief() }.ok_or_else(error::closed)
    }

    /// Waits for one slice; `Ok(false)` if the deadline has passed.
    fn wait_for(
        &self,
        py: Python<'_>,
        channel: &Inside<'_>,
        deadline: Deadline,
        wait: impl FnOnce(&SharedChannel, Duration) -> Wait + Send,
    ) -> PyResult<bool> {
        let shared: &SharedChannel = channel;
        let again = wait_slice(py, deadline, |slice| wait(shared, slice))?;
        if self.shared.is_closed() {
            return Err(error::closed());
        }
        Ok(again)
    }

    #[cold]
    fn put_any(&self, py: Python<'_>, obj: &Bound<'_, PyAny>, deadline: Deadline) -> PyResult<Result<u64, PyErr>> {
        let channel = self.enter()?;
        let mut space: Space = [0; INLINE];
        let wait = WaitForMemory { channel: self, inside: &channel, deadline };
        match fill(py, &channel.arena(), obj, &mut space, Some(&wait))? {
            Ok((tag, payload, blocks)) => {
                self.send_payload(py, &channel, tag, &space[..payload], blocks, deadline).map(Ok)
            }
            Err(unencodable) => Ok(Err(unencodable)),
        }
    }

    /// Sends a message that is ready, waiting for room.
    fn send_payload(
        &self,
        py: Python<'_>,
        channel: &Inside<'_>,
        tag: u16,
        payload: &[u8],
        mut blocks: Vec<Block>,
        deadline: Deadline,
    ) -> PyResult<u64> {
        match channel.try_send(tag, payload, &mut blocks) {
            Ok(sequence) => Ok(sequence),
            Err(error) => self.send_after(py, channel, error, tag, payload, blocks, deadline),
        }
    }

    /// Goes on sending a message that was refused.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the parts of a message, which nobody else needs as a struct")]
    fn send_after(
        &self,
        py: Python<'_>,
        channel: &Inside<'_>,
        mut error: TrySendError,
        tag: u16,
        payload: &[u8],
        mut blocks: Vec<Block>,
        deadline: Deadline,
    ) -> PyResult<u64> {
        let memory = WaitForMemory { channel: self, inside: channel, deadline };
        let mut started = None;
        loop {
            match error {
                TrySendError::Full => {
                    if !self.wait_for(py, channel, deadline, SharedChannel::wait_writable)? {
                        return Err(error::full(py));
                    }
                }
                TrySendError::Memory(reason) => memory.wait(py, &reason, &mut started)?,
                TrySendError::Closed => return Err(error::closed()),
                TrySendError::TooLong => return Err(PyRuntimeError::new_err(error.to_string())),
            }
            match channel.try_send(tag, payload, &mut blocks) {
                Ok(sequence) => return Ok(sequence),
                Err(next) => error = next,
            }
        }
    }

    /// Waits until a bounded channel has room. Somebody else may fill it again before this process sends.
    fn wait_for_room(&self, py: Python<'_>, channel: &Inside<'_>, deadline: Deadline) -> PyResult<()> {
        while channel.is_full() {
            if !self.wait_for(py, channel, deadline, SharedChannel::wait_writable)? {
                return Err(error::full(py));
            }
        }
        Ok(())
    }

    #[inline]
    fn receive(
        &self,
        py: Python<'_>,
        message: &mut Message,
        block: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match self.brief()?.try_recv(message) {
            Ok(()) => Ok(()),
            Err(TryRecvError::Empty) => self.receive_later(py, message, Deadline::new(block, timeout)?),
            Err(error) => Err(receive_error(&error)),
        }
    }

    #[cold]
    fn receive_later(&self, py: Python<'_>, message: &mut Message, deadline: Deadline) -> PyResult<()> {
        let channel = self.enter()?;
        while self.wait_for(py, &channel, deadline, SharedChannel::wait_readable)? {
            match channel.try_recv(message) {
                Ok(()) => return Ok(()),
                Err(TryRecvError::Empty) => {}
                Err(error) => return Err(receive_error(&error)),
            }
        }
        Err(error::empty(py))
    }

    fn put_each(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        deadline: Deadline,
        batch: &mut OutBatch,
        put: &mut usize,
    ) -> PyResult<()> {
        let channel = self.enter()?;
        let mut space: Space = [0; INLINE];
        let mut one = |item: &Bound<'_, PyAny>, batch: &mut OutBatch, put: &mut usize| -> PyResult<()> {
            let mut small: ScalarSpace = [0; 16];
            if let Some(len) = codec::scalar(item, &mut small) {
                batch.push(Kind::Value.tag(), &small[..len], Vec::new());
            } else {
                match codec::encode(item, &mut space, true) {
                    Ok(outgoing) if !outgoing.needs_blocks() => {
                        batch.push(outgoing.tag, &space[..outgoing.payload], Vec::new());
                    }
                    Ok(outgoing) => {
                        // What came before goes first: order, memory in use, and errors are then as with single puts.
                        drop(outgoing);
                        self.send_batch(py, &channel, batch, deadline, put)?;
                        match self.put_any(py, item, deadline)? {
                            Ok(_) => *put += 1,
                            Err(unencodable) => self.give_to_hook(py, unencodable, item)?,
                        }
                    }
                    Err(unencodable) => self.give_to_hook(py, unencodable, item)?,
                }
            }
            if batch.len() >= BATCH {
                self.send_batch(py, &channel, batch, deadline, put)?;
                // Going through a list or a range runs no byte code, between which signals and other threads get their
                // turn.
                py.check_signals()?;
                py.detach(|| ());
            }
            Ok(())
        };
        let outcome = items.try_iter().and_then(|mut items| items.try_for_each(|item| one(&item?, batch, put)));
        // Also after an error: the items before the one that failed are put.
        let flushed = self.send_batch(py, &channel, batch, deadline, put);
        outcome.and(flushed)
    }

    /// Sends a batch; afterwards it is empty, whatever happened: after an interrupt nobody may wait for it again.
    fn send_batch(
        &self,
        py: Python<'_>,
        channel: &Inside<'_>,
        batch: &mut OutBatch,
        deadline: Deadline,
        put: &mut usize,
    ) -> PyResult<()> {
        let outcome = self.send_whole_batch(py, channel, batch, deadline, put);
        batch.clear();
        outcome
    }

    fn send_whole_batch(
        &self,
        py: Python<'_>,
        channel: &Inside<'_>,
        batch: &mut OutBatch,
        deadline: Deadline,
        put: &mut usize,
    ) -> PyResult<()> {
        let memory = WaitForMemory { channel: self, inside: channel, deadline };
        let mut started = None;
        while !batch.is_empty() {
            match channel.try_send_batch(batch) {
                Ok(sent) => {
                    *put += sent;
                    started = None;
                }
                Err(TrySendError::Full) => {
                    if !self.wait_for(py, channel, deadline, SharedChannel::wait_writable)? {
                        return Err(error::full(py));
                    }
                }
                Err(TrySendError::Memory(reason)) => memory.wait(py, &reason, &mut started)?,
                Err(TrySendError::Closed) => return Err(error::closed()),
                Err(error @ TrySendError::TooLong) => return Err(PyRuntimeError::new_err(error.to_string())),
            }
        }
        Ok(())
    }
}

/// How a put to a bounded channel waits for its readers to free memory. An unbounded one never waits: it raises.
pub(crate) struct WaitForMemory<'a> {
    channel: &'a Channel,
    inside: &'a Inside<'a>,
    deadline: Deadline,
}

impl WaitForMemory<'_> {
    /// Waits a while; an error if there is nothing to wait for.
    fn wait(&self, py: Python<'_>, reason: &AllocError, started: &mut Option<std::time::Instant>) -> PyResult<()> {
        let give_up = || error::memory(py, reason);
        let &AllocError::Limit { wanted, limit, .. } = reason else { return Err(give_up()) };
        if self.channel.maxsize == 0 || wanted > limit {
            return Err(give_up());
        }
        let started = *started.get_or_insert_with(std::time::Instant::now);
        if self.inside.is_empty() && started.elapsed() > MEMORY_PATIENCE {
            return Err(give_up());
        }
        let arena = self.inside.arena();
        // In short steps: memory may be given back between the failure and the sleep, and then nobody wakes us.
        let step = Duration::from_millis(20);
        let again = wait_slice(py, self.deadline, |slice| {
            arena.wait_freed(slice.min(step), || false);
            Wait::TimedOut
        })?;
        if self.channel.shared.is_closed() {
            return Err(error::closed());
        }
        if again { Ok(()) } else { Err(give_up()) }
    }
}

pub(crate) fn changed() -> PyErr {
    PyRuntimeError::new_err("the object kept changing while it was being sent")
}

/// Fills the blocks of a laid-out message; `None` if the object changed meanwhile.
pub(crate) fn fill_outgoing(
    py: Python<'_>,
    arena: &Arena,
    outgoing: &codec::Outgoing<'_>,
    wait: Option<&WaitForMemory<'_>>,
) -> PyResult<Option<Vec<Block>>> {
    let mut started = None;
    loop {
        match outgoing.fill(py, arena) {
            Ok(blocks) => {
                arena.count(Counter::BytesCopied, outgoing.block_bytes() as u64);
                return Ok(Some(blocks));
            }
            Err(FillError::Changed) => return Ok(None),
            Err(FillError::Alloc(reason)) => match wait {
                Some(wait) => wait.wait(py, &reason, &mut started)?,
                None => return Err(error::memory(py, &reason)),
            },
        }
    }
}

/// Encodes an object into `space` and blocks of `arena`: tag, length of the payload, blocks. With `wait`, waits for room
/// in the channel before any block is taken. The outer error is about memory or the channel, the inner one about the
/// object.
pub(crate) fn fill(
    py: Python<'_>,
    arena: &Arena,
    obj: &Bound<'_, PyAny>,
    space: &mut Space,
    wait: Option<&WaitForMemory<'_>>,
) -> PyResult<Result<Filled, PyErr>> {
    match fill_as(Form::Any, py, arena, obj, space, wait)? {
        Ok(Some(filled)) => Ok(Ok(filled)),
        Ok(None) => Err(changed()), // not for this form
        Err(unencodable) => Ok(Err(unencodable)),
    }
}

/// A message but for its payload: tag, length of the payload, blocks.
pub(crate) type Filled = (u16, usize, Vec<Block>);

/// Which objects to encode.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// All.
    Any,
    /// Those that need no pickle.
    Value,
}

/// As [`fill`]; the inner `None` says that the form does not take the object.
fn fill_as(
    form: Form,
    py: Python<'_>,
    arena: &Arena,
    obj: &Bound<'_, PyAny>,
    space: &mut Space,
    wait: Option<&WaitForMemory<'_>>,
) -> PyResult<Result<Option<Filled>, PyErr>> {
    // The guess may be wrong; and a list may be changed by another thread between being looked at and being copied.
    for attempt in 0..10 {
        let guess = attempt == 0;
        let encoded = match form {
            Form::Any => codec::encode(obj, space, guess).map(Some),
            Form::Value => codec::encode_value(obj, space, guess),
        };
        let outgoing = match encoded {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return Ok(Ok(None)),
            Err(unencodable) => return Ok(Err(unencodable)),
        };
        if !outgoing.needs_blocks() {
            return Ok(Ok(Some((outgoing.tag, outgoing.payload, Vec::new()))));
        }
        if let Some(wait) = wait {
            wait.channel.wait_for_room(py, wait.inside, wait.deadline)?;
        }
        if let Some(blocks) = fill_outgoing(py, arena, &outgoing, wait)? {
            return Ok(Ok(Some((outgoing.tag, outgoing.payload, blocks))));
        }
    }
    Err(changed())
}

pub(crate) fn receive_error(error: &TryRecvError) -> PyErr {
    match error {
        TryRecvError::Closed => error::closed(),
        TryRecvError::Register(error) => error::create(error),
        TryRecvError::Empty | TryRecvError::Corrupt => PyOSError::new_err(error.to_string()),
    }
}

/// The object in a message that was taken.
#[inline]
pub(crate) fn open<'py>(py: Python<'py>, message: &mut Message) -> PyResult<Bound<'py, PyAny>> {
    open_as(py, message, codec::decode)
}

type Decode<'py> = fn(Python<'py>, u16, &[u8], Vec<Storage>) -> PyResult<Bound<'py, PyAny>>;

#[inline]
fn open_as<'py>(py: Python<'py>, message: &mut Message, decode: Decode<'py>) -> PyResult<Bound<'py, PyAny>> {
    if message.blocks.is_empty() {
        return codec::decode_inline(py, message.tag, message.payload());
    }
    let blocks = core::mem::take(&mut message.blocks);
    let arena = blocks[0].arena();
    decode_blocks(py, &arena, message.tag, message.payload(), blocks, decode)
}

pub(crate) fn decode_blocks<'py>(
    py: Python<'py>,
    arena: &Arena,
    tag: u16,
    payload: &[u8],
    blocks: Vec<Block>,
    decode: Decode<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let viewed: usize = blocks.iter().map(Block::len).sum();
    if !blocks.iter().all(Block::is_populated) {
        // The first time that this process sees these blocks: one long entry instead of a fault for each page.
        let populate = || blocks.iter().for_each(Block::populate);
        if viewed >= POPULATE_DETACHED_FROM { py.detach(populate) } else { populate() }
    }
    arena.count(Counter::BytesViewed, viewed as u64);
    decode(py, tag, payload, blocks.into_iter().map(Storage::Arena).collect())
}

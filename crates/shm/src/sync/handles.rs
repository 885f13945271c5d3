//! The protocols on roots in an arena: what the rest of the program uses.

use super::event::{EventFlag, Since};
use super::mutex::{Holder, MutexWord, Seen};
use super::semaphore::{self, SemaphoreWord};
use super::waiters::{Came, Place, Waiters, WaitersHead};
use crate::arena::Arena;
use crate::channel::{Ticket, Wait};
use crate::error::{AllocError, OpenError};
use crate::layout::{Descriptor, MAX_PARTICIPANTS, SharedRepr, kind};
use crate::primitive::Ordering::{Acquire, Relaxed, Release};
use crate::primitive::{AtomicU32, AtomicU64, spin_loop};
use crate::root::{self, BODY_AT, RootId};
use crate::sys::process::monotonic_ns;
use crate::wait::{EventWord, KernelFutex, Sleep};
use std::time::Duration;

const MUTEX: u32 = 1;
const SEMAPHORE: u32 = 2;
const EVENT: u32 = 3;
const CONDITION: u32 = 4;

/// Words that whoever uses a condition can keep with it.
const NOTES: usize = 8;

#[repr(C)]
struct SyncHeader {
    what: AtomicU32,
    setting: AtomicU32,
    most: AtomicU32,
    recoveries: AtomicU32,
    _pad0: [AtomicU64; 6],
    mutex: MutexWord,
    _pad1: AtomicU32,
    semaphore: SemaphoreWord,
    event: EventFlag,
    waiters: WaitersHead,
    _pad2: [AtomicU32; 9],
    changed: EventWord,
    notes: [AtomicU64; NOTES],
}

#[repr(C)]
struct Ledger {
    entries: [AtomicU64; MAX_PARTICIPANTS],
}

#[repr(C)]
struct Places {
    places: [Place; MAX_PARTICIPANTS],
}

// SAFETY: atomics and an event word only.
unsafe impl SharedRepr for SyncHeader {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Ledger {}
// SAFETY: atomics only.
unsafe impl SharedRepr for Places {}

const _: () = {
    assert!(core::mem::offset_of!(SyncHeader, recoveries) == 12);
    assert!(core::mem::offset_of!(SyncHeader, mutex) == 64);
    assert!(core::mem::offset_of!(SyncHeader, semaphore) == 72);
    assert!(core::mem::offset_of!(SyncHeader, event) == 80);
    assert!(core::mem::offset_of!(SyncHeader, waiters) == 84);
    assert!(core::mem::offset_of!(SyncHeader, changed) == 128);
    assert!(core::mem::offset_of!(SyncHeader, notes) == 192);
    assert!(size_of::<SyncHeader>() <= root::HANDLES_AT as usize);
    assert!(size_of::<Place>() == 8);
    assert!(BODY_AT as usize + size_of::<Ledger>() <= 12288);
    assert!(BODY_AT as usize + size_of::<Places>() <= 12288);
};

/// How long somebody sleeps at first before he looks whether the one he waits for is dead, and at
/// most.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(50);
/// A failed try looks for a dead holder once in so many nanoseconds: it costs more than the try.
const LOOK_AGAIN_NS: u64 = 1_000_000;
/// How many of a semaphore's holders are looked at after each sleep: each costs some ten
/// microseconds.
const LOOK_AT: usize = 8;

/// How often a taken mutex is looked at before the thread goes to sleep: some microseconds, in which
/// most sections that do not wait themselves end. More would take the time from the very process that
/// has to go on, where there are more of them than cores; and a sleeper is woken within ten. (Who waits
/// for a permit waits for work or for a signal: that takes longer, and he does not spin at all.)
const SPINS: u32 = 50;

fn spin(mut ready: impl FnMut() -> bool) -> bool {
    for _ in 0..SPINS {
        if ready() {
            return true;
        }
        spin_loop();
    }
    false
}

/// How often one wait has slept. To be kept from the first to the last slice of a wait.
#[derive(Debug, Default, Clone, Copy)]
pub struct Round(u32);

impl Round {
    fn slice(&mut self, longest: Duration) -> Duration {
        let slice = (FIRST_LOOK * (1 << self.0.min(6))).min(LAST_LOOK);
        self.0 += 1;
        slice.min(longest)
    }
}

/// A handle on a root of this module.
#[derive(Debug)]
struct Handle {
    arena: Arena,
    id: RootId,
    header_at: u64,
    /// The participant on whose account this handle is; after a fork, the parent (see `enter`).
    holder: AtomicU32,
    /// When somebody last looked for a dead holder in vain.
    looked: AtomicU64,
}

impl Handle {
    fn create(arena: &Arena, len: u64, what: u32, setting: u32, most: u32) -> Result<Handle, AllocError> {
        let mut root = arena.alloc(len as usize)?;
        root.as_mut_slice().fill(0);
        let me = root.owner();
        let descriptor = arena.descriptor(root.index()).expect("a block of ours");
        let (header_at, _) = arena.extent(descriptor).expect("a block of ours");
        let header: &SyncHeader = arena.inner.segment.at(header_at);
        header.what.store(what, Relaxed);
        header.setting.store(setting, Relaxed);
        header.most.store(most, Relaxed);
        header.semaphore.init(if what == SEMAPHORE { setting } else { 0 });
        let id = root::commit(arena, root, kind::SYNC);
        Ok(Handle { arena: *arena, id, header_at, holder: AtomicU32::new(me), looked: AtomicU64::new(0) })
    }

    fn open(arena: &Arena, ticket: Ticket, what: u32) -> Result<Handle, OpenError> {
        root::acquire(arena, ticket.id, kind::SYNC)?;
        if ticket.lender != 0 {
            root::release(arena, ticket.id, ticket.lender);
        }
        let handle = Handle {
            arena: *arena,
            id: ticket.id,
            header_at: arena
                .descriptor(ticket.id.index)
                .and_then(|descriptor| arena.extent(descriptor))
                .map(|(offset, _)| offset)
                .ok_or(OpenError::Gone)?,
            holder: AtomicU32::new(arena.inner.me.get()),
            looked: AtomicU64::new(0),
        };
        // A name of another kind of root of this module: dropping the handle gives it back.
        if handle.header().what.load(Relaxed) == what { Ok(handle) } else { Err(OpenError::Gone) }
    }

    #[inline]
    fn header(&self) -> &'static SyncHeader {
        self.arena.inner.segment.at(self.header_at)
    }

    fn ledger(&self) -> &'static [AtomicU64] {
        let ledger: &'static Ledger = self.arena.inner.segment.at(self.header_at + BODY_AT);
        &ledger.entries
    }

    fn waiters(&self) -> Waiters<'static> {
        let table: &'static Places = self.arena.inner.segment.at(self.header_at + BODY_AT);
        Waiters { head: &self.header().waiters, places: &table.places }
    }

    /// This process's participant id, for which this handle is counted (see `Channel::enter`).
    #[inline]
    fn enter(&self) -> Result<u32, OpenError> {
        let me = self.arena.me().map_err(OpenError::Create)?;
        if me != self.holder.load(Relaxed) {
            self.adopt(me)?;
        }
        Ok(me)
    }

    /// First use of a handle that came through a fork (see `Channel::adopt`).
    #[cold]
    fn adopt(&self, me: u32) -> Result<(), OpenError> {
        let holder = self.holder.load(Relaxed);
        let inherited = self.arena.inherited(me);
        if !inherited {
            root::acquire(&self.arena, self.id, kind::SYNC)?;
        }
        let adopted = self.holder.compare_exchange(holder, me, Relaxed, Relaxed);
        if adopted.is_err() && !inherited {
            root::release(&self.arena, self.id, me); // another thread was faster
        }
        Ok(())
    }

    /// Whether to look for a dead holder now.
    fn look_is_due(&self) -> bool {
        let now = monotonic_ns();
        let due = now.saturating_sub(self.looked.load(Relaxed)) >= LOOK_AGAIN_NS;
        if due {
            self.looked.store(now, Relaxed);
        }
        due
    }

    fn ticket(&self) -> Ticket {
        Ticket { id: self.id, lender: 0 }
    }
}

impl Drop for Handle {
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

/// What every kind of handle offers.
macro_rules! common {
    ($kind:ident) => {
        impl $kind {
            /// What another process that has the arena, and this one, open it by. Somebody must keep
            /// a handle until then.
            pub fn ticket(&self) -> Ticket {
                self.handle.ticket()
            }

            /// The arena that it lies in.
            pub fn arena(&self) -> Arena {
                self.handle.arena
            }
        }
    };
}

// ---------------------------------------------------------------------------------------------
// Mutex

/// Whose a mutex is, as a process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is free.
    Nobody,
    /// A thread of this process, by the number that it had given.
    Thread(u64),
    /// Another process, which may be dead.
    OtherProcess,
}

/// Why a mutex or semaphore was not released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseError {
    /// A recursive mutex can be released only by the thread that holds it.
    NotOwner,
    /// It was released as often as it was acquired.
    TooOften,
    /// This process could not use it.
    Open(OpenError),
}

impl From<OpenError> for ReleaseError {
    fn from(error: OpenError) -> ReleaseError {
        ReleaseError::Open(error)
    }
}

/// A lock between processes. A process, not a thread, owns it: any thread of any process may
/// release one that is not recursive.
#[derive(Debug)]
pub struct Mutex {
    handle: Handle,
    recursive: bool,
    /// The thread of this process that took it last; 0 once a recursive one is released.
    thread: AtomicU64,
    /// How often that thread has taken it, if it is recursive.
    depth: AtomicU32,
}

common!(Mutex);

impl Mutex {
    /// Makes a free mutex.
    pub fn create(arena: &Arena, recursive: bool) -> Result<Mutex, AllocError> {
        Ok(Mutex::over(Handle::create(arena, BODY_AT, MUTEX, u32::from(recursive), 1)?))
    }

    /// Opens a mutex of another handle's.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<Mutex, OpenError> {
        Ok(Mutex::over(Handle::open(arena, ticket, MUTEX)?))
    }

    fn over(handle: Handle) -> Mutex {
        let recursive = handle.header().setting.load(Relaxed) != 0;
        Mutex { handle, recursive, thread: AtomicU64::new(0), depth: AtomicU32::new(0) }
    }

    /// Takes the mutex if it is free. `thread` is any number but 0 that is the thread's own.
    #[inline]
    pub fn try_acquire(&self, thread: u64) -> Result<bool, OpenError> {
        let me = self.handle.enter()?;
        match self.handle.header().mutex.try_take(me) {
            Ok(()) => {
                self.taken(thread);
                Ok(true)
            }
            Err(seen) => Ok(self.recursive && self.take_again(me, seen, thread)),
        }
    }

    #[inline]
    fn taken(&self, thread: u64) {
        // Nobody else writes these while the mutex is this process's. Others may read them.
        self.depth.store(1, Relaxed);
        self.thread.store(thread, Relaxed);
    }

    fn take_again(&self, me: u32, seen: Seen, thread: u64) -> bool {
        let again = seen.holder() == Holder::Participant(me) && self.thread.load(Relaxed) == thread;
        if again {
            self.depth.store(self.depth.load(Relaxed) + 1, Relaxed);
        }
        again
    }

    /// Takes the mutex over if its owner has died. After a failed try; looks only now and then.
    pub fn try_recover(&self, thread: u64) -> Result<bool, OpenError> {
        let found = self.handle.header().mutex.look().holder();
        if found == Holder::Dead || self.handle.look_is_due() { self.recover(thread) } else { Ok(false) }
    }

    fn recover(&self, thread: u64) -> Result<bool, OpenError> {
        let me = self.handle.enter()?;
        let header = self.handle.header();
        let seen = header.mutex.look();
        let dead = match seen.holder() {
            Holder::Nobody => return Ok(false),
            Holder::Participant(participant) => participant != me && self.handle.arena.is_gone(participant),
            Holder::Dead => true,
        };
        if !dead || !header.mutex.take_over(seen, me) {
            return Ok(false);
        }
        self.taken(thread);
        header.recoveries.fetch_add(1, Relaxed);
        self.handle.arena.want_reaping();
        Ok(true)
    }

    /// Waits until the mutex may be free, at most for `timeout`; takes it over if its owner died.
    /// True: it is taken. To be called in slices, as `Channel::wait_readable`.
    pub fn wait(&self, thread: u64, timeout: Duration, round: &mut Round) -> Result<(bool, Wait), OpenError> {
        let me = self.handle.enter()?;
        let header = self.handle.header();
        // A thread of this process needs what the spinning one has: perhaps the interpreter's lock.
        let ours = header.mutex.look().holder() == Holder::Participant(me);
        let free = || header.mutex.look().holder() == Holder::Nobody;
        if !ours && spin(free) {
            return Ok((false, Wait::Ready));
        }
        let ticket = header.changed.announce();
        if free() {
            return Ok((false, Wait::Ready));
        }
        match header.changed.sleep(&KernelFutex, ticket, round.slice(timeout)) {
            Sleep::Woken => Ok((false, Wait::Ready)),
            Sleep::TimedOut if self.recover(thread)? => Ok((true, Wait::Ready)),
            Sleep::TimedOut => Ok((false, if free() { Wait::Ready } else { Wait::TimedOut })),
            Sleep::Interrupted => Ok((false, Wait::Interrupted)),
        }
    }

    /// Releases the mutex. One that is not recursive may be held by anybody.
    #[inline]
    pub fn release(&self, thread: u64) -> Result<(), ReleaseError> {
        let me = self.handle.enter()?;
        let header = self.handle.header();
        if self.recursive {
            if header.mutex.look().holder() != Holder::Participant(me) || self.thread.load(Relaxed) != thread {
                return Err(ReleaseError::NotOwner);
            }
            let depth = self.depth.load(Relaxed);
            if depth > 1 {
                self.depth.store(depth - 1, Relaxed);
                return Ok(());
            }
            // Before the mutex is free: another thread of this process, which has taken it and not
            // said so yet, must not be mistaken for this one.
            self.thread.store(0, Relaxed);
        }
        match header.mutex.release(&header.changed, &KernelFutex) {
            Some(_) => Ok(()),
            None => Err(ReleaseError::TooOften),
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        let me = self.handle.arena.inner.me.get();
        match self.handle.header().mutex.look().holder() {
            Holder::Nobody => Owner::Nobody,
            Holder::Participant(participant) if participant == me && me != 0 => {
                Owner::Thread(self.thread.load(Relaxed))
            }
            Holder::Participant(_) | Holder::Dead => Owner::OtherProcess,
        }
    }

    /// How often the thread that holds it has taken it; 0 if this process does not hold it.
    pub fn depth(&self) -> u32 {
        if matches!(self.owner(), Owner::Thread(_)) { self.depth.load(Relaxed) } else { 0 }
    }

    /// Whether this process holds it and took it over from one that died.
    pub fn is_recovered(&self) -> bool {
        let seen = self.handle.header().mutex.look();
        let me = self.handle.arena.inner.me.get();
        me != 0 && seen.holder() == Holder::Participant(me) && seen.recovered()
    }

    /// How often it was taken over from somebody dead.
    pub fn recoveries(&self) -> u32 {
        self.handle.header().recoveries.load(Relaxed)
    }
}

// ---------------------------------------------------------------------------------------------
// Semaphore

/// A counter of permits.
#[derive(Debug)]
pub struct Semaphore {
    handle: Handle,
    most: u32,
}

common!(Semaphore);

impl Semaphore {
    /// Makes a semaphore of `permits` permits that never has more than `most`, each at most
    /// [`MOST_PERMITS`](super::MOST_PERMITS).
    pub fn create(arena: &Arena, permits: u32, most: u32) -> Result<Semaphore, AllocError> {
        assert!(permits <= semaphore::MOST_PERMITS && most <= semaphore::MOST_PERMITS);
        let len = BODY_AT + size_of::<Ledger>() as u64;
        Ok(Semaphore::over(Handle::create(arena, len, SEMAPHORE, permits, most)?))
    }

    /// Opens a semaphore of another handle's.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<Semaphore, OpenError> {
        Ok(Semaphore::over(Handle::open(arena, ticket, SEMAPHORE)?))
    }

    fn over(handle: Handle) -> Semaphore {
        let most = handle.header().most.load(Relaxed);
        Semaphore { handle, most }
    }

    /// Most permits that it can have.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How many permits there are.
    pub fn permits(&self) -> u32 {
        self.handle.header().semaphore.permits()
    }

    /// How many permits this process holds: taken, less those given, but not less than none.
    pub fn held(&self) -> u32 {
        match self.handle.arena.inner.me.get() {
            0 => 0,
            me => semaphore::held(self.handle.ledger(), place_of(me)),
        }
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool, OpenError> {
        let me = self.handle.enter()?;
        Ok(self.handle.header().semaphore.try_take(self.handle.ledger(), place_of(me)))
    }

    /// Looks, now and then, whether somebody died who held permits, and takes them back. To be
    /// called after a failed try; true if another try is worth it.
    pub fn try_recover(&self) -> bool {
        self.handle.look_is_due() && self.recover(0)
    }

    fn recover(&self, round: u32) -> bool {
        let arena = &self.handle.arena;
        let ledger = self.handle.ledger();
        let holders = (0..ledger.len()).filter(|&place| semaphore::held(ledger, place) > 0);
        // In turns, if they are many.
        let skip = round as usize * LOOK_AT;
        let count = holders.clone().count();
        let mut looked_at = holders.cycle().skip(if count > 0 { skip % count } else { 0 }).take(count.min(LOOK_AT));
        looked_at.any(|place| arena.is_slot_dead(place as u32 + 1)) && arena.reap() > 0
    }

    /// Waits until there may be a permit, at most for `timeout`. To be called in slices, as
    /// `Channel::wait_readable`.
    pub fn wait(&self, timeout: Duration, round: &mut Round) -> Wait {
        let header = self.handle.header();
        let there = || header.semaphore.permits() > 0;
        let ticket = header.changed.announce();
        if there() {
            return Wait::Ready;
        }
        match header.changed.sleep(&KernelFutex, ticket, round.slice(timeout)) {
            Sleep::Woken => Wait::Ready,
            Sleep::TimedOut if there() || self.recover(round.0) => Wait::Ready,
            Sleep::TimedOut => Wait::TimedOut,
            Sleep::Interrupted => Wait::Interrupted,
        }
    }

    /// Gives a permit.
    #[inline]
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = self.handle.enter()?;
        let header = self.handle.header();
        if !header.semaphore.try_give(self.handle.ledger(), place_of(me), self.most) {
            return Err(ReleaseError::TooOften);
        }
        header.changed.notify(&KernelFutex, 1);
        Ok(())
    }

    /// How many permits were taken back from the dead.
    pub fn recoveries(&self) -> u32 {
        self.handle.header().recoveries.load(Relaxed)
    }
}

#[inline]
fn place_of(participant: u32) -> usize {
    (participant & 0xffff).wrapping_sub(1) as usize
}

// ---------------------------------------------------------------------------------------------
// Event

/// A flag that one can wait for.
#[derive(Debug)]
pub struct Event {
    handle: Handle,
}

common!(Event);

impl Event {
    /// Makes a flag that is not set.
    pub fn create(arena: &Arena) -> Result<Event, AllocError> {
        Ok(Event { handle: Handle::create(arena, BODY_AT, EVENT, 0, 0)? })
    }

    /// Opens a flag of another handle's.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<Event, OpenError> {
        Ok(Event { handle: Handle::open(arena, ticket, EVENT)? })
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> Result<bool, OpenError> {
        self.handle.enter()?;
        Ok(self.handle.header().event.is_set())
    }

    /// Sets it. Everybody who waits for it goes on, even if it is cleared at once.
    pub fn set(&self) -> Result<(), OpenError> {
        self.handle.enter()?;
        self.handle.header().event.set(&KernelFutex);
        Ok(())
    }

    /// Clears it.
    pub fn clear(&self) -> Result<(), OpenError> {
        self.handle.enter()?;
        self.handle.header().event.clear();
        Ok(())
    }

    /// The beginning of a wait.
    pub fn since(&self) -> Result<Since, OpenError> {
        self.handle.enter()?;
        Ok(self.handle.header().event.since())
    }

    /// Whether it is set, or was since.
    pub fn has_come(&self, since: Since) -> bool {
        self.handle.header().event.has_come(since)
    }

    /// Waits for that, at most for `timeout`. To be called in slices, as `Channel::wait_readable`.
    pub fn wait(&self, since: Since, timeout: Duration) -> Wait {
        match self.handle.header().event.sleep(&KernelFutex, since, timeout) {
            Sleep::Woken => Wait::Ready,
            Sleep::TimedOut if self.has_come(since) => Wait::Ready,
            Sleep::TimedOut => Wait::TimedOut,
            Sleep::Interrupted => Wait::Interrupted,
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Condition

/// Those who wait for a condition, without the lock that goes with it.
#[derive(Debug)]
pub struct Condition {
    handle: Handle,
}

common!(Condition);

impl Condition {
    /// Most threads that can wait at a time.
    pub const MOST: usize = MAX_PARTICIPANTS;

    /// Makes a condition for which nobody waits.
    pub fn create(arena: &Arena) -> Result<Condition, AllocError> {
        let len = BODY_AT + size_of::<Places>() as u64;
        Ok(Condition { handle: Handle::create(arena, len, CONDITION, 0, 0)? })
    }

    /// Opens a condition of another handle's.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<Condition, OpenError> {
        Ok(Condition { handle: Handle::open(arena, ticket, CONDITION)? })
    }

    /// From now on the caller waits: it is notified if somebody notifies. `None` if
    /// [`MOST`](Self::MOST) wait already. The lock is held.
    pub fn enter(&self) -> Result<Option<usize>, OpenError> {
        let me = self.handle.enter()?;
        Ok(self.handle.waiters().enter(me))
    }

    /// Whether the one at `place` was notified.
    pub fn has_come(&self, place: usize) -> bool {
        self.handle.waiters().has_come(place) == Came::Yes
    }

    /// Waits for that, at most for `timeout`; `Ready` also when somebody else who waited has died
    /// and [`deaths`](Self::deaths) says so. To be called in slices, as `Channel::wait_readable`,
    /// without the lock.
    pub fn wait(&self, place: usize, timeout: Duration, round: &mut Round) -> Wait {
        let waiters = self.handle.waiters();
        let slice = round.slice(timeout);
        match waiters.sleep(&KernelFutex, place, slice) {
            Sleep::Woken => Wait::Ready,
            Sleep::Interrupted => Wait::Interrupted,
            Sleep::TimedOut if self.has_come(place) => Wait::Ready,
            Sleep::TimedOut => {
                // Each looks after the next in the table, so every death is seen by somebody who
                // lives, and everybody's cost stays the same however many they are.
                let arena = &self.handle.arena;
                let neighbour = waiters.neighbour(place, arena.inner.me.get());
                if neighbour.is_some_and(|participant| arena.is_gone(participant)) {
                    arena.reap();
                }
                if self.has_come(place) { Wait::Ready } else { Wait::TimedOut }
            }
        }
    }

    /// Ends the wait of the one at `place`; true if it was notified.
    pub fn leave(&self, place: usize) -> bool {
        self.handle.waiters().leave(place) == Came::Yes
    }

    /// Notifies the `count` that wait longest. Returns how many there were. The lock is held.
    pub fn notify(&self, count: usize) -> Result<usize, OpenError> {
        self.handle.enter()?;
        Ok(self.handle.waiters().notify(&KernelFutex, count))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.handle.waiters().waiting()
    }

    /// How many died waiting, since the last [`take_deaths`](Self::take_deaths) or notification.
    pub fn deaths(&self) -> usize {
        self.handle.waiters().deaths()
    }

    /// The same, and forgets them. The lock is held.
    pub fn take_deaths(&self) -> Result<usize, OpenError> {
        self.handle.enter()?;
        Ok(self.handle.waiters().take_deaths())
    }

    /// A word that the users of the condition keep under its lock; zero at first.
    pub fn note(&self, which: usize) -> u64 {
        self.handle.header().notes[which].load(Acquire)
    }

    /// Changes such a word.
    pub fn set_note(&self, which: usize, value: u64) {
        self.handle.header().notes[which].store(value, Release);
    }

    /// How many such words there are.
    pub const NOTES: usize = NOTES;
}

// ---------------------------------------------------------------------------------------------
// Housekeeping

/// Puts right what `dead` participants left in an object, and wakes who may have to know. The roots
/// lock is held.
pub(crate) fn survey(arena: &Arena, descriptor: &Descriptor, dead: &[u32]) {
    let Some((header_at, size)) = arena.extent(descriptor) else { return };
    if size < BODY_AT {
        return;
    }
    let header: &SyncHeader = arena.inner.segment.at(header_at);
    let is_dead = |participant: u32| dead.contains(&participant);
    match header.what.load(Relaxed) {
        MUTEX => {
            header.mutex.abandon(is_dead);
            // Whoever died may have been about to wake somebody, or was woken and is no more.
            header.changed.notify_all(&KernelFutex);
        }
        SEMAPHORE if size >= BODY_AT + size_of::<Ledger>() as u64 => {
            let ledger: &Ledger = arena.inner.segment.at(header_at + BODY_AT);
            let initial = header.setting.load(Relaxed);
            for &participant in dead {
                let restored = header.semaphore.restore(&ledger.entries, place_of(participant), initial);
                header.recoveries.fetch_add(restored, Relaxed);
            }
            header.changed.notify_all(&KernelFutex);
        }
        EVENT => header.event.wake_all(&KernelFutex),
        CONDITION if size >= BODY_AT + size_of::<Places>() as u64 => {
            let table: &Places = arena.inner.segment.at(header_at + BODY_AT);
            let waiters = Waiters { head: &header.waiters, places: &table.places };
            waiters.bury(&KernelFutex, is_dead);
            waiters.wake_all(&KernelFutex);
        }
        _ => {}
    }
}

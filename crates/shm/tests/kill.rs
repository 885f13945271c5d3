//! Real processes, really killed.
//!
//! A single-threaded program of its own (no test harness), because it forks. It understands as much
//! of the harness's command line as `cargo test` and `cargo nextest` use.
//!
//! - `BREAKEVEN_KILLS=n`: how many processes are killed (10,000 if not given);
//! - `BREAKEVEN_SEED=n`: the choices of an earlier run again (the kills' moments are the kernel's).
//!
//! A run that hangs ends with a report of what all its processes were doing (`support/watchdog.rs`).
//! One that did showed this: the controlling process slept on the arena lock, whose owner had been
//! killed between freeing it and waking a sleeper; it had the roots lock, for which all others
//! waited. What became of it is in `src/sys/robust.rs`, with a test that plays it step by step.

#[path = "support/watchdog.rs"]
mod watchdog;

use breakeven_shm::{
    Arena, ArenaConfig, Block, Channel, ChannelConfig, InBatch, Message, OutBatch, after_fork_in_child,
    after_fork_in_parent, before_fork, note_child,
};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use watchdog::{about_to, watchdog};

const TESTS: [(&str, fn()); 4] = [
    ("random_kills", random_kills),
    ("full_memory_is_an_error_or_a_wait", full_memory_is_an_error_or_a_wait),
    ("forks_while_another_thread_sends", forks_while_another_thread_sends),
    ("a_report_of_a_hang_says_who_waits_for_what", a_report_of_a_hang_says_who_waits_for_what),
];

fn main() {
    if watchdog::reported() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // nextest asks for the ignored tests separately; there are none.
    let ignored_only = has("--ignored");
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with('-') && *argument != "terse").collect();
    let wanted = |name: &str| {
        !ignored_only
            && (filters.is_empty()
                || filters
                    .iter()
                    .any(|filter| if has("--exact") { *filter == name } else { name.contains(filter.as_str()) }))
    };
    for (name, test) in TESTS.into_iter().filter(|(name, _)| wanted(name)) {
        if has("--list") {
            println!("{name}: test");
        } else {
            println!("test {name} ...");
            test();
            println!("test {name} ... ok");
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Processes

/// Forks, with everything that our crate wants to be told. The child runs `child` and ends.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    before_fork();
    // SAFETY: the child uses our crate, the heap (which glibc makes safe to use after a fork) and
    // `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: a system call about ourselves: whoever started us is gone, so are we.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            after_fork_in_child();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the process without running anything of the parent's.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        pid => {
            after_fork_in_parent();
            assert!(pid > 0, "fork failed");
            note_child(pid as u32);
            pid
        }
    }
}

fn kill(pid: libc::pid_t) {
    // SAFETY: a signal to a process of this test that was not waited for yet.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits for one child and returns its exit status.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: waits for our own child; the status is a local.
    while unsafe { libc::waitpid(pid, &mut status, 0) } == -1 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EINTR), "waiting for {pid}: {error}");
    }
    status
}

/// Memory that this process shares with its children, zeroed.
fn shared<T>() -> &'static T {
    // SAFETY: a fresh mapping, never unmapped; all users are made of atomics, for which any bytes
    // and zeros in particular are valid.
    unsafe {
        let memory = libc::mmap(
            core::ptr::null_mut(),
            size_of::<T>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        &*memory.cast::<T>()
    }
}

/// Whether all bytes are `fill`; as one comparison, because loops over bytes are slow in tests.
fn all_are(bytes: &[u8], fill: u8) -> bool {
    bytes.is_empty() || (bytes[0] == fill && bytes[1..] == bytes[..bytes.len() - 1])
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[allow(clippy::disallowed_methods, reason = "a test: its settings are in the environment")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

// ---------------------------------------------------------------------------------------------
// Random kills

const CHANNELS: usize = 3;
/// Messages per channel and round that the log can hold.
const LOG: usize = 1 << 18;
/// Processes that one round can start.
const ACTORS: usize = 1 << 13;
const MOST_BATCH: u64 = 8;
const KILLS_A_ROUND: u64 = 1000;
const WORKERS: usize = 3;

/// What all processes of a round write down about it.
struct Board {
    actors: AtomicU32,
    errors: AtomicU32,
    /// By channel and sequence, the message that came: its [`entry`].
    log: [[AtomicU64; LOG]; CHANNELS],
    /// By channel and actor: messages it has begun to put, and those whose put has returned.
    begun: [[AtomicU32; ACTORS]; CHANNELS],
    put: [[AtomicU32; ACTORS]; CHANNELS],
}

/// Who sent a message, its number there, who took it. Never zero.
fn entry(sender: u32, number: u32, receiver: u32) -> u64 {
    u64::from(receiver + 1) << 48 | u64::from(sender) << 32 | u64::from(number)
}

/// One process (or, at the end, the controlling one) at work.
struct Actor<'a> {
    board: &'static Board,
    arena: Arena,
    channels: &'a [Channel; CHANNELS],
    me: u32,
    random: Random,
    message: Message,
    batch: InBatch,
    held: Vec<Block>,
}

fn fill_of(actor: u32, number: u32) -> u8 {
    (actor.wrapping_mul(31) ^ number) as u8 | 1
}

impl<'a> Actor<'a> {
    fn new(board: &'static Board, arena: Arena, channels: &'a [Channel; CHANNELS], seed: u64) -> Actor<'a> {
        let me = board.actors.fetch_add(1, SeqCst);
        for channel in channels {
            assert!(channel.set_claim_slot(me));
        }
        Actor {
            board,
            arena,
            channels,
            me,
            random: Random(seed | 1),
            message: Message::new(),
            batch: InBatch::new(),
            held: Vec::new(),
        }
    }

    fn fail(&self, what: &str) -> ! {
        self.board.errors.fetch_add(1, SeqCst);
        eprintln!("actor {}: {what}", self.me);
        panic!("{what}");
    }

    fn blocks(&mut self, number: u32) -> Option<Vec<Block>> {
        let count = self.random.below(4);
        let mut blocks = Vec::new();
        for _ in 0..count {
            let len = match self.random.below(8) {
                0 => self.random.below(300_000),
                1..4 => self.random.below(20_000),
                _ => self.random.below(600),
            };
            let mut block = self.arena.alloc(len as usize).ok()?;
            block.as_mut_slice().fill(fill_of(self.me, number));
            blocks.push(block);
        }
        Some(blocks)
    }

    fn payload(&mut self, number: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.extend(self.me.to_ne_bytes());
        payload.extend(number.to_ne_bytes());
        let len = if self.random.below(4) == 0 { self.random.below(900) } else { 0 };
        payload.resize(8 + len as usize, fill_of(self.me, number));
        payload
    }

    fn send(&mut self, which: usize) {
        let channel = &self.channels[which];
        if (channel.taken() + channel.len()) as usize > LOG - 4 * ACTORS {
            return; // the log is nearly full: this round only receives from here on
        }
        let number = self.board.put[which][self.me as usize].load(SeqCst);
        let Some(mut blocks) = self.blocks(number) else { return };
        let payload = self.payload(number);
        self.board.begun[which][self.me as usize].store(number + 1, SeqCst);
        if channel.try_send(which as u16, &payload, &mut blocks).is_ok() {
            self.board.put[which][self.me as usize].store(number + 1, SeqCst);
        } else {
            channel.wait_writable(Duration::from_micros(100));
        }
    }

    fn send_batch(&mut self, which: usize) {
        let channel = &self.channels[which];
        if (channel.taken() + channel.len()) as usize > LOG - 4 * ACTORS {
            return;
        }
        let first = self.board.put[which][self.me as usize].load(SeqCst);
        let mut batch = OutBatch::new();
        for nth in 0..1 + self.random.below(MOST_BATCH) as u32 {
            let Some(blocks) = self.blocks(first + nth) else { break };
            let payload = self.payload(first + nth);
            batch.push(which as u16, &payload, blocks);
        }
        self.board.begun[which][self.me as usize].store(first + batch.len() as u32, SeqCst);
        if let Ok(sent) = channel.try_send_batch(&mut batch) {
            self.board.put[which][self.me as usize].store(first + sent as u32, SeqCst);
        }
    }

    /// Looks whether a message is whole, and writes down that it came.
    fn came(&self, which: usize, sequence: u64, tag: u16, payload: &[u8], blocks: &[Block]) {
        if tag as usize != which || payload.len() < 8 {
            self.fail("a message of another channel, or cut short");
        }
        let word = |at: usize| u32::from_ne_bytes(payload[at..at + 4].try_into().unwrap());
        let (actor, number) = (word(0), word(4));
        let fill = fill_of(actor, number);
        let whole = |bytes: &[u8]| all_are(bytes, fill);
        if !whole(&payload[8..]) || !blocks.iter().all(|block| whole(block.as_slice())) {
            self.fail("a torn message");
        }
        let entry = entry(actor, number, self.me);
        if self.board.log[which][sequence as usize].swap(entry, SeqCst) != 0 {
            self.fail("a message came twice");
        }
    }

    fn recv(&mut self, which: usize) -> bool {
        if self.channels[which].try_recv(&mut self.message).is_err() {
            return false;
        }
        let Message { tag, sequence, .. } = self.message;
        self.came(which, sequence, tag, self.message.payload(), &self.message.blocks);
        if self.random.below(4) == 0 {
            self.held.append(&mut self.message.blocks);
        }
        true
    }

    fn recv_batch(&mut self, which: usize) {
        let max = 1 + self.random.below(MOST_BATCH) as usize;
        let mut batch = std::mem::take(&mut self.batch);
        if let Ok(count) = self.channels[which].try_recv_batch(max, &mut batch) {
            // Taken under one hold of the lock: the numbers are consecutive, up to our claim.
            let last = self.channels[which].claim(self.me).expect("we have just claimed");
            for (nth, (tag, payload, blocks)) in batch.drain().enumerate() {
                self.came(which, last + 1 - (count - nth) as u64, tag, payload, &blocks);
            }
        }
        self.batch = batch;
    }

    fn step(&mut self, may_fork: bool) {
        let which = self.random.below(CHANNELS as u64) as usize;
        match self.random.below(64) {
            0..20 if self.channels[which].len() < 3000 => self.send(which),
            20..26 if self.channels[which].len() < 3000 => self.send_batch(which),
            0..46 => drop(self.recv(which)),
            46..52 => self.recv_batch(which),
            52..57 => {
                let len = self.random.below(100_000) as usize;
                self.held.extend(self.arena.alloc(len).ok());
            }
            57..60 => self.held.clear(),
            60 => drop(self.channels[which].wait_readable(Duration::from_micros(200))),
            61 => drop(self.arena.reap_if_wanted()),
            62 if self.random.below(8) == 0 => drop(self.arena.reap()),
            63 if may_fork && self.random.below(4) == 0 => {
                let seed = self.random.next();
                let (board, arena, channels) = (self.board, self.arena, self.channels);
                fork(|| {
                    let mut actor = Actor::new(board, arena, channels, seed);
                    for _ in 0..actor.random.below(200) {
                        actor.step(false);
                    }
                });
            }
            _ => {}
        }
        if self.held.len() > 8 {
            self.held.truncate(2);
        }
    }
}

/// Waits for every child that is there, also those that were orphaned to us.
fn wait_for_all() {
    // SAFETY: waits for children of ours; no status is asked for.
    while unsafe { libc::waitpid(-1, core::ptr::null_mut(), 0) } != -1 {}
}

fn random_kills() {
    let kills = number("BREAKEVEN_KILLS", 10_000);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number("BREAKEVEN_SEED", clock.map_or(1, |since| since.as_nanos() as u64) >> 10);
    println!("random_kills: {kills} kills, BREAKEVEN_SEED={seed}");
    // Orphaned grandchildren become our children, so that we can wait for them.
    // SAFETY: a system call about ourselves.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let arena = Arena::create(ArenaConfig { limit: 24 << 20, reserve: 1 << 30 }).unwrap();
    let mut random = Random(seed | 1);
    let started = Instant::now();
    let (mut done, mut total) = (0, Figures::default());
    while done < kills {
        let count = KILLS_A_ROUND.min(kills - done);
        watchdog(120);
        let figures = round(arena, &mut random, done, count);
        done += count;
        total.came += figures.came;
        total.lost += figures.lost;
        total.processes += figures.processes;
    }
    watchdog(0);
    println!(
        "random_kills: {done} processes killed, {} started, {} messages came, {} went with their \
         receivers, {:.1} s",
        total.processes,
        total.came,
        total.lost,
        started.elapsed().as_secs_f64()
    );
}

#[derive(Default)]
struct Figures {
    came: u64,
    lost: u64,
    processes: u64,
}

/// `before` processes were killed in earlier rounds.
fn round(arena: Arena, random: &mut Random, before: u64, kills: u64) -> Figures {
    let board: &'static Board = shared();
    let make = |maxsize| {
        let config = ChannelConfig { maxsize, claim_slots: ACTORS as u32 };
        Channel::create(&arena, config).unwrap()
    };
    let channels = [make(0), make(5), make(0)];
    let start = |seed: u64| {
        let channels = &channels;
        fork(move || {
            let mut actor = Actor::new(board, arena, channels, seed);
            loop {
                actor.step(true);
                // Ended children of ours.
                // SAFETY: as in `wait_for_all`, without waiting.
                unsafe { libc::waitpid(-1, core::ptr::null_mut(), libc::WNOHANG) };
            }
        })
    };
    let mut workers: Vec<libc::pid_t> = (0..WORKERS).map(|_| start(random.next())).collect();
    for nth in 0..kills {
        about_to(&format!("kill {}", before + nth));
        let most = if random.below(4) == 0 { 6000 } else { 1000 };
        std::thread::sleep(Duration::from_micros(random.below(most)));
        let victim = random.below(WORKERS as u64) as usize;
        kill(workers[victim]);
        wait(workers[victim]);
        if random.below(3) == 0 {
            arena.reap();
        }
        assert_eq!(board.errors.load(SeqCst), 0, "a process found a fault");
        workers[victim] = start(random.next());
    }
    about_to("kill the rest");
    for pid in workers {
        kill(pid);
    }
    about_to("wait for all");
    wait_for_all();
    about_to("check");
    arena.reap();

    // What is left is ours to take. A living process's put must have come, each message once.
    let mut last = Actor::new(board, arena, &channels, random.next());
    for which in 0..CHANNELS {
        while last.recv(which) {}
    }
    last.held.clear();
    last.message.blocks.clear();
    drop(last);
    assert_eq!(board.errors.load(SeqCst), 0);
    let actors = board.actors.load(SeqCst);
    let figures = audit(board, &channels, actors);

    // And every byte is accounted for, as soon as children that were never born have been given up.
    drop(channels);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        arena.reap();
        arena.check_invariants().unwrap();
        let now = arena.statistics();
        if (now.in_use, now.blocks_in_use, now.channels, now.participants) == (0, 0, 0, 1) {
            break;
        }
        assert!(Instant::now() < deadline, "not given back: {now:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: nobody uses the board any more: the children are gone, and no reference leaves here.
    unsafe { libc::munmap(core::ptr::from_ref(board).cast_mut().cast(), size_of::<Board>()) };
    figures
}

fn audit(board: &Board, channels: &[Channel; CHANNELS], actors: u32) -> Figures {
    let mut figures = Figures { processes: u64::from(actors), ..Figures::default() };
    for (which, channel) in channels.iter().enumerate() {
        let sent = channel.statistics().sent as usize;
        assert_eq!(channel.taken() as usize, sent);
        // What dead receivers had taken without writing it down ends at their last claim.
        let mut lost = vec![false; sent];
        for actor in 0..actors {
            let Some(claim) = channel.claim(actor) else { continue };
            let claim = claim as usize;
            let receiver = board.log[which].get(claim).map_or(0, |entry| entry.load(SeqCst) >> 48);
            if receiver == u64::from(actor) + 1 {
                continue; // it wrote down all that it took
            }
            // A claim is noted just before the message is taken: its author may have died in
            // between, and somebody else have taken the message.
            let end = if claim >= sent || receiver != 0 { claim.min(sent) } else { claim + 1 };
            let run = (0..end).rev().take(MOST_BATCH as usize);
            for sequence in run.take_while(|&at| board.log[which][at].load(SeqCst) == 0) {
                lost[sequence] = true;
            }
        }
        let mut next = vec![0u32; actors as usize];
        let mut missing = 0;
        for (sequence, lost) in lost.iter().enumerate() {
            let entry = board.log[which][sequence].load(SeqCst);
            if entry == 0 {
                assert!(*lost, "channel {which}: message {sequence} was taken by nobody");
                figures.lost += 1;
                continue;
            }
            figures.came += 1;
            let (actor, number) = (entry >> 32 & 0xffff, entry as u32);
            let expected = &mut next[actor as usize];
            assert!(number >= *expected, "channel {which}: actor {actor}'s messages out of order");
            missing += u64::from(number - *expected);
            *expected = number + 1;
        }
        for (actor, next) in next.iter().enumerate() {
            let (begun, put) = (&board.begun[which][actor], &board.put[which][actor]);
            assert!(*next <= begun.load(SeqCst), "a message that nobody put");
            missing += u64::from(put.load(SeqCst).saturating_sub(*next));
        }
        let taken_along = lost.iter().filter(|lost| **lost).count() as u64;
        assert!(
            missing <= taken_along,
            "channel {which}: {missing} messages whose put had returned did not come, and only \
             {taken_along} were taken by processes that died"
        );
    }
    figures
}

// ---------------------------------------------------------------------------------------------
// Memory

/// A sender that waits when memory is short gets everything through a limit that holds a fraction
/// of it; one that does not wait gets an error. Nobody gets SIGBUS: all of each block is written.
fn full_memory_is_an_error_or_a_wait() {
    const LIMIT: u64 = 2 << 20;
    const LEN: usize = 200_000;
    const MESSAGES: u32 = 200;
    watchdog(60);
    let arena = Arena::create(ArenaConfig { limit: LIMIT, reserve: 1 << 30 }).unwrap();
    let channel = Channel::create(&arena, ChannelConfig { maxsize: 100, claim_slots: 0 }).unwrap();
    let mut blocks = Vec::new();
    let refused = loop {
        match arena.alloc(LEN) {
            Ok(mut block) => {
                block.as_mut_slice().fill(7);
                blocks.push(block);
            }
            Err(error) => break error,
        }
        assert!(blocks.len() < 100, "the limit holds");
    };
    assert!(matches!(refused, breakeven_shm::AllocError::Limit { .. }), "{refused:?}");
    assert!(arena.statistics().committed <= LIMIT);
    assert!(blocks.len() >= 5, "most of the limit can be used");
    drop(blocks);

    let sender = fork(|| {
        for number in 0..MESSAGES {
            let mut block = loop {
                let mut got = arena.alloc(LEN).ok();
                if let Some(block) = got.take() {
                    break block;
                }
                // The check after announcing is the allocation itself.
                arena.wait_freed(Duration::from_secs(1), || {
                    got = arena.alloc(LEN).ok();
                    got.is_some()
                });
                if let Some(block) = got {
                    break block;
                }
            };
            block.as_mut_slice().fill(number as u8);
            let mut blocks = vec![block];
            while channel.try_send(0, &number.to_ne_bytes(), &mut blocks).is_err() {
                channel.wait_writable(Duration::from_secs(1));
            }
        }
    });
    let mut message = Message::new();
    let mut held = Vec::new();
    for number in 0..MESSAGES {
        while channel.try_recv(&mut message).is_err() {
            channel.wait_readable(Duration::from_secs(1));
        }
        assert_eq!(message.payload(), number.to_ne_bytes());
        assert!(all_are(message.blocks[0].as_slice(), number as u8));
        held.append(&mut message.blocks);
        if held.len() == 4 {
            held.clear(); // some are kept for a while, so that the sender must wait
        }
        assert!(arena.statistics().committed <= LIMIT);
    }
    assert_eq!(wait(sender), 0, "the sender ended well, not by SIGBUS");
    held.clear();
    drop(channel);
    arena.reap();
    assert_eq!(arena.statistics().in_use, 0);
    arena.check_invariants().unwrap();
    watchdog(0);
}

// ---------------------------------------------------------------------------------------------
// Forks

/// A fork finds the other threads of the parent anywhere, also within a send. The child can use
/// the channel nonetheless, and the parent's messages are not disturbed.
#[allow(clippy::disallowed_methods, reason = "the thread is what is tested")]
fn forks_while_another_thread_sends() {
    const FORKS: u32 = 100;
    watchdog(60);
    let arena = Arena::create(ArenaConfig { limit: 64 << 20, reserve: 1 << 30 }).unwrap();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    let stop = AtomicU32::new(0);
    let (mut from_thread, mut from_children) = (0u64, [0u32; FORKS as usize]);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0u64;
            while stop.load(SeqCst) == 0 {
                let mut blocks = Vec::new();
                if sent.is_multiple_of(16) {
                    blocks.extend(arena.alloc(5000).ok());
                }
                if channel.len() < 5000 && channel.try_send(1, &sent.to_ne_bytes(), &mut blocks).is_ok() {
                    sent += 1;
                }
            }
            sent
        });
        let mut take = |until_empty: bool| {
            let mut message = Message::new();
            let mut count = 0;
            while (until_empty || count < 3000) && channel.try_recv(&mut message).is_ok() {
                count += 1;
                if message.tag == 1 {
                    assert_eq!(message.payload(), from_thread.to_ne_bytes(), "in order, none missing");
                    from_thread += 1;
                } else {
                    let child = u32::from_ne_bytes(message.payload().try_into().unwrap());
                    from_children[child as usize] += 1;
                }
            }
        };
        for child in 0..FORKS {
            let pid = fork(|| {
                let mut blocks = vec![arena.alloc(1000).unwrap()];
                channel.try_send(2, &child.to_ne_bytes(), &mut blocks).unwrap();
                let other = Channel::create(&arena, ChannelConfig::default()).unwrap();
                other.try_send(0, b"own", &mut Vec::new()).unwrap();
                other.try_recv(&mut Message::new()).unwrap();
            });
            take(false);
            assert_eq!(wait(pid), 0);
        }
        stop.store(1, SeqCst);
        let sent = sender.join().unwrap();
        take(true);
        sent
    });
    assert_eq!(from_thread, sent);
    assert_eq!(from_children, [1; FORKS as usize]);
    drop(channel);
    arena.reap();
    assert_eq!((arena.statistics().in_use, arena.statistics().participants), (0, 1));
    arena.check_invariants().unwrap();
    watchdog(0);
}

// ---------------------------------------------------------------------------------------------
// The report

/// The report is only seen when something is wrong; so here is a program in which something is.
fn a_report_of_a_hang_says_who_waits_for_what() {
    watchdog(60);
    let word: &'static AtomicU32 = shared();
    about_to("sleep");
    let sleeper = fork(|| {
        loop {
            // SAFETY: sleeps on a word that stays mapped, until it is killed.
            unsafe {
                libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, core::ptr::null::<libc::timespec>())
            };
        }
    });
    about_to("be a zombie");
    let zombie = fork(|| {});
    let is_there = |report: &str| {
        let lines = [
            format!("HANG: {sleeper} (of {}) 'sleep' S", std::process::id()),
            "expects 0x0, is 0x0 (tid 0), for ever".to_owned(),
            ", 1 zombies;".to_owned(),
        ];
        lines.iter().all(|line| report.contains(line))
    };
    let mut report = String::new();
    let started = Instant::now();
    while !is_there(&report) {
        assert!(started.elapsed() < Duration::from_secs(30), "not what was expected:\n{report}");
        report = watchdog::report(std::process::id() as i32);
    }
    kill(sleeper);
    wait(sleeper);
    wait(zombie);
    watchdog(0);
}

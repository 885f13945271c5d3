//! What each thread does at each moment.
//!
//! Spans nest, so a sweep over a thread's records cuts its life into *leaves*: stretches in which one span (or none) is the
//! innermost. The kernel's accounts say how much of a leaf the thread ran, was runnable without running, and slept; a
//! leaf's time is laid out in that order, for work (first it runs, then it waits), and in the opposite order for waits
//! (first it waits, then it runs). From the leaves of its threads each process gets *stretches*: who speaks for it.
//!
//! Everything is a sort and a sweep: O(n log n) in records plus samples.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, RecordKind};
use crate::recording::{Charges, Process, Recording, Role, Thread, ThreadSample};

/// No record: the program's own code.
pub(crate) const OWN: u32 = u32::MAX;

/// So many leaves before a sample may get what it says too late.
const EARLIER: usize = 32;

/// How a moment of a thread is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// On a core.
    Running,
    /// On a core, or rather in the kernel, which provides pages.
    Faulting,
    /// Runnable, but not running.
    Delayed,
    /// Asleep.
    Waiting,
}

/// A stretch of a thread's life with one innermost span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    pub begin: u64,
    pub end: u64,
    /// Index into the process's records, or [`OWN`].
    pub record: u32,
    /// Whether the span is one that waits by its nature.
    pub waits: bool,
    /// Nanoseconds on a core, page faults among them.
    pub run: u64,
    /// Nanoseconds of page faults.
    pub fault: u64,
    /// Nanoseconds runnable.
    pub delay: u64,
}

impl Leaf {
    pub fn duration(&self) -> u64 {
        self.end - self.begin
    }

    /// Nanoseconds asleep.
    pub fn asleep(&self) -> u64 {
        self.duration().saturating_sub(self.run).saturating_sub(self.delay)
    }

    /// The states of the leaf, in their order, with the end of each; empty ones are left out.
    pub fn states(&self) -> impl Iterator<Item = (State, u64, u64)> {
        let (asleep, pure) = (self.asleep(), self.run - self.fault);
        let order = if self.waits {
            [
                (State::Waiting, asleep),
                (State::Delayed, self.delay),
                (State::Faulting, self.fault),
                (State::Running, pure),
            ]
        } else {
            [
                (State::Faulting, self.fault),
                (State::Running, pure),
                (State::Delayed, self.delay),
                (State::Waiting, asleep),
            ]
        };
        let mut at = self.begin;
        order.into_iter().filter(|(_, length)| *length > 0).map(move |(state, length)| {
            let begin = at;
            at += length;
            (state, begin, at)
        })
    }

    /// The state at a moment of the leaf, and until when it lasts.
    pub fn state_at(&self, moment: u64) -> (State, u64) {
        self.states()
            .find(|(_, _, end)| *end > moment)
            .map_or((State::Waiting, self.end), |(state, _, end)| (state, end))
    }
}

/// One thread.
#[derive(Debug, Clone)]
pub(crate) struct ThreadLine {
    pub tid: u32,
    pub role: Role,
    /// The thread's life.
    pub begin: u64,
    pub end: u64,
    /// Without gaps from begin to end.
    pub leaves: Vec<Leaf>,
    /// Voluntary context switches a second asleep in own code: a thread that waits for the interpreter's lock looks
    /// whether it is free two hundred times a second.
    pub restless: f64,
}

impl ThreadLine {
    /// Index of the leaf at a moment.
    pub fn leaf_at(&self, moment: u64) -> Option<usize> {
        let next = self.leaves.partition_point(|leaf| leaf.end <= moment);
        (next < self.leaves.len() && self.leaves[next].begin <= moment).then_some(next)
    }

    /// Whether Python code of the program itself runs here.
    pub fn is_own(&self) -> bool {
        matches!(self.role, Role::Main | Role::User | Role::ThreadWorker)
    }
}

/// Who speaks for a process in a stretch of its life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub begin: u64,
    pub end: u64,
    pub thread: u32,
    pub leaf: u32,
    pub state: State,
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct ProcessLine {
    pub begin: u64,
    pub end: u64,
    /// The first one is the main thread.
    pub threads: Vec<ThreadLine>,
    /// Without gaps from begin to end; empty only if the life is.
    pub stretches: Vec<Stretch>,
    /// For each record, the one that encloses it, or [`OWN`].
    pub enclosing: Vec<u32>,
    /// For each record, nanoseconds of its own (without those of spans in it).
    pub exclusive: Vec<u64>,
    /// By the kernel's number.
    pub by_tid: BTreeMap<u32, usize>,
}

impl ProcessLine {
    /// Index of the stretch at a moment.
    pub fn stretch_at(&self, moment: u64) -> Option<usize> {
        let next = self.stretches.partition_point(|stretch| stretch.end <= moment);
        (next < self.stretches.len() && self.stretches[next].begin <= moment).then_some(next)
    }
}

/// Whether a span of this kind is there to wait.
pub(crate) fn waits(kind: RecordKind) -> bool {
    use RecordKind as K;
    matches!(
        kind,
        K::Join
            | K::Close
            | K::Result
            | K::Recv
            | K::Poll
            | K::Get
            | K::Put
            | K::LockWait
            | K::Call
            | K::Send
            | K::Serve
    )
}

/// Whether a leaf's span only waits for others, without any work of its own.
fn is_idle(records: &[Record], leaf: &Leaf) -> bool {
    use RecordKind as K;
    leaf.record != OWN && matches!(records[leaf.record as usize].kind, K::Join | K::Close | K::Poll | K::LockWait)
}

/// Whether a leaf's span does nothing but wait, so that it needs hardly any CPU time.
fn only_waits(records: &[Record], leaf: &Leaf) -> bool {
    use RecordKind as K;
    leaf.record != OWN
        && matches!(
            records[leaf.record as usize].kind,
            K::Join | K::Close | K::Result | K::Poll | K::LockWait | K::Get | K::Put
        )
}

/// Whether a record is a point, or counts for its object only: no span of the thread.
fn is_point(kind: RecordKind) -> bool {
    use RecordKind as K;
    matches!(
        kind,
        K::Born
            | K::Thread
            | K::Exit
            | K::Argument
            | K::Pipe
            | K::Queue
            | K::LockHold
            | K::LockFree
            | K::Blas
            | K::Cost
    )
}

/// All processes of a recording.
pub(crate) fn lines(recording: &Recording, charges: &Charges) -> Vec<ProcessLine> {
    // Other processes wrote the moments: nothing lies outside of the run, and no run takes longer than two weeks.
    let start = recording.start;
    let end = recording.end.clamp(start, start.saturating_add(1 << 50));
    recording.processes.iter().map(|process| process_line(process, (start, end), charges)).collect()
}

fn process_line(process: &Process, run: (u64, u64), charges: &Charges) -> ProcessLine {
    let begin = process.start.clamp(run.0, run.1);
    let end = process.end.clamp(begin, run.1);
    let records = &process.records;
    let mut by_thread: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut seen: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (index, record) in records.iter().enumerate().filter(|(_, record)| record.kind != RecordKind::Cost) {
        let (from, to) = (record.begin.clamp(begin, end), record.end.clamp(begin, end));
        let life = seen.entry(record.thread).or_insert((from, to));
        *life = (life.0.min(from), life.1.max(to));
        if !is_point(record.kind) {
            by_thread.entry(record.thread).or_default().push(index as u32);
        }
    }
    let mut enclosing = vec![OWN; records.len()];
    let mut exclusive = vec![0; records.len()];
    let mut threads: Vec<ThreadLine> = Vec::new();
    let mut by_tid = BTreeMap::new();
    let nobody = Vec::new();
    let main = process.threads.first().map_or(process.pid, |thread| thread.tid);
    let unknown: Vec<Thread> = seen
        .keys()
        .filter(|tid| **tid != main && !process.threads.iter().any(|thread| thread.tid == **tid))
        .map(|&tid| Thread { tid, role: role_by_records(process, tid), ..Thread::default() })
        .collect();
    // A process too short for samples of its threads has one at its end, which is that of its only thread.
    let ends = process.samples.iter().map(|sample| ThreadSample {
        at: sample.at,
        cpu: sample.cpu,
        minor_faults: sample.minor_faults,
        ..ThreadSample::default()
    });
    let first = Thread { tid: main, samples: ends.collect(), ..Thread::default() };
    let alone = match &process.threads[..] {
        [] => true,
        [only] => only.samples.is_empty() && only.tid == main,
        _ => false,
    };
    let known = if alone && unknown.is_empty() { std::slice::from_ref(&first) } else { &process.threads[..] };
    for (index, thread) in known.iter().chain(&unknown).enumerate() {
        if by_tid.contains_key(&thread.tid) {
            continue;
        }
        let (from, to) = if index == 0 {
            (begin, end)
        } else {
            let sampled = thread.samples.first().zip(thread.samples.last()).map(|(a, b)| (a.at, b.at));
            let (from, to) = match (seen.get(&thread.tid).copied(), sampled) {
                (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
                (Some(life), None) | (None, Some(life)) => life,
                (None, None) => (begin, begin),
            };
            (from.clamp(begin, end), to.clamp(begin, end))
        };
        let spans = by_thread.get(&thread.tid).unwrap_or(&nobody);
        let role = match thread.role {
            _ if index == 0 => Role::Main,
            // loky has feeders of its own.
            Role::User if thread.name.ends_with("_feed") => Role::Feeder,
            role => role,
        };
        let helps = !matches!(role, Role::Main | Role::User | Role::ThreadWorker);
        let mut cut = cut(records, spans, &mut enclosing, &mut exclusive, from, to);
        // Outside of spans a thread of the standard library's waits for something to do.
        cut.iter_mut().filter(|leaf| leaf.record == OWN).for_each(|leaf| leaf.waits = helps);
        let marks = marks(process, thread, from);
        let (leaves, restless) = weigh(records, cut, &exclusive, &enclosing, &marks, charges);
        by_tid.insert(thread.tid, threads.len());
        threads.push(ThreadLine { tid: thread.tid, role, begin: from, end: to, leaves, restless });
    }
    let stretches = speakers(records, &threads, begin, end);
    ProcessLine { begin, end, threads, stretches, enclosing, exclusive, by_tid }
}

/// The role of a thread that no sample has seen, by its own `Thread` record.
fn role_by_records(process: &Process, tid: u32) -> Role {
    let named = process.records.iter().find(|record| record.thread == tid && record.kind == RecordKind::Thread);
    let Some(record) = named else { return Role::User };
    process.strings.get(record.name as usize).and_then(|name| Role::from_name(name)).unwrap_or(Role::User)
}

/// Cuts a thread's life at the begins and ends of its spans.
fn cut(
    records: &[Record],
    spans: &[u32],
    enclosing: &mut [u32],
    exclusive: &mut [u64],
    from: u64,
    to: u64,
) -> Vec<Leaf> {
    let mut order: Vec<u32> = spans.to_vec();
    order.sort_by_key(|&index| (records[index as usize].begin, std::cmp::Reverse(records[index as usize].end), index));
    let mut leaves: Vec<Leaf> = Vec::with_capacity(2 * order.len() + 1);
    // Open spans with their ends, each within the one before: whatever stood in the ring, they nest.
    let mut open: Vec<(u32, u64)> = Vec::new();
    let mut at = from;
    let mut until = |moment: u64, inner: u32, leaves: &mut Vec<Leaf>| {
        let moment = moment.clamp(at, to);
        if moment > at {
            let waits = inner != OWN && waits(records[inner as usize].kind);
            leaves.push(Leaf { begin: at, end: moment, record: inner, waits, run: 0, fault: 0, delay: 0 });
            if inner != OWN {
                exclusive[inner as usize] += moment - at;
            }
            at = moment;
        }
    };
    for index in order {
        let record = &records[index as usize];
        while let Some(&(inner, end)) = open.last() {
            if end > record.begin {
                break;
            }
            until(end, inner, &mut leaves);
            open.pop();
        }
        until(record.begin, open.last().map_or(OWN, |top| top.0), &mut leaves);
        enclosing[index as usize] = open.last().map_or(OWN, |top| top.0);
        let end = open.last().map_or(record.end, |top| record.end.min(top.1)).min(to);
        open.push((index, end));
    }
    while let Some((inner, end)) = open.pop() {
        until(end, inner, &mut leaves);
    }
    until(to, OWN, &mut leaves);
    leaves
}

/// A thread's samples, one of its begin before them.
fn marks(process: &Process, thread: &Thread, from: u64) -> Vec<ThreadSample> {
    let mut marks = vec![ThreadSample { at: from, ..ThreadSample::default() }];
    for sample in thread.samples.iter().chain(at_exit(process, thread).as_ref()) {
        if sample.at > marks[marks.len() - 1].at {
            marks.push(*sample);
        }
    }
    marks
}

/// The account of a process's only thread at its end, which the process itself has given: of short lives, or where the
/// supervisor came late, the thread's own samples do not tell it.
fn at_exit(process: &Process, thread: &Thread) -> Option<ThreadSample> {
    let (whole, own) = (process.samples.last()?, thread.samples.last().copied().unwrap_or_default());
    let alone = process.threads.len() <= 1 && whole.at > own.at && whole.cpu >= own.cpu;
    alone.then(|| ThreadSample {
        at: whole.at,
        cpu: whole.cpu,
        minor_faults: whole.minor_faults.max(own.minor_faults),
        major_faults: whole.major_faults.max(own.major_faults),
        state: b'R',
        // How often it slept since then nobody has said.
        voluntary: own.voluntary.saturating_add(1),
        ..own
    })
}

/// Says how much of each leaf ran, by the spans' own CPU times and the kernel's samples.
fn weigh(
    records: &[Record],
    leaves: Vec<Leaf>,
    exclusive: &[u64],
    enclosing: &[u32],
    marks: &[ThreadSample],
    charges: &Charges,
) -> (Vec<Leaf>, f64) {
    // CPU of a span without that of the spans in it, where it was measured.
    let mut own_cpu: BTreeMap<u32, u64> = BTreeMap::new();
    for leaf in &leaves {
        if leaf.record != OWN && records[leaf.record as usize].cpu != Record::NOT_MEASURED {
            own_cpu.insert(leaf.record, records[leaf.record as usize].cpu);
        }
    }
    if !own_cpu.is_empty() {
        let mut done = BTreeSet::new();
        for leaf in &leaves {
            let mut inner = leaf.record;
            // Spans whose own leaves are empty (all their time is in others) are met through those in them.
            while inner != OWN && done.insert(inner) {
                let record = &records[inner as usize];
                let outer = enclosing[inner as usize];
                let used = match record.cpu {
                    Record::NOT_MEASURED if waits(record.kind) => 0,
                    Record::NOT_MEASURED => record.duration(),
                    cpu => cpu,
                };
                if let Some(cpu) = (outer != OWN).then(|| own_cpu.get_mut(&outer)).flatten() {
                    *cpu = cpu.saturating_sub(used);
                }
                inner = outer;
            }
        }
    }
    let mut leaves = split(leaves, marks);
    for leaf in &mut leaves {
        let duration = leaf.duration();
        let whole = leaf.record != OWN && exclusive[leaf.record as usize] == duration;
        leaf.run = match own_cpu.get(&leaf.record) {
            // Long spans in pieces: the samples know better which piece ran.
            Some(_) if !whole && marks.len() > 1 && duration > 0 && !leaf.waits => u64::MAX,
            Some(&cpu) => {
                let all = exclusive[leaf.record as usize].max(1);
                ((cpu as f64 / all as f64).min(1.0) * duration as f64) as u64
            }
            None if leaf.waits => 0,
            None => u64::MAX, // to be found out
        };
    }
    let usual = usual_gaps(records, &leaves, charges);
    let mut restless = (0.0, 0.0);
    let mut next = 0;
    for pair in marks.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        while next < leaves.len() && leaves[next].begin < before.at {
            next += 1;
        }
        let first = next;
        while next < leaves.len() && leaves[next].end <= after.at {
            next += 1;
        }
        let usual = &usual[first..next];
        let window = &mut leaves[first..next];
        let cpu = after.cpu.saturating_sub(before.cpu);
        let known: u64 = window.iter().filter(|leaf| leaf.run != u64::MAX).map(|leaf| leaf.run).sum();
        let pairs = || window.iter().zip(usual).filter(|(leaf, _)| leaf.run == u64::MAX);
        let elastic: u64 = pairs().map(|(leaf, usual)| leaf.duration().min(*usual)).sum();
        let excess: u64 = pairs().map(|(leaf, usual)| leaf.duration().saturating_sub(*usual)).sum();
        let rest = cpu.saturating_sub(known);
        let ratio = if elastic == 0 { 0.0 } else { (rest as f64 / elastic as f64).min(1.0) };
        // What is left ran inside waits, as far as waits need it (reading, waking up); then in what took far longer than
        // it usually does, which was rather interrupted; then in the waits all the same.
        let left = rest.saturating_sub(elastic) as f64;
        let most = charges.message * 1e9;
        let need =
            |leaf: &Leaf| if is_idle(records, leaf) { 0.0 } else { most.min((leaf.duration() - leaf.run) as f64) };
        let needed: f64 = window.iter().filter(|leaf| leaf.waits).map(need).sum();
        let met = if excess > 0 && needed > 0.0 { (left / needed).min(1.0) } else { 0.0 };
        let left = left - met * needed;
        // Amid many messages, what is far longer than usual was interrupted, as far as the waits have room for the CPU time.
        let gaps = usual.iter().filter(|limit| **limit != u64::MAX).count();
        let spare: f64 = window.iter().filter(|leaf| leaf.waits).map(|leaf| (leaf.duration() - leaf.run) as f64).sum();
        let after_waits = (left - (spare - met * needed).max(0.0)).max(0.0);
        let most = if window.len() > gaps * 8 + OFTEN { after_waits } else { left };
        let beyond = if excess == 0 { 0.0 } else { (most / excess as f64).min(1.0) };
        for (leaf, usual) in window.iter_mut().zip(usual) {
            if leaf.run == u64::MAX {
                let plain = leaf.duration().min(*usual);
                leaf.run = (ratio * plain as f64 + beyond * (leaf.duration() - plain) as f64) as u64;
            } else if leaf.waits {
                leaf.run += (met * need(leaf)) as u64;
            }
        }
        let left = left - beyond * excess as f64;
        let only = if excess > 0 { 1.0 } else { 0.1 };
        let room =
            |leaf: &Leaf| (leaf.duration() - leaf.run) as f64 * if only_waits(records, leaf) { only } else { 1.0 };
        let all: f64 = window.iter().filter(|leaf| leaf.waits).map(room).sum();
        if left > 0.0 && all > 0.0 {
            let ratio = (left / all).min(1.0);
            for leaf in window.iter_mut().filter(|leaf| leaf.waits) {
                leaf.run += (ratio * room(leaf)) as u64;
            }
        }
        let mut delay = after.delay.saturating_sub(before.delay);
        // Who was runnable at both ends and gave up its core of its own will not once in between has not slept.
        if before.state == b'R' && after.state == b'R' && before.voluntary == after.voluntary {
            delay = delay.max((after.at - before.at).saturating_sub(cpu));
        }
        for waiting in [false, true] {
            let room: u64 =
                window.iter().filter(|leaf| leaf.waits == waiting).map(|leaf| leaf.duration() - leaf.run).sum();
            if delay == 0 || room == 0 {
                continue;
            }
            let ratio = (delay as f64 / room as f64).min(1.0);
            delay = delay.saturating_sub(room);
            for leaf in window.iter_mut().filter(|leaf| leaf.waits == waiting) {
                leaf.delay = (ratio * (leaf.duration() - leaf.run) as f64) as u64;
            }
        }
        // The kernel books a wait for a core when it is over: what has no room here was before.
        for waiting in [false, true] {
            for leaf in leaves[..first].iter_mut().rev().take(EARLIER).filter(|leaf| leaf.waits == waiting) {
                let back = delay.min(leaf.asleep());
                leaf.delay += back;
                delay -= back;
                if delay == 0 {
                    break;
                }
            }
        }
        let window = &mut leaves[first..next];
        let faults = after.minor_faults.saturating_sub(before.minor_faults) as f64 * charges.page_fault * 1e9;
        let ran: u64 = window.iter().map(|leaf| leaf.run).sum();
        if ran > 0 && faults > 0.0 {
            let ratio = (faults / ran as f64).min(0.9);
            for leaf in window.iter_mut() {
                leaf.fault = (ratio * leaf.run as f64) as u64;
            }
        }
        let asleep: u64 = window.iter().filter(|leaf| !leaf.waits).map(Leaf::asleep).sum();
        restless.0 += after.voluntary.saturating_sub(before.voluntary) as f64;
        restless.1 += asleep as f64 * 1e-9;
    }
    for leaf in leaves.iter_mut().filter(|leaf| leaf.run == u64::MAX) {
        leaf.run = own_cpu.get(&leaf.record).map_or(leaf.duration(), |&cpu| {
            let all = exclusive[leaf.record as usize].max(1);
            ((cpu as f64 / all as f64).min(1.0) * leaf.duration() as f64) as u64
        });
    }
    (leaves, if restless.1 > 0.0 { restless.0 / restless.1 } else { 0.0 })
}

/// So many times a gap between two calls must have been seen before what is usual for it is spoken of.
const OFTEN: usize = 32;
/// No thread is interrupted for less, in messages' charges.
const INTERRUPTION: f64 = 4.0;

/// For each leaf, nanoseconds beyond which it has rather been interrupted (by other threads, or for the interpreter's lock)
/// than worked: what lies between the same two calls of the program, again and again, usually takes about the same. Others:
/// without a limit.
fn usual_gaps(records: &[Record], leaves: &[Leaf], charges: &Charges) -> Vec<u64> {
    let least = (INTERRUPTION * charges.message * 1e9) as u64;
    let of = |leaf: &Leaf| (leaf.record != OWN).then(|| &records[leaf.record as usize]);
    let kind = |leaf: Option<&Leaf>| leaf.and_then(of).map_or((0, 0), |record| (record.kind.code(), record.site));
    let is_lock = |leaf: Option<&Leaf>| leaf.and_then(of).is_some_and(|record| record.kind == RecordKind::LockWait);
    let mut gaps: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let mut keys = vec![None; leaves.len()];
    for (index, leaf) in leaves.iter().enumerate() {
        if leaf.run != u64::MAX || index == 0 || index + 1 == leaves.len() {
            continue;
        }
        // The same code runs around a lock, whether it is free or must be waited for: but then the release wakes others.
        let before = if is_lock(leaves.get(index - 1)) { index.checked_sub(3) } else { Some(index - 1) };
        let after = if is_lock(leaves.get(index + 1)) { index + 3 } else { index + 1 };
        let key = (kind(Some(leaf)).0, kind(before.and_then(|before| leaves.get(before))), kind(leaves.get(after)));
        keys[index] = Some(key);
        gaps.entry(key).or_default().push(leaf.duration());
    }
    let usual: BTreeMap<_, u64> = gaps
        .into_iter()
        .filter(|(_, gaps)| gaps.len() >= OFTEN)
        .map(|(key, mut gaps)| {
            let middle = gaps.len() / 2;
            (key, *gaps.select_nth_unstable(middle).1)
        })
        .collect();
    let limit = |(index, key): (usize, &Option<_>)| {
        let locks = index > 0 && is_lock(leaves.get(index - 1)) || is_lock(leaves.get(index + 1));
        let usual = key.and_then(|key| usual.get(&key)).copied();
        let longer = |usual: &u64| leaves[index].duration() > if locks { 2 * usual } else { least.max(8 * usual) };
        usual.filter(longer).unwrap_or(u64::MAX)
    };
    keys.iter().enumerate().map(limit).collect()
}

/// Cuts leaves at the moments of samples.
fn split(leaves: Vec<Leaf>, marks: &[ThreadSample]) -> Vec<Leaf> {
    let mut pieces = Vec::with_capacity(leaves.len() + marks.len());
    let mut mark = 0;
    for mut leaf in leaves {
        while mark < marks.len() && marks[mark].at <= leaf.begin {
            mark += 1;
        }
        while mark < marks.len() && marks[mark].at < leaf.end {
            pieces.push(Leaf { end: marks[mark].at, ..leaf });
            leaf.begin = marks[mark].at;
            mark += 1;
        }
        pieces.push(leaf);
    }
    pieces
}

/// How far up a leaf's state speaks for its process: the state, how near it is to own code, and the thread.
type Rank = (State, u8, u32);

/// Who speaks when: one that runs over one that could, over one that waits; of equals the one nearest to the program's own
/// code.
fn speakers(records: &[Record], threads: &[ThreadLine], begin: u64, end: u64) -> Vec<Stretch> {
    // (moment, not an end, rank, thread, leaf, state): ends sort before begins.
    let mut events: Vec<(u64, bool, Rank, u32)> = Vec::new();
    for (number, thread) in threads.iter().enumerate() {
        for (index, leaf) in thread.leaves.iter().enumerate() {
            let near = nearness(records, thread, leaf);
            for (state, from, to) in leaf.states() {
                let rank = (state, near, number as u32);
                events.push((from, true, rank, index as u32));
                events.push((to, false, rank, index as u32));
            }
        }
    }
    events.sort_unstable();
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut active: BTreeSet<(Rank, u32)> = BTreeSet::new();
    let mut at = begin;
    for (moment, is_begin, rank, leaf) in events {
        if let Some(&((state, _, thread), leaf)) = active.first()
            && moment > at
        {
            stretches.push(Stretch { begin: at, end: moment, thread, leaf, state });
        }
        at = at.max(moment);
        if is_begin {
            active.insert((rank, leaf));
        } else {
            active.remove(&(rank, leaf));
        }
    }
    debug_assert!(stretches.last().is_none_or(|last| last.end == end));
    stretches
}

/// How far a leaf is from the program's own code; 0 is nearest.
fn nearness(records: &[Record], thread: &ThreadLine, leaf: &Leaf) -> u8 {
    let own = leaf.record == OWN
        || matches!(
            records[leaf.record as usize].kind,
            RecordKind::Task | RecordKind::Run | RecordKind::Serve | RecordKind::Produce
        );
    match (thread.role, own, leaf.waits) {
        (Role::Main | Role::User | Role::ThreadWorker, true, _) => 1,
        // Of those that wait, one whose reason is known.
        (Role::Main | Role::User | Role::ThreadWorker, false, true) => 0,
        (Role::Main | Role::User | Role::ThreadWorker, false, false) => 2,
        (Role::Native, ..) => 5,
        (_, false, _) => 3,
        (_, true, _) => 4,
    }
}

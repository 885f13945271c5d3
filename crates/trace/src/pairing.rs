//! Who is at the other end: which thread (or process) a wait waits for.
//!
//! Built once from all records: for each pipe its writers and readers, for each lock its holders, for each pool its tasks,
//! for each manager its calls. Every question is a binary search.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, RecordKind};
use crate::recording::{Recording, Role};
use crate::timeline::{OWN, ProcessLine};

/// A record's place: process, thread and record, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub process: u32,
    pub thread: u32,
    pub record: u32,
    pub begin: u64,
    pub end: u64,
}

/// Spans on one object, with what is needed to search them by begin or by end.
#[derive(Debug, Default)]
struct Track {
    by_begin: Vec<Spot>,
    by_end: Vec<Spot>,
}

impl Track {
    fn sort(&mut self) {
        self.by_end = self.by_begin.clone();
        self.by_begin.sort_by_key(|spot| spot.begin);
        self.by_end.sort_by_key(|spot| spot.end);
    }

    /// The first one that ends at or after a moment.
    fn first_ending_from(&self, moment: u64) -> Option<Spot> {
        self.by_end.get(self.by_end.partition_point(|spot| spot.end < moment)).copied()
    }

    /// The last one that ends at or before a moment.
    fn last_ended_by(&self, moment: u64) -> Option<Spot> {
        self.by_end.partition_point(|spot| spot.end <= moment).checked_sub(1).map(|last| self.by_end[last])
    }

    /// The last one that ends at or before a moment, not by a certain thread.
    fn last_ended_by_another(&self, moment: u64, not: (u32, u32)) -> Option<Spot> {
        let count = self.by_end.partition_point(|spot| spot.end <= moment);
        self.by_end[..count].iter().rev().take(64).find(|spot| (spot.process, spot.thread) != not).copied()
    }

    /// The last one that begins at or before a moment, not by a certain thread.
    fn last_begun_by(&self, moment: u64, not: (u32, u32)) -> Option<Spot> {
        let count = self.by_begin.partition_point(|spot| spot.begin <= moment);
        // A thread's own spans are apart, so that a few steps find another's where there are others.
        self.by_begin[..count].iter().rev().take(16).find(|spot| (spot.process, spot.thread) != not).copied()
    }
}

/// `Submit.value` is 0 for an iterator without length: its tasks are those of the same job.
const UNCOUNTED: u64 = 1 << 32;
/// `Join.value` of `Thread.join`, whose object is the thread's number.
const OF_A_THREAD: u64 = 1 << 62;

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// What a thread does.
    Thread(u32, u32),
    /// What a process does, whichever thread speaks for it.
    Process(u32),
    /// A result whose task a thread has run, or will; it ends at that moment.
    Task(Spot),
    /// Something that nobody has noted.
    Unknown,
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    sends: BTreeMap<u64, Track>,
    recvs: BTreeMap<u64, Track>,
    gets: BTreeMap<u64, Track>,
    holds: BTreeMap<u64, Track>,
    lock_waits: BTreeMap<u64, Track>,
    calls: BTreeMap<u64, Track>,
    serves: BTreeMap<u64, Track>,
    tasks: BTreeMap<u64, Track>,
    task_by_link: BTreeMap<(u64, u64), Spot>,
    /// Submissions with their number of tasks.
    submits: BTreeMap<(u64, u64), (u64, Spot)>,
    peers: BTreeMap<u64, u64>,
    by_pid: BTreeMap<u32, Vec<u32>>,
    /// The processes that each process asked for.
    pub children: Vec<Vec<u32>>,
    /// Each process's asker.
    pub parents: Vec<Option<u32>>,
    /// By process: from the begin of its first task to the end of its last.
    pub work: Vec<(u64, u64)>,
    /// By lock that is waited for: how many threads wait there.
    parties: BTreeMap<u64, usize>,
    /// By lock: nanoseconds for which it is usually held.
    usual_hold: BTreeMap<u64, u64>,
}

impl Pairs {
    pub fn new(recording: &Recording, lines: &[ProcessLine]) -> Self {
        let mut pairs = Pairs::default();
        for (number, process) in recording.processes.iter().enumerate() {
            if !crate::attribute::is_phantom(recording, number) {
                pairs.by_pid.entry(process.pid).or_default().push(number as u32);
            }
            for (index, record) in process.records.iter().enumerate() {
                let Some(&thread) = lines[number].by_tid.get(&record.thread) else { continue };
                let spot = Spot {
                    process: number as u32,
                    thread: thread as u32,
                    record: index as u32,
                    begin: record.begin,
                    end: record.end,
                };
                pairs.note(record, spot);
            }
        }
        // Numbers are used again: of several processes with one, the last that was born before its child.
        pairs.parents = recording
            .processes
            .iter()
            .map(|child| {
                let all = pairs.by_pid.get(&child.parent)?;
                let born = |&&number: &&u32| recording.processes[number as usize].start <= child.start;
                all.iter().rev().find(born).or_else(|| all.first()).copied()
            })
            .collect();
        pairs.children = vec![Vec::new(); lines.len()];
        for number in 0..lines.len() {
            match pairs.parents[number] {
                Some(parent) if parent as usize != number => pairs.children[parent as usize].push(number as u32),
                _ => pairs.parents[number] = None,
            }
        }
        for tracks in [
            &mut pairs.sends,
            &mut pairs.recvs,
            &mut pairs.gets,
            &mut pairs.holds,
            &mut pairs.lock_waits,
            &mut pairs.calls,
            &mut pairs.serves,
            &mut pairs.tasks,
        ] {
            tracks.values_mut().for_each(Track::sort);
        }
        pairs.work = recording
            .processes
            .iter()
            .map(|process| {
                let mut work = (u64::MAX, 0);
                for record in &process.records {
                    if matches!(record.kind, RecordKind::Task | RecordKind::Run) {
                        work = (work.0.min(record.begin), work.1.max(record.end));
                    }
                }
                work
            })
            .collect();
        for (&lock, track) in &pairs.holds {
            let mut held: Vec<u64> = track.by_begin.iter().map(|spot| spot.end - spot.begin).collect();
            let middle = held.len() / 2;
            let (_, &mut usual, _) = held.select_nth_unstable(middle);
            pairs.usual_hold.insert(lock, usual);
        }
        for (&lock, track) in &pairs.lock_waits {
            let threads: BTreeSet<(u32, u32)> = track.by_begin.iter().map(|spot| (spot.process, spot.thread)).collect();
            pairs.parties.insert(lock, threads.len());
        }
        pairs
    }

    fn note(&mut self, record: &Record, spot: Spot) {
        use RecordKind as K;
        let tracks = match record.kind {
            K::Send => &mut self.sends,
            K::Recv => &mut self.recvs,
            K::Get => &mut self.gets,
            K::LockHold => &mut self.holds,
            K::LockWait => &mut self.lock_waits,
            K::Call => &mut self.calls,
            K::Serve => &mut self.serves,
            K::Task => {
                self.task_by_link.insert((record.object, record.link), spot);
                &mut self.tasks
            }
            K::Submit => {
                self.submits.insert(
                    (record.object, record.link),
                    (if record.value == 0 { UNCOUNTED } else { record.value }, spot),
                );
                return;
            }
            K::Pipe => {
                if record.object != record.link {
                    self.peers.insert(record.object, record.link);
                    self.peers.insert(record.link, record.object);
                }
                return;
            }
            _ => return,
        };
        tracks.entry(record.object).or_default().by_begin.push(spot);
    }

    /// The `n`-th life of a number that ends nearest after a moment.
    fn joined(&self, lines: &[ProcessLine], pid: u64, until: u64) -> Option<u32> {
        let all = self.by_pid.get(&u32::try_from(pid).ok()?)?;
        all.iter().rev().copied().find(|&number| lines[number as usize].begin <= until).or_else(|| all.first().copied())
    }

    /// The task with a number.
    pub fn task(&self, pool: u64, link: u64) -> Option<Spot> {
        self.task_by_link.get(&(pool, link)).copied()
    }

    /// Nanoseconds for which a lock is usually held (the median of what was noted).
    pub fn usual_hold(&self, lock: u64) -> u64 {
        self.usual_hold.get(&lock).copied().unwrap_or(0)
    }

    /// How many threads have waited for a lock.
    pub fn parties(&self, lock: u64) -> usize {
        self.parties.get(&lock).copied().unwrap_or(0)
    }

    /// The submission that a task came with.
    pub fn submission(&self, pool: u64, link: u64) -> Option<Spot> {
        let (&(object, first), &(count, spot)) = self.submits.range(..=(pool, link)).next_back()?;
        (object == pool && link - first < count).then_some(spot)
    }

    /// Whether a process is another's ancestor.
    pub fn is_ancestor(&self, ancestor: u32, of: u32) -> bool {
        let mut at = of;
        for _ in 0..64 {
            match self.parents[at as usize] {
                Some(parent) if parent == ancestor => return true,
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// What the innermost span of a thread waits for.
    pub fn target(
        &self,
        recording: &Recording,
        lines: &[ProcessLine],
        process: u32,
        thread: u32,
        record: u32,
    ) -> Target {
        use RecordKind as K;
        let line = &lines[process as usize];
        if record == OWN {
            return self.helper_target(line, process, thread);
        }
        let this = &recording.processes[process as usize].records[record as usize];
        let of = |spot: Spot| Target::Thread(spot.process, spot.thread);
        let by = |tracks: &BTreeMap<u64, Track>, find: &dyn Fn(&Track) -> Option<Spot>| {
            let peer = self.peers.get(&this.object).and_then(|peer| tracks.get(peer)).and_then(find);
            peer.or_else(|| tracks.get(&this.object).and_then(find))
        };
        let me = (process, thread);
        let found = match this.kind {
            K::Recv | K::Poll => self
                .nth_send(this)
                .or_else(|| {
                    by(&self.sends, &|track| {
                        let next = track.first_ending_from(this.begin).filter(|spot| spot.begin <= this.end);
                        next.or_else(|| track.last_ended_by(this.end))
                    })
                })
                .filter(|spot| (spot.process, spot.thread) != me)
                .map(of),
            K::Get => {
                // Waits that no inner span explains: for whoever puts, and so for whoever writes its pipe.
                by(&self.sends, &|track| track.first_ending_from(this.begin))
                    .filter(|spot| (spot.process, spot.thread) != me)
                    .map(of)
            }
            K::Send => by(&self.recvs, &|track| track.last_begun_by(this.end, me)).map(of),
            K::Put => by(&self.gets, &|track| track.last_ended_by(this.end))
                .filter(|spot| (spot.process, spot.thread) != me)
                .map(of),
            K::LockWait => self.holder(recording, process, this, me),
            K::Join if this.value == OF_A_THREAD && line.by_tid.contains_key(&(this.object as u32)) => {
                Some(Target::Thread(process, line.by_tid[&(this.object as u32)] as u32))
            }
            K::Join => self.joined(lines, this.object, this.end).map(Target::Process),
            K::Result => self.result(this).map(Target::Task),
            K::Close => self.last_task(this.object, this.end).map(Target::Task),
            K::Call => self.served_for(this, me),
            _ => None,
        };
        match found {
            Some(target) => target,
            None => self.helper_target(line, process, thread),
        }
    }

    /// Pipes keep the order, and locks keep messages whole: the n-th that is read is the n-th that was written, if none of
    /// the records is missing.
    fn nth_send(&self, recv: &Record) -> Option<Spot> {
        let recvs = self.recvs.get(&recv.object)?;
        let sends = self.peers.get(&recv.object).and_then(|peer| self.sends.get(peer));
        let sends = sends.or_else(|| self.sends.get(&recv.object))?;
        if recv.kind != RecordKind::Recv || sends.by_begin.len() != recvs.by_end.len() {
            return None;
        }
        let n = recvs.by_end.partition_point(|spot| spot.end < recv.end);
        sends.by_begin.get(n).copied().filter(|spot| spot.begin <= recv.end)
    }

    /// A thread of the standard library's without anything to wait for waits for the program's own thread.
    fn helper_target(&self, line: &ProcessLine, process: u32, thread: u32) -> Target {
        match line.threads[thread as usize].role {
            Role::Feeder | Role::TaskHandler | Role::ResultHandler | Role::ExecutorManager | Role::WorkerHandler => {
                Target::Thread(process, 0)
            }
            _ => Target::Unknown,
        }
    }

    /// Who holds a lock that is waited for; for barriers, who comes last.
    fn holder(&self, recording: &Recording, process: u32, wait: &Record, me: (u32, u32)) -> Option<Target> {
        let name = text(recording, process, wait.name);
        let other = |spot: &Spot| (spot.process, spot.thread) != me;
        if name.contains("Barrier") {
            let last = self.lock_waits.get(&wait.object)?.last_begun_by(wait.end, me)?;
            return (last.begin >= wait.begin).then_some(Target::Thread(last.process, last.thread));
        }
        let track = self.holds.get(&wait.object)?;
        // The hold whose end let this wait end: nearly at the same moment; else the one that lasts beyond it.
        let late = (wait.duration() / 4).min(2_000_000);
        let held = track.last_ended_by_another(wait.end.saturating_add(late), me);
        let held =
            held.filter(|spot| spot.end >= wait.begin).or_else(|| track.first_ending_from(wait.end).filter(other));
        held.map(|spot| Target::Thread(spot.process, spot.thread))
    }

    /// The task whose end a result waited for.
    fn result(&self, wait: &Record) -> Option<Spot> {
        let submitted = self.submits.range(..=(wait.object, wait.link)).next_back();
        if let Some((&(pool, first), &(count, _))) = submitted
            && pool == wait.object
            && wait.link - first < count
        {
            // One task of a call that made many (an iterator's next), or the call as a whole.
            let exact = self.task_by_link.get(&(wait.object, wait.link)).copied();
            if count == 1 || wait.link != first {
                return exact.or_else(|| self.last_task(wait.object, wait.end));
            }
            let range = (pool, first)..=(pool, first.saturating_add(count - 1));
            let ended = self.task_by_link.range(range).map(|(_, spot)| *spot).filter(|spot| spot.end <= wait.end);
            return ended.max_by_key(|spot| spot.end).or(exact).or_else(|| self.last_task(wait.object, wait.end));
        }
        if wait.link != 0
            && let Some(spot) = self.task_by_link.get(&(wait.object, wait.link))
        {
            return Some(*spot);
        }
        self.last_task(wait.object, wait.end)
    }

    fn last_task(&self, pool: u64, until: u64) -> Option<Spot> {
        self.tasks.get(&pool)?.last_ended_by(until)
    }

    /// For whom a manager's server waits while it serves a call: a queue's `get` for the next `put`.
    fn served_for(&self, call: &Record, me: (u32, u32)) -> Option<Target> {
        let serves = self.serves.get(&call.object)?;
        let served = serves.last_ended_by(call.end).filter(|spot| spot.begin >= call.begin)?;
        if (served.end - served.begin) < call.duration() / 2 {
            return Some(Target::Thread(served.process, served.thread));
        }
        // It blocked inside the server: until somebody else's call.
        let other = self.calls.get(&call.object)?.last_begun_by(call.end, me)?;
        let blocked = other.begin > call.begin;
        Some(if blocked {
            Target::Thread(other.process, other.thread)
        } else {
            Target::Thread(served.process, served.thread)
        })
    }

    /// The tasks of each pool.
    pub fn pools(&self) -> impl Iterator<Item = (u64, &[Spot])> {
        self.tasks.iter().map(|(pool, track)| (*pool, &track.by_begin[..]))
    }

    /// Every submission: pool, first link, number of tasks, place.
    pub fn submissions(&self) -> impl Iterator<Item = (u64, u64, u64, Spot)> {
        self.submits.iter().map(|(&(pool, link), &(count, spot))| (pool, link, count, spot))
    }
}

/// A string of a process; empty if there is none.
pub(crate) fn text(recording: &Recording, process: u32, index: u32) -> &str {
    recording.processes.get(process as usize).and_then(|one| one.strings.get(index as usize)).map_or("", String::as_str)
}

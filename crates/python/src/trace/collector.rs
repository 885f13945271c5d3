//! The supervisor: empties the rings, samples `/proc`, and makes a `Recording` of it.

use std::collections::{BTreeMap, BTreeSet};

use breakeven_shm::trace::proc::{self, Account, Look, WatchedProcess};
use breakeven_shm::trace::{self, Reader, SlotId, Words};
use breakeven_trace::recording::{Process, ProcessSample, Program, Recording, Role, Thread, ThreadSample};
use breakeven_trace::{Flags, Record, RecordKind};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// How often the rings are emptied and the kernel is asked: every so many nanoseconds, at least.
const INTERVAL: u64 = 50_000_000;
/// How much of a core sampling may take: a part in so many.
const SHARE: u64 = 60;
/// Every how many rounds context switches are looked at; all of `/proc` is looked through for new processes; threads are
/// looked for; private memory is.
const SWITCHES_EVERY: u64 = 10;
const SCAN_EVERY: u64 = 5;
const PRIVATE_EVERY: u64 = 40;
/// Most records that are kept: 6.4 million, 400 MB.
const MOST_RECORDS: usize = 6_400_000;

/// One process, as far as it is known.
struct Watched {
    slot: Option<SlotId>,
    watch: Option<WatchedProcess>,
    process: Process,
    started: u64,
    threads: BTreeMap<u32, Vec<ThreadSample>>,
    strings_read: usize,
    /// It has ended, and all of it has been read.
    done: bool,
    seen: u64,
    errors: u64,
}

/// Reads what the processes of a run write, and what the kernel says of them.
struct Inner {
    reader: Reader,
    watched: Vec<Watched>,
    /// Processes that are none of the run's.
    foreign: BTreeSet<u32>,
    /// The program's first process, and who records it.
    root: u32,
    own: u32,
    start: u64,
    rounds: u64,
    next: u64,
    next_sample: u64,
    records: usize,
    /// CPU nanoseconds that all this took.
    spent: u64,
}

#[pyclass(unsendable, module = "breakeven._native")]
pub(crate) struct TraceCollector {
    inner: Inner,
}

#[pymethods]
impl TraceCollector {
    /// Makes the memory file.
    #[new]
    fn new() -> PyResult<Self> {
        let reader = Reader::create().map_err(PyOSError::new_err)?;
        let inner = Inner {
            reader,
            watched: Vec::new(),
            foreign: BTreeSet::new(),
            root: 0,
            own: std::process::id(),
            start: trace::monotonic_ns(),
            rounds: 0,
            next: 0,
            next_sample: 0,
            records: 0,
            spent: 0,
        };
        Ok(TraceCollector { inner })
    }

    /// The path by which the program's processes open it.
    #[getter]
    fn path(&self) -> String {
        self.inner.reader.path()
    }

    /// Says that the program starts now, or has just been started as process `pid`.
    fn started(&mut self, pid: u32) {
        let now = trace::monotonic_ns();
        if pid == 0 {
            self.inner.start = now;
            return;
        }
        self.inner.root = pid;
    }

    /// Looks after the program for at most `seconds`, or until `fd` is readable or a signal comes. Returns whether `fd` is.
    #[pyo3(signature = (seconds, fd=None))]
    fn run(&mut self, py: Python<'_>, seconds: f64, fd: Option<i32>) -> PyResult<bool> {
        let until = trace::monotonic_ns() + (seconds.clamp(0.0, 3600.0) * 1e9) as u64;
        let inner = &mut self.inner;
        loop {
            let ready = py.detach(|| inner.turn(until, fd));
            py.check_signals()?;
            if ready || trace::monotonic_ns() >= until {
                return Ok(ready);
            }
        }
    }

    /// Ends the recording: the program has ended at `end` (nanoseconds; None: now). Returns the recording's bytes.
    #[pyo3(signature = (program, cores, charges=None, end=None))]
    fn finish<'py>(
        &mut self,
        py: Python<'py>,
        program: &Bound<'py, PyDict>,
        cores: u32,
        charges: Option<&Bound<'py, PyDict>>,
        end: Option<u64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let program = program_from(program)?;
        let charges = charges.map(|charges| {
            let json: String = py.import("json")?.call_method1("dumps", (charges,))?.extract()?;
            breakeven_trace::file::charges_from_json(&json).map_err(PyValueError::new_err)
        });
        let charges = charges.transpose()?;
        let inner = &mut self.inner;
        let bytes = py.detach(|| inner.finish(program, cores, charges, end).to_bytes());
        Ok(PyBytes::new(py, &bytes))
    }

    /// CPU seconds that collecting took; records collected.
    fn cost(&self) -> (f64, usize) {
        (self.inner.spent as f64 / 1e9, self.inner.records)
    }

    /// Process numbers of the run that are there at the moment.
    fn alive(&mut self) -> Vec<u32> {
        self.inner.round(trace::monotonic_ns(), true);
        self.inner.watched.iter().filter(|watched| !watched.done).map(|watched| watched.process.pid).collect()
    }

    /// Faults of the hooks themselves so far.
    #[getter]
    fn errors(&self) -> u64 {
        self.inner.watched.iter().map(|watched| watched.errors).sum()
    }
}

fn program_from(program: &Bound<'_, PyDict>) -> PyResult<Program> {
    let get = |key: &str| -> PyResult<Bound<'_, PyAny>> {
        program.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("the program's {key} is missing")))
    };
    Ok(Program {
        argv: get("argv")?.extract()?,
        python: get("python")?.extract()?,
        directory: get("directory")?.extract()?,
        exit_code: get("exit_code")?.extract()?,
        started: get("started")?.extract()?,
        transport: get("transport")?.extract()?,
    })
}

/// Milliseconds until `then`, at most `most`.
fn wait_ms(now: u64, then: u64) -> i32 {
    (then.saturating_sub(now) / 1_000_000).min(1000) as i32 + 1
}

impl Inner {
    /// One round if it is time, then waits for the next, for `until` or for `fd`. Returns whether `fd` is readable.
    fn turn(&mut self, until: u64, fd: Option<i32>) -> bool {
        let now = trace::monotonic_ns();
        if now >= self.next {
            let cpu = proc::thread_cpu_ns();
            let sampled = now >= self.next_sample;
            if sampled {
                self.round(now, false);
            } else {
                self.empty();
            }
            let took = proc::thread_cpu_ns().saturating_sub(cpu);
            self.spent += took;
            self.next = now + INTERVAL;
            if sampled {
                self.next_sample = now + INTERVAL.max(took * SHARE);
            }
        }
        let now = trace::monotonic_ns();
        if now >= until {
            return fd.is_some_and(|fd| trace::proc::is_readable(fd, 0));
        }
        let wait = wait_ms(now, until.min(self.next));
        match fd {
            Some(fd) => trace::proc::is_readable(fd, wait),
            None => {
                trace::proc::is_readable(-1, wait);
                false
            }
        }
    }

    /// Only empties the rings.
    fn empty(&mut self) {
        self.find_slots();
        for watched in self.watched.iter_mut().filter(|watched| !watched.done) {
            watched.drain(&self.reader, false, &mut self.records);
        }
    }

    fn round(&mut self, now: u64, everything: bool) {
        self.find_slots();
        if everything || self.rounds.is_multiple_of(SCAN_EVERY) {
            self.scan();
        }
        let switches = self.rounds.is_multiple_of(SWITCHES_EVERY);
        let private = self.rounds % PRIVATE_EVERY == PRIVATE_EVERY / 2;
        for watched in self.watched.iter_mut().filter(|watched| !watched.done) {
            watched.sample(now, switches, private);
            watched.drain(&self.reader, false, &mut self.records);
            if watched.done {
                watched.drain(&self.reader, true, &mut self.records);
                watched.close(&self.reader);
            }
        }
        self.rounds += 1;
    }

    /// Processes that have begun to write.
    fn find_slots(&mut self) {
        for slot in self.reader.slots() {
            if self.watched.iter().any(|watched| watched.slot == Some(slot)) {
                continue;
            }
            let state = self.reader.state(slot);
            if state.pid == 0 && proc::parent_of(slot.pid()).is_some() {
                continue; // it is just about to write down who it is
            }
            let pid = slot.pid();
            self.foreign.remove(&pid);
            let known = self.watched.iter().position(|watched| {
                watched.slot.is_none() && watched.process.pid == pid && watched.started == state.started
            });
            let index = known.unwrap_or_else(|| self.watch(pid, state.started));
            let watched = &mut self.watched[index];
            watched.slot = Some(slot);
            watched.process.parent = state.parent;
            watched.done = false; // it may have been found dead before its slot was
            let born = if state.begun != 0 { state.begun } else { trace::monotonic_ns() };
            if watched.process.start == 0 || watched.process.start > born {
                watched.process.start = born;
            }
        }
    }

    fn watch(&mut self, pid: u32, started: u64) -> usize {
        let watch = WatchedProcess::new(pid).filter(|watch| started == 0 || watch.started == started);
        let started = watch.as_ref().map_or(started, |watch| watch.started);
        self.watched.push(Watched {
            slot: None,
            watch,
            process: Process { pid, ..Process::default() },
            started,
            threads: BTreeMap::new(),
            strings_read: 0,
            done: false,
            seen: trace::monotonic_ns(),
            errors: 0,
        });
        self.watched.len() - 1
    }

    /// Looks through `/proc` for processes of the run that say nothing themselves.
    fn scan(&mut self) {
        // What a new process is called is seen once it has become the program that it is to be.
        for watched in self.watched.iter_mut().filter(|watched| !watched.done && watched.slot.is_none()) {
            if let Some(name) = helper_name(watched.process.pid) {
                watched.process.name = name;
            } else if let Some((_, name)) = proc::parent_of(watched.process.pid) {
                watched.process.name = name;
            }
        }
        let pids = proc::process_ids();
        self.foreign.retain(|pid| pids.contains(pid));
        let mut unknown: Vec<u32> = pids
            .into_iter()
            .filter(|pid| *pid != self.own && !self.foreign.contains(pid))
            .filter(|pid| !self.watched.iter().any(|watched| watched.process.pid == *pid && !watched.done))
            .collect();
        // A child's parent may be a process that is new, too.
        while !unknown.is_empty() {
            let mut rest = Vec::new();
            let count = unknown.len();
            for pid in unknown {
                let Some((parent, name)) = proc::parent_of(pid) else { continue };
                let ours = pid == self.root
                    || self.watched.iter().any(|watched| watched.process.pid == parent && !watched.done);
                if !ours {
                    rest.push(pid);
                    continue;
                }
                let index = self.watch(pid, 0);
                let started = self.watched[index].started;
                // Gone already; or dead, read to the end, and not yet asked for by its parent.
                let known = |watched: &Watched| watched.process.pid == pid && watched.started == started;
                if started == 0 || self.watched[..index].iter().any(known) {
                    self.watched.pop();
                    continue;
                }
                let watched = &mut self.watched[index];
                watched.process.parent = if pid == self.root { 0 } else { parent };
                watched.process.method = if pid == self.root { "main" } else { "other" }.to_owned();
                watched.process.name = helper_name(pid).unwrap_or(name);
                watched.process.start = proc::when_started(watched.started).max(self.start);
            }
            if rest.len() == count {
                self.foreign.extend(rest);
                break;
            }
            unknown = rest;
        }
    }

    fn finish(
        &mut self,
        mut program: Program,
        cores: u32,
        charges: Option<breakeven_trace::recording::Charges>,
        end: Option<u64>,
    ) -> Recording {
        self.reader.stop();
        let now = trace::monotonic_ns();
        let end = end.unwrap_or(now);
        self.round(now, true);
        for watched in self.watched.iter_mut().filter(|watched| !watched.done) {
            // It still lives, or nobody knows: the recording ends here for it.
            watched.process.end = end;
            watched.drain(&self.reader, true, &mut self.records);
            watched.close(&self.reader);
        }
        let mut processes: Vec<Process> = self.watched.drain(..).map(Watched::into_process).collect();
        settle(&mut processes, self.root, self.start, end);
        if let Some(root) = processes.iter_mut().find(|process| process.pid == self.root && process.parent == 0) {
            root.end = end;
            if program.exit_code.is_none() {
                program.exit_code = root.exit_code;
            } else {
                root.exit_code = program.exit_code;
            }
        }
        // What a process was in when it ended, it was in until then, which is known by now.
        for process in &mut processes {
            for record in &mut process.records {
                if record.flags.has(Flags::CUT) {
                    record.end = process.end.max(record.begin);
                } else if matches!(record.kind, RecordKind::LockFree | RecordKind::Cost) {
                    (record.begin, record.end) = (process.end, process.end);
                }
            }
        }
        let supervisor_seconds = self.spent as f64 * 1e-9;
        Recording { program, start: self.start, end, cores, charges, supervisor_seconds, processes }
    }
}

/// The standard library's own helpers, by their command lines.
fn helper_name(pid: u32) -> Option<String> {
    let command = proc::command_line(pid);
    let has = |text: &str| command.iter().any(|argument| argument.contains(text));
    if has("resource_tracker import main") {
        Some("resource_tracker".to_owned())
    } else if has("forkserver import main") {
        Some("forkserver".to_owned())
    } else {
        None
    }
}

impl Watched {
    fn sample(&mut self, now: u64, switches: bool, private: bool) {
        let Some(watch) = &mut self.watch else {
            self.ended(now, None);
            return;
        };
        match watch.sample() {
            Look::Gone => {
                self.ended(now, None);
                return;
            }
            Look::Zombie(status) => {
                self.ended(now, Some(status));
                return;
            }
            Look::Alive(account) => {
                let private = if private { watch.private().unwrap_or(0) } else { 0 };
                let sample = ProcessSample { private, ..sample_of(account) };
                push_sample(&mut self.process.samples, sample, |a, b| {
                    a.cpu == b.cpu && a.minor_faults == b.minor_faults && a.resident == b.resident && b.private == 0
                });
            }
        }
        self.seen = now;
        watch.find_threads();
        let threads = &mut self.threads;
        watch.threads.retain_mut(|thread| {
            let Some(account) = thread.sample(switches) else { return false };
            let sample = ThreadSample {
                at: account.at,
                cpu: account.cpu,
                delay: account.delay,
                minor_faults: account.minor_faults,
                major_faults: account.major_faults,
                voluntary: account.voluntary,
                involuntary: account.involuntary,
                state: account.state,
            };
            push_sample(threads.entry(thread.tid).or_default(), sample, |a, b| {
                (a.cpu, a.delay, a.minor_faults, a.state) == (b.cpu, b.delay, b.minor_faults, b.state)
            });
            true
        });
    }

    fn ended(&mut self, now: u64, status: Option<i32>) {
        self.done = true;
        self.watch = None; // its descriptors are needed for others
        if self.process.end == 0 {
            // It was alive when it was last seen, and is not now.
            self.process.end = now;
        }
        if let Some(status) = status
            && self.process.exit_code.is_none()
        {
            self.process.exit_code = Some(if status & 0x7f != 0 { -(status & 0x7f) } else { status >> 8 & 0xff });
        }
    }

    fn drain(&mut self, reader: &Reader, dead: bool, total: &mut usize) {
        let Some(slot) = self.slot else { return };
        let (strings, next) = reader.strings(slot, self.strings_read);
        self.strings_read = next;
        if self.process.strings.is_empty() {
            self.process.strings.push(String::new());
        }
        self.process.strings.extend(strings);
        let process = &mut self.process;
        reader.drain(slot, dead, |words| {
            if *total >= MOST_RECORDS {
                process.dropped += 1;
            } else if let Some(record) = Record::from_words(words) {
                *total += 1;
                process.records.push(record);
            }
        });
    }

    /// Reads the rest of a process that has ended, and gives its slot back.
    fn close(&mut self, reader: &Reader) {
        let Some(slot) = self.slot else { return };
        let state = reader.state(slot);
        let process = &mut self.process;
        self.errors = state.errors;
        process.dropped += state.dropped;
        // Records that were published after the strings were read may name later ones.
        let (strings, _) = reader.strings(slot, self.strings_read);
        process.strings.extend(strings);
        let text = |number: u32| process.strings.get(number as usize).cloned().unwrap_or_default();
        let (method, name) = (text(state.method), text(state.name));
        if !method.is_empty() {
            process.method = method;
        }
        if !name.is_empty() {
            process.name = name;
        }
        process.parent = state.parent;
        if let Some(last) = state.last {
            process.samples.push(sample_of(last));
        }
        if let Some(code) = state.exit_code
            && process.exit_code.is_none()
        {
            process.exit_code = Some(code);
        }
        let end = process.end;
        for words in reader.open_spans(slot) {
            cut(words, end, &mut process.records);
        }
        let point = |kind, value, link| Record {
            begin: end,
            end,
            cpu: Record::NOT_MEASURED,
            value,
            object: 0,
            link,
            thread: process.pid,
            kind,
            flags: Flags::default(),
            site: 0,
            name: 0,
        };
        if state.free_locks > 0 {
            process.records.push(point(RecordKind::LockFree, state.free_locks, 0));
        }
        // A free lock's taking and its giving back, which measure nothing, are about as much as half a hook.
        let mut total = state.free_locks / 2 * reader.per_call();
        for (kind, calls, time) in reader.hooks(slot) {
            // The words are another process's.
            let cost = calls.saturating_mul(reader.per_call()).saturating_add(time);
            total = total.saturating_add(cost);
            if let Some(kind) = RecordKind::from_code(kind) {
                process.strings.push(kind.name().to_owned());
                let name = process.strings.len() as u32 - 1;
                process.records.push(Record { name, ..point(RecordKind::Cost, cost, calls) });
            }
        }
        process.records.push(point(RecordKind::Cost, total, state.written));
        if self.done {
            reader.free(slot);
        }
    }

    fn into_process(self) -> Process {
        let mut process = self.process;
        process.records.sort_by_key(|record| (record.begin, core::cmp::Reverse(record.end)));
        let roles = roles(&process);
        process.threads = self
            .threads
            .into_iter()
            .map(|(tid, samples)| {
                let (role, name) = roles.get(&tid).cloned().unwrap_or_else(|| {
                    let role = if tid == process.pid { Role::Main } else { Role::Native };
                    (role, String::new())
                });
                Thread { tid, role, name, samples }
            })
            .collect();
        // Threads that lived too short for a sample, but recorded something.
        for (tid, (role, name)) in roles {
            if !process.threads.iter().any(|thread| thread.tid == tid) {
                process.threads.push(Thread { tid, role, name, samples: Vec::new() });
            }
        }
        process.threads.sort_by_key(|thread| (thread.tid != process.pid, thread.tid));
        process
    }
}

/// Adds a sample; while nothing changes, the last one only moves on.
fn push_sample<T: Copy + At>(samples: &mut Vec<T>, sample: T, same: impl Fn(&T, &T) -> bool) {
    if let [.., a, b] = samples.as_mut_slice()
        && same(a, &sample)
        && same(b, &sample)
    {
        b.set_at(sample.at());
        return;
    }
    samples.push(sample);
}

trait At {
    fn at(&self) -> u64;
    fn set_at(&mut self, at: u64);
}

impl At for ProcessSample {
    fn at(&self) -> u64 {
        self.at
    }
    fn set_at(&mut self, at: u64) {
        self.at = at;
    }
}

impl At for ThreadSample {
    fn at(&self) -> u64 {
        self.at
    }
    fn set_at(&mut self, at: u64) {
        self.at = at;
    }
}

fn sample_of(account: Account) -> ProcessSample {
    let Account { at, cpu, system, minor_faults, major_faults, resident } = account;
    ProcessSample { at, cpu, system, minor_faults, major_faults, resident, private: 0 }
}

/// Makes a record of a span that had not ended.
fn cut(mut words: Words, end: u64, records: &mut Vec<Record>) {
    words[1] = end.max(words[0]);
    let Some(mut record) = Record::from_words(words) else { return };
    record.flags = Flags(record.flags.0 | Flags::CUT.0);
    // Killed between writing the span's record and closing it.
    let is_there =
        |known: &&Record| known.begin == record.begin && known.kind == record.kind && known.thread == record.thread;
    if !records.iter().rev().take(1000).any(|known| is_there(&known)) {
        records.push(record);
    }
}

/// What the threads have said of themselves.
fn roles(process: &Process) -> BTreeMap<u32, (Role, String)> {
    let text = |number: u32| process.strings.get(number as usize).cloned().unwrap_or_default();
    let mut roles = BTreeMap::new();
    for record in &process.records {
        if record.kind == RecordKind::Thread {
            let name = text(record.name);
            let known = Role::from_name(&name);
            let role = if record.thread == process.pid { Role::Main } else { known.unwrap_or(Role::User) };
            roles.insert(record.thread, (role, name));
        } else {
            let first = if record.thread == process.pid { Role::Main } else { Role::User };
            roles.entry(record.thread).or_insert((first, String::new()));
        }
    }
    roles
}

/// What processes know of each other: exact births from the parent's `Start`, exit codes and ends from its `Join`.
fn settle(processes: &mut [Process], root: u32, start: u64, end: u64) {
    let mut begins = Vec::new();
    let mut joins = Vec::new();
    for process in processes.iter() {
        for record in &process.records {
            match record.kind {
                RecordKind::Start if record.object != 0 => {
                    begins.push((record.object as u32, record.begin, record.end))
                }
                RecordKind::Join if !record.flags.has(Flags::TIMED_OUT) && !record.flags.has(Flags::CUT) => {
                    joins.push((record.object as u32, record.end, record.value as i64));
                }
                _ => {}
            }
        }
    }
    for process in processes.iter_mut() {
        if process.pid == root && process.parent == 0 {
            process.start = start;
            process.method = "main".to_owned();
            if process.name.is_empty() {
                process.name = "MainProcess".to_owned();
            }
            continue;
        }
        // A forked child exists when its parent's `Start` returns, whether it has run or not. One with an interpreter of its
        // own says its first word late: it begins when its parent asks for it.
        if let Some(first) = process.records.first() {
            process.start = process.start.min(first.begin);
        }
        let born = begins
            .iter()
            .filter(|(pid, begin, _)| *pid == process.pid && *begin <= process.start)
            .max_by_key(|(_, begin, _)| *begin);
        if let Some((_, begin, returned)) = born {
            process.start = if process.method == "fork" { process.start.min(*returned) } else { *begin };
        }
        let last = process.records.iter().map(|record| record.end).filter(|at| *at < process.end).max().unwrap_or(0);
        let last = last.max(process.samples.last().map_or(0, |sample| sample.at));
        let joined = joins.iter().filter(|(pid, at, _)| *pid == process.pid && *at >= process.start);
        if let Some((_, at, code)) = joined.min_by_key(|(_, at, _)| *at) {
            if *at < process.end && *at >= last {
                process.end = *at;
            }
            if process.exit_code.is_none() {
                process.exit_code = i32::try_from(*code).ok();
            }
        }
        process.end = process.end.min(end).max(process.start);
    }
    processes.sort_by_key(|process| (!(process.pid == root && process.parent == 0), process.start, process.pid));
}

/// A recording as JSON, for people who look for faults.
#[pyfunction]
pub(crate) fn recording_to_json(bytes: &[u8]) -> PyResult<String> {
    let recording = Recording::from_bytes(bytes).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(recording.to_json())
}

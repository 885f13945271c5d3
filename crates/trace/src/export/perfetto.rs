//! A recording in the JSON form of trace events that <https://ui.perfetto.dev> and chrome://tracing load.
//!
//! The form is described in the "Trace Event Format" document of Chromium's. What is used of it:
//!
//! | `ph` | of | made from |
//! |---|---|---|
//! | `M` | names and order of processes and threads | processes, [`RecordKind::Thread`] |
//! | `X` | a slice; slices of a thread are apart, or one lies in the other | spans |
//! | `i` | an instant | points |
//! | `b`, `e` | a slice of its own track | [`RecordKind::LockHold`], which begins in one function and ends in another |
//! | `s`, `t`, `f` | a flow from slice to slice | submit, task, result of the same number |
//! | `C` | counters | memory of each process, running tasks of the whole |
//!
//! Times are microseconds after the start of the run with three digits behind the point, so that no nanosecond is lost.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Flags, Record, RecordKind};
use crate::recording::{Process, Recording};

/// Added to a process's number for each earlier process of the recording that had it too: larger than any number.
const AGAIN: u64 = 1 << 23;

/// The trace as JSON.
pub fn write(recording: &Recording) -> String {
    let other = json!({
        "command": recording.program.argv.join(" "),
        "python": recording.program.python,
        "recorder": "breakeven",
    });
    let beginning = format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{other},\"traceEvents\":[");
    let mut trace = Trace { start: recording.start, holds: 0, first: true, out: beginning };
    let numbers = numbers(recording);
    for (order, (process, &pid)) in recording.processes.iter().zip(&numbers).enumerate() {
        trace.process(process, pid, order);
    }
    trace.flows(recording, &numbers);
    trace.running(recording, &numbers);
    trace.out.push_str("\n]}\n");
    trace.out
}

/// A number for each process, no two the same: the kernel gives numbers again.
fn numbers(recording: &Recording) -> Vec<u64> {
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    let number = |process: &Process| {
        let times = seen.entry(process.pid).or_insert(0);
        *times += 1;
        u64::from(process.pid) + (*times - 1) * AGAIN
    };
    recording.processes.iter().map(number).collect()
}

/// Whether a kind is written as a point, without a length.
fn is_point(record: &Record) -> bool {
    use RecordKind::{Argument, Blas, Born, Cost, Exit, LockFree, Pipe, Queue, Thread};
    matches!(record.kind, Born | Thread | Exit | Argument | Pipe | Queue | LockFree | Blas | Cost)
}

struct Trace {
    start: u64,
    /// Whether no event has been written yet.
    first: bool,
    /// The file so far: a recording can have a million records, and events of it as values would take a gigabyte.
    out: String,
    /// Locks held so far.
    holds: u64,
}

impl Trace {
    /// Microseconds after the start, in the only form that keeps nanoseconds whatever the reader does: decimal digits.
    fn time(&self, at: u64) -> Value {
        Self::micro(at.saturating_sub(self.start))
    }

    fn micro(nanoseconds: u64) -> Value {
        // Exact up to 2^53 / 1000 microseconds, 104 days.
        json!(nanoseconds as f64 / 1000.0)
    }

    fn event(&mut self, pid: u64, tid: u64, phase: &str, name: &str, more: &[(&str, Value)]) {
        let mut event = Map::new();
        event.insert("ph".into(), phase.into());
        event.insert("pid".into(), pid.into());
        event.insert("tid".into(), tid.into());
        event.insert("name".into(), name.into());
        for (key, value) in more {
            event.insert((*key).into(), value.clone());
        }
        self.out.push_str(if self.first { "\n" } else { ",\n" });
        self.first = false;
        self.out.push_str(&Value::from(event).to_string());
    }

    fn process(&mut self, process: &Process, pid: u64, order: usize) {
        let label = if process.name.is_empty() { "process" } else { &process.name };
        self.event(pid, pid, "M", "process_name", &[("args", json!({"name": label}))]);
        self.event(pid, pid, "M", "process_sort_index", &[("args", json!({"sort_index": order}))]);
        let mut named = BTreeSet::new();
        for (index, thread) in process.threads.iter().enumerate() {
            if named.insert(thread.tid) {
                let role = thread.role.name();
                let name = if thread.name.is_empty() { role.to_owned() } else { format!("{} ({role})", thread.name) };
                let tid = tid(process, pid, thread.tid);
                self.event(pid, tid, "M", "thread_name", &[("args", json!({"name": name}))]);
                self.event(pid, tid, "M", "thread_sort_index", &[("args", json!({"sort_index": index}))]);
            }
        }
        for (record, end) in nested(&process.records) {
            self.span(process, pid, record, end);
        }
        for record in process.records.iter().filter(|record| record.kind == RecordKind::LockHold) {
            self.held(process, pid, record);
        }
        for record in process.records.iter().filter(|record| is_point(record)) {
            let name = record.kind.name();
            let more = [("ts", self.time(record.begin)), ("s", json!("t")), ("args", arguments(process, record))];
            self.event(pid, tid(process, pid, record.thread), "i", name, &more);
        }
        for sample in &process.samples {
            let args = json!({"resident": sample.resident as f64 / 1e6});
            self.event(pid, pid, "C", "memory (MB)", &[("ts", self.time(sample.at)), ("args", args)]);
        }
    }

    fn span(&mut self, process: &Process, pid: u64, record: &Record, end: u64) {
        let what = process.strings.get(record.name as usize).map_or("", String::as_str);
        let kind = record.kind.name();
        let name = if what.is_empty() { kind.to_owned() } else { format!("{kind} {what}") };
        let more = [
            ("ts", self.time(record.begin)),
            ("dur", Self::micro(end.saturating_sub(record.begin.max(self.start)))),
            ("cat", json!(category(record.kind))),
            ("args", arguments(process, record)),
        ];
        self.event(pid, tid(process, pid, record.thread), "X", &name, &more);
    }

    /// A lock that is held: it need not nest with what its thread does meanwhile.
    fn held(&mut self, process: &Process, pid: u64, record: &Record) {
        let what = process.strings.get(record.name as usize).map_or("", String::as_str);
        let name = format!("holds {}", if what.is_empty() { "lock" } else { what });
        let tid = tid(process, pid, record.thread);
        self.holds += 1;
        let id = json!(format!("hold {}", self.holds));
        for (phase, at) in [("b", record.begin), ("e", record.end)] {
            let mut more = vec![("ts", self.time(at)), ("cat", json!("lock")), ("id", id.clone())];
            if phase == "b" {
                more.push(("args", arguments(process, record)));
            }
            self.event(pid, tid, phase, &name, &more);
        }
    }

    /// Arrows from who submits to who runs, and to who waits for it.
    fn flows(&mut self, recording: &Recording, numbers: &[u64]) {
        #[derive(Clone, Copy)]
        struct At {
            begin: u64,
            end: u64,
            pid: u64,
            tid: u64,
            /// Tasks that a submission hands over; 0: not known then.
            count: u64,
        }
        type Places = BTreeMap<(u64, u64), At>;
        let (mut submits, mut results) = (Places::new(), Places::new());
        let mut tasks: Vec<((u64, u64), At)> = Vec::new();
        for (process, &pid) in recording.processes.iter().zip(numbers) {
            for record in &process.records {
                let tid = tid(process, pid, record.thread);
                let at = At { begin: record.begin, end: record.end, pid, tid, count: record.value };
                let key = (record.object, record.link);
                match record.kind {
                    RecordKind::Submit => drop(submits.entry(key).or_insert(at)),
                    RecordKind::Result => drop(results.entry(key).or_insert(at)),
                    RecordKind::Task => tasks.push((key, at)),
                    _ => {}
                }
            }
        }
        tasks.sort_by_key(|(key, task)| (*key, task.begin));
        for (id, &(key, task)) in tasks.iter().enumerate() {
            // One submission can hand over many: its number is that of the first.
            let Some((&first, submit)) = submits.range(..=key).next_back() else { continue };
            let covers = if submit.count == 0 {
                key.1 >> 32 == first.1 >> 32
            } else {
                key.1 - first.1.min(key.1) < submit.count
            };
            // Clocks agree: a task before its submission is a number that was used twice.
            if first.0 != key.0 || !(covers || first == key) || task.begin < submit.begin {
                continue;
            }
            let result = results.get(&key).or_else(|| results.get(&first)).and_then(|result| {
                // The arrow ends in the slice that was there when the task had ended.
                let end = result.begin.max(task.end);
                (end <= result.end).then_some((end, *result))
            });
            let mut step = |phase: &str, at: u64, who: &At| {
                let mut more = vec![("ts", self.time(at)), ("id", json!(id)), ("cat", json!("task"))];
                if phase == "f" {
                    more.push(("bp", json!("e"))); // the slice around it, not the next one
                }
                self.event(who.pid, who.tid, phase, "task", &more);
            };
            step("s", submit.begin, submit);
            match result {
                Some((end, who)) => {
                    step("t", task.begin, &task);
                    step("f", end, &who);
                }
                None => step("f", task.begin, &task),
            }
        }
    }

    /// How many tasks run at each moment.
    fn running(&mut self, recording: &Recording, numbers: &[u64]) {
        let Some(&pid) = numbers.first() else { return };
        let mut changes: BTreeMap<u64, i64> = BTreeMap::new();
        for record in recording.processes.iter().flat_map(|process| &process.records) {
            if record.kind == RecordKind::Task && record.begin < record.end {
                *changes.entry(record.begin).or_default() += 1;
                *changes.entry(record.end).or_default() -= 1;
            }
        }
        let mut running = 0;
        for (at, change) in changes {
            running += change;
            if change != 0 {
                self.event(
                    pid,
                    pid,
                    "C",
                    "tasks running",
                    &[("ts", self.time(at)), ("args", json!({"tasks": running}))],
                );
            }
        }
    }
}

/// A thread's number: the kernel's, moved as that of its process.
fn tid(process: &Process, pid: u64, thread: u32) -> u64 {
    pid - u64::from(process.pid) + u64::from(thread)
}

/// Groups of kinds, which the viewer can filter by.
fn category(kind: RecordKind) -> &'static str {
    match kind.code() {
        0..20 => "process",
        20..30 => "pool",
        30..40 => "bytes",
        40..50 => "queue",
        50..60 => "lock",
        60..70 => "manager",
        _ => "recorder",
    }
}

fn arguments(process: &Process, record: &Record) -> Value {
    let mut args = Map::new();
    let text = |index: u32| process.strings.get(index as usize).filter(|text| !text.is_empty());
    if let Some(name) = text(record.name) {
        args.insert("name".into(), name.as_str().into());
    }
    if let Some(site) = text(record.site) {
        args.insert("site".into(), site.as_str().into());
    }
    if record.value != 0 {
        args.insert("value".into(), record.value.into());
    }
    if record.object != 0 {
        args.insert("object".into(), format!("{:x}", record.object).into()); // beyond what JavaScript counts to
    }
    if record.link != 0 {
        args.insert("link".into(), record.link.into());
    }
    if record.cpu != Record::NOT_MEASURED {
        args.insert("cpu_us".into(), json!(record.cpu as f64 / 1000.0));
    }
    for (flag, name) in [
        (Flags::CUT, "cut"),
        (Flags::FAILED, "failed"),
        (Flags::TIMED_OUT, "timed_out"),
        (Flags::NO_WAIT, "no_wait"),
        (Flags::HELPER, "helper"),
    ] {
        if record.flags.has(flag) {
            args.insert(name.into(), true.into());
        }
    }
    args.into()
}

/// The spans, outer ones first, each with an end that is not after that of the span it begins in: so says the contract of
/// records, and of what was torn when a process was killed it is made so.
fn nested(records: &[Record]) -> Vec<(&Record, u64)> {
    let nests = |record: &&Record| !is_point(record) && record.kind != RecordKind::LockHold;
    let mut spans: Vec<&Record> = records.iter().filter(nests).collect();
    spans.sort_by_key(|record| (record.thread, record.begin, std::cmp::Reverse(record.end)));
    let mut open: Vec<(u32, u64)> = Vec::new();
    let mut out = Vec::with_capacity(spans.len());
    for record in spans {
        while open.last().is_some_and(|&(thread, end)| thread != record.thread || end <= record.begin) {
            open.pop();
        }
        let end = open.last().map_or(record.end, |&(_, end)| record.end.min(end));
        open.push((record.thread, end));
        out.push((record, end));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{ProcessSample, Role, Thread};
    use proptest::prelude::*;

    fn record(kind: RecordKind, begin: u64, end: u64) -> Record {
        Record {
            begin,
            end,
            cpu: Record::NOT_MEASURED,
            value: 0,
            object: 9,
            link: 1,
            thread: 10,
            kind,
            flags: Flags(0),
            site: 0,
            name: 0,
        }
    }

    fn process(pid: u32, records: Vec<Record>) -> Process {
        Process {
            pid,
            name: format!("P{pid}"),
            records,
            strings: vec![String::new(), "work".into(), "script.py:3".into()],
            threads: vec![Thread { tid: 10, role: Role::Main, name: "MainThread".into(), samples: vec![] }],
            samples: vec![ProcessSample { at: 2_000, resident: 5_000_000, ..ProcessSample::default() }],
            ..Process::default()
        }
    }

    fn events(recording: &Recording) -> Vec<Value> {
        let trace: Value = serde_json::from_str(&write(recording)).unwrap();
        trace["traceEvents"].as_array().unwrap().clone()
    }

    fn of(events: &[Value], phase: &str) -> Vec<Value> {
        events.iter().filter(|event| event["ph"] == phase).cloned().collect()
    }

    /// What the format's document asks of every event, and that slices of a track nest.
    fn check(recording: &Recording) {
        let mut tracks: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
        let mut flows: BTreeMap<u64, Vec<(String, f64)>> = BTreeMap::new();
        let mut held: BTreeMap<String, f64> = BTreeMap::new();
        for event in events(recording) {
            let phase = event["ph"].as_str().unwrap().to_owned();
            let (pid, tid) = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
            assert!(event["name"].is_string(), "{event}");
            if phase == "M" {
                assert!(event["args"].is_object(), "{event}");
                continue;
            }
            let at = event["ts"].as_f64().unwrap();
            assert!(at >= 0.0, "{event}");
            match phase.as_str() {
                "X" => {
                    let length = event["dur"].as_f64().unwrap();
                    assert!(length >= 0.0, "{event}");
                    tracks.entry((pid, tid)).or_default().push((at, at + length));
                }
                "i" => assert_eq!(event["s"], "t"),
                "b" => assert_eq!(held.insert(event["id"].to_string(), at), None, "{event}"),
                "e" => assert!(held.remove(&event["id"].to_string()).is_some_and(|begun| begun <= at), "{event}"),
                "C" => assert!(event["args"].as_object().unwrap().values().all(Value::is_number), "{event}"),
                "s" | "t" | "f" => flows.entry(event["id"].as_u64().unwrap()).or_default().push((phase, at)),
                other => panic!("{other} is not written"),
            }
        }
        assert!(held.is_empty(), "each `b` has its `e`");
        for slices in tracks.values_mut() {
            slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
            let mut open: Vec<f64> = Vec::new();
            for &(begin, end) in slices.iter() {
                open.retain(|outer| *outer > begin + 1e-6);
                if let Some(outer) = open.last() {
                    assert!(end <= outer + 1e-6, "slices of a track overlap");
                }
                open.push(end);
            }
        }
        for steps in flows.values() {
            let phases: String = steps.iter().map(|(phase, _)| phase.as_str()).collect();
            assert!(phases == "sf" || phases == "stf", "{phases}");
            assert!(steps.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{steps:?}");
        }
    }

    #[test]
    fn spans_are_slices_of_their_thread() {
        let mut task = record(RecordKind::Task, 3_000, 7_500);
        (task.name, task.site, task.value, task.cpu) = (1, 2, 4, 1_500);
        let recording = Recording { start: 1_000, processes: vec![process(10, vec![task])], ..Recording::default() };
        let slices = of(&events(&recording), "X");
        assert_eq!(slices.len(), 1);
        let slice = &slices[0];
        assert_eq!((&slice["name"], &slice["pid"], &slice["tid"]), (&json!("task work"), &json!(10), &json!(10)));
        assert_eq!((&slice["ts"], &slice["dur"]), (&json!(2.0), &json!(4.5)));
        assert_eq!(
            slice["args"],
            json!({
                "name": "work", "site": "script.py:3", "value": 4, "object": "9", "link": 1, "cpu_us": 1.5
            })
        );
        check(&recording);
    }

    #[test]
    fn a_lock_may_be_held_across_other_spans() {
        let mut held = record(RecordKind::LockHold, 2_000, 5_000);
        held.name = 1;
        let spans = vec![record(RecordKind::Put, 1_000, 3_000), held, record(RecordKind::Get, 4_000, 9_000)];
        let recording = Recording { processes: vec![process(10, spans)], ..Recording::default() };
        let events = events(&recording);
        let lengths: Vec<Value> = of(&events, "X").iter().map(|event| event["dur"].clone()).collect();
        assert_eq!(lengths, [2.0, 5.0], "neither is cut");
        assert_eq!((&of(&events, "b")[0]["name"], &of(&events, "e")[0]["ts"]), (&json!("holds work"), &json!(5.0)));
        check(&recording);
    }

    #[test]
    fn processes_and_threads_have_names() {
        let recording = Recording { processes: vec![process(10, vec![])], ..Recording::default() };
        let names: Vec<Value> =
            of(&events(&recording), "M").iter().map(|event| event["args"]["name"].clone()).collect();
        assert!(names.contains(&json!("P10")) && names.contains(&json!("MainThread (main)")), "{names:?}");
    }

    #[test]
    fn a_task_is_followed_from_submit_to_result() {
        let parent = process(10, vec![record(RecordKind::Submit, 1, 5), record(RecordKind::Result, 6, 50_000)]);
        let mut task = record(RecordKind::Task, 10_000, 20_000);
        task.thread = 20;
        let recording = Recording { processes: vec![parent, process(20, vec![task])], ..Recording::default() };
        let events = events(&recording);
        assert_eq!(of(&events, "s")[0]["pid"], 10);
        assert_eq!(of(&events, "t")[0]["tid"], 20);
        assert_eq!((&of(&events, "f")[0]["ts"], &of(&events, "f")[0]["bp"]), (&json!(20.0), &json!("e")));
        let running: Vec<Value> = of(&events, "C")
            .iter()
            .filter(|e| e["name"] == "tasks running")
            .map(|e| e["args"]["tasks"].clone())
            .collect();
        assert_eq!(running, [1, 0]);
        check(&recording);
    }

    #[test]
    fn one_submission_of_many_tasks_has_an_arrow_to_each() {
        let job = 3 << 32;
        let submit = Record { link: job, value: 2, ..record(RecordKind::Submit, 1, 5) };
        let result = Record { link: job, ..record(RecordKind::Result, 6, 50_000) };
        let task = |link, begin| Record { link, thread: 20, ..record(RecordKind::Task, begin, begin + 1_000) };
        let tasks = vec![task(job, 10_000), task(job + 1, 20_000), task(job + 2, 30_000)];
        let recording = |submit| Recording {
            processes: vec![process(10, vec![submit, result]), process(20, tasks.clone())],
            ..Recording::default()
        };
        let flows = |recording: &Recording| of(&events(recording), "f").len();
        assert_eq!(flows(&recording(submit)), 2, "the third is somebody else's");
        assert_eq!(flows(&recording(Record { value: 0, ..submit })), 3, "how many there are was not known");
        check(&recording(submit));
    }

    #[test]
    fn numbers_that_are_used_again_are_told_apart() {
        let recording = Recording { processes: vec![process(10, vec![]), process(10, vec![])], ..Recording::default() };
        let pids: BTreeSet<u64> = events(&recording).iter().map(|event| event["pid"].as_u64().unwrap()).collect();
        assert_eq!(pids.len(), 2);
    }

    #[test]
    fn an_empty_recording_is_a_trace() {
        assert!(events(&Recording::default()).is_empty());
    }

    proptest! {
        #[test]
        fn any_records_make_a_valid_trace(
            records in proptest::collection::vec(
                (0..RecordKind::ALL.len(), 0..5_000u64, 0..5_000u64, 1..4u32, 0..3u64, 0..4u32), 0..60),
            start in 0..3_000u64,
        ) {
            let records: Vec<Record> = records.into_iter().map(|(kind, begin, length, thread, link, name)| Record {
                begin, end: begin + length, thread, link, name, site: name,
                ..record(RecordKind::ALL[kind], 0, 0)
            }).collect();
            let half = records.len() / 2;
            let recording = Recording {
                start,
                processes: vec![process(10, records[..half].to_vec()), process(20, records[half..].to_vec())],
                ..Recording::default()
            };
            check(&recording);
        }
    }
}

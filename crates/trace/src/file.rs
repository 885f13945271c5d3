//! A recording as bytes, to be kept in a file and read back.
//!
//! ```text
//!  "brkevtrc"  version u32  length u64 of what follows
//!  head        u32 length, JSON: program, cores, charges, and of each process all but its lists
//!  processes, in the head's order, each:
//!    records   u64 count, 64 bytes each, as in a ring
//!    strings   u64 count, each u32 length and UTF-8
//!    samples   u64 count, 7 u64 each
//!    threads   u64 count, each u64 count of samples, 8 u64 each
//! ```
//!
//! All numbers are little-endian. [`Recording::from_bytes`] gives a recording or an error for any bytes whatever, and takes
//! memory in proportion to them.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::record::{Flags, Record};
use crate::recording::{Charges, Process, ProcessSample, Program, Recording, Role, Thread, ThreadSample};

const MAGIC: &[u8; 8] = b"brkevtrc";
/// Raised whenever older readers could not make sense of the bytes any more.
const VERSION: u32 = 1;

/// Why bytes are no recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// They do not begin as a recording does.
    NotARecording,
    /// A recording of another version of breakeven.
    Version(u32),
    /// They end too early, or something in them makes no sense: what.
    Damaged(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording => write!(f, "this is not a recording of breakeven"),
            Self::Version(version) => write!(
                f,
                "the recording has format {version}, this version of breakeven reads format {VERSION}: \
                 record it again, or read it with the version that wrote it"
            ),
            Self::Damaged(what) => write!(f, "the recording is damaged: {what}"),
        }
    }
}

impl core::error::Error for FileError {}

#[derive(Serialize, Deserialize)]
struct Head {
    program: Program,
    start: u64,
    end: u64,
    cores: u32,
    charges: Option<Charges>,
    #[serde(default)]
    supervisor_seconds: f64,
    processes: Vec<HeadProcess>,
}

#[derive(Serialize, Deserialize)]
struct HeadProcess {
    pid: u32,
    parent: u32,
    name: String,
    method: String,
    start: u64,
    end: u64,
    exit_code: Option<i32>,
    dropped: u64,
    threads: Vec<HeadThread>,
}

#[derive(Serialize, Deserialize)]
struct HeadThread {
    tid: u32,
    role: String,
    name: String,
}

impl Recording {
    /// As bytes. See the module.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = Head {
            program: self.program.clone(),
            start: self.start,
            end: self.end,
            cores: self.cores,
            charges: self.charges,
            supervisor_seconds: self.supervisor_seconds,
            processes: self.processes.iter().map(head_of).collect(),
        };
        let mut out = Out(Vec::new());
        // A head has strings for keys and finite numbers (a program's start time, charges): serde_json writes nulls for
        // the others, which reading refuses.
        let head = serde_json::to_vec(&head).unwrap_or_default();
        out.u32(head.len() as u32);
        out.0.extend_from_slice(&head);
        for process in &self.processes {
            out.u64(process.records.len() as u64);
            for record in &process.records {
                record.to_words().into_iter().for_each(|word| out.u64(word));
            }
            out.u64(process.strings.len() as u64);
            for text in &process.strings {
                out.u32(text.len() as u32);
                out.0.extend_from_slice(text.as_bytes());
            }
            out.u64(process.samples.len() as u64);
            for sample in &process.samples {
                process_words(sample).into_iter().for_each(|word| out.u64(word));
            }
            out.u64(process.threads.len() as u64);
            for thread in &process.threads {
                out.u64(thread.samples.len() as u64);
                for sample in &thread.samples {
                    thread_words(sample).into_iter().for_each(|word| out.u64(word));
                }
            }
        }
        let mut bytes = Vec::with_capacity(out.0.len() + 20);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(out.0.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&out.0);
        bytes
    }

    /// Reads bytes that [`Recording::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let mut input = In(bytes);
        if input.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(FileError::NotARecording);
        }
        let version = input.u32()?;
        if version != VERSION {
            return Err(FileError::Version(version));
        }
        if input.u64()? != input.0.len() as u64 {
            return Err(FileError::Damaged("it is longer or shorter than it says"));
        }
        let length = input.u32()? as usize;
        let head: Head = serde_json::from_slice(input.take(length)?).map_err(|_| FileError::Damaged("its head"))?;
        let mut processes = Vec::new();
        for of in head.processes {
            let records = (0..input.count(Record::SIZE)?)
                .map(|_| Record::from_words(input.words()?).ok_or(FileError::Damaged("a record")))
                .collect::<Result<_, _>>()?;
            let strings = (0..input.count(4)?)
                .map(|_| {
                    let length = input.u32()? as usize;
                    let text = core::str::from_utf8(input.take(length)?).map_err(|_| FileError::Damaged("a string"))?;
                    Ok(text.to_owned())
                })
                .collect::<Result<_, FileError>>()?;
            let samples =
                (0..input.count(56)?).map(|_| Ok(process_sample(input.words()?))).collect::<Result<_, FileError>>()?;
            if input.count(8)? != of.threads.len() {
                return Err(FileError::Damaged("its threads"));
            }
            let mut threads = Vec::new();
            for of in of.threads {
                let samples = (0..input.count(64)?)
                    .map(|_| Ok(thread_sample(input.words()?)))
                    .collect::<Result<_, FileError>>()?;
                let role = Role::from_name(&of.role).ok_or(FileError::Damaged("a thread's role"))?;
                threads.push(Thread { tid: of.tid, role, name: of.name, samples });
            }
            processes.push(Process {
                pid: of.pid,
                parent: of.parent,
                name: of.name,
                method: of.method,
                start: of.start,
                end: of.end,
                exit_code: of.exit_code,
                records,
                strings,
                dropped: of.dropped,
                threads,
                samples,
            });
        }
        if !input.0.is_empty() {
            return Err(FileError::Damaged("something stands behind its end"));
        }
        let Head { program, start, end, cores, charges, supervisor_seconds, .. } = head;
        Ok(Self { program, start, end, cores, charges, supervisor_seconds, processes })
    }
}

/// Reads charges from JSON, one member a field.
pub fn charges_from_json(text: &str) -> Result<Charges, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Recording {
    /// As JSON, for people who look for faults: records with the names of their kinds and the texts of their numbers.
    pub fn to_json(&self) -> String {
        use serde_json::{Value, json};
        let record = |process: &Process, record: &Record| {
            let text = |number: u32| process.strings.get(number as usize).cloned().unwrap_or_default();
            let mut flags = Vec::new();
            for (flag, name) in [
                (Flags::CUT, "cut"),
                (Flags::FAILED, "failed"),
                (Flags::TIMED_OUT, "timed_out"),
                (Flags::NO_WAIT, "no_wait"),
                (Flags::HELPER, "helper"),
            ] {
                if record.flags.has(flag) {
                    flags.push(name);
                }
            }
            json!({
                "kind": record.kind.name(), "begin": record.begin, "end": record.end,
                "cpu": (record.cpu != Record::NOT_MEASURED).then_some(record.cpu),
                "value": record.value, "object": record.object, "link": record.link, "thread": record.thread,
                "flags": flags, "site": text(record.site), "name": text(record.name),
            })
        };
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|process| {
                json!({
                    "pid": process.pid, "parent": process.parent, "name": process.name, "method": process.method,
                    "start": process.start, "end": process.end, "exit_code": process.exit_code,
                    "dropped": process.dropped,
                    "records": process.records.iter().map(|of| record(process, of)).collect::<Vec<_>>(),
                    "samples": process.samples.iter().map(process_words).collect::<Vec<_>>(),
                    "threads": process.threads.iter().map(|thread| json!({
                        "tid": thread.tid, "role": thread.role.name(), "name": thread.name,
                        "samples": thread.samples.iter().map(thread_words).collect::<Vec<_>>(),
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "program": self.program, "start": self.start, "end": self.end, "cores": self.cores,
            "charges": self.charges, "supervisor_seconds": self.supervisor_seconds, "processes": processes,
        })
        .to_string()
    }
}

fn head_of(process: &Process) -> HeadProcess {
    let threads = process.threads.iter();
    HeadProcess {
        pid: process.pid,
        parent: process.parent,
        name: process.name.clone(),
        method: process.method.clone(),
        start: process.start,
        end: process.end,
        exit_code: process.exit_code,
        dropped: process.dropped,
        threads: threads
            .map(|thread| HeadThread {
                tid: thread.tid,
                role: thread.role.name().to_owned(),
                name: thread.name.clone(),
            })
            .collect(),
    }
}

fn process_words(sample: &ProcessSample) -> [u64; 7] {
    let ProcessSample { at, cpu, system, minor_faults, major_faults, resident, private } = *sample;
    [at, cpu, system, minor_faults, major_faults, resident, private]
}

fn process_sample(words: [u64; 7]) -> ProcessSample {
    let [at, cpu, system, minor_faults, major_faults, resident, private] = words;
    ProcessSample { at, cpu, system, minor_faults, major_faults, resident, private }
}

fn thread_words(sample: &ThreadSample) -> [u64; 8] {
    let ThreadSample { at, cpu, delay, minor_faults, major_faults, voluntary, involuntary, state } = *sample;
    [at, cpu, delay, minor_faults, major_faults, voluntary, involuntary, u64::from(state)]
}

fn thread_sample(words: [u64; 8]) -> ThreadSample {
    let [at, cpu, delay, minor_faults, major_faults, voluntary, involuntary, state] = words;
    ThreadSample { at, cpu, delay, minor_faults, major_faults, voluntary, involuntary, state: state as u8 }
}

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FileError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FileError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, FileError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, FileError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn words<const N: usize>(&mut self) -> Result<[u64; N], FileError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u64()?;
        }
        Ok(words)
    }

    /// How many things of at least `size` bytes follow.
    fn count(&mut self, size: usize) -> Result<usize, FileError> {
        let count = self.u64()?;
        if count > (self.0.len() / size) as u64 {
            return Err(FileError::Damaged("it ends too early"));
        }
        Ok(count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordKind;
    use proptest::prelude::*;

    fn recording() -> Recording {
        let record = Record {
            begin: 5,
            end: 9,
            cpu: Record::NOT_MEASURED,
            value: 1,
            object: 2,
            link: 3,
            thread: 4,
            kind: RecordKind::Task,
            flags: Flags::CUT,
            site: 1,
            name: 0,
        };
        let thread = Thread {
            tid: 4,
            role: Role::Feeder,
            name: "QueueFeederThread".to_owned(),
            samples: vec![ThreadSample { at: 6, state: b'S', ..ThreadSample::default() }],
        };
        Recording {
            program: Program { argv: vec!["größe.py".to_owned()], exit_code: Some(-9), ..Program::default() },
            start: 1,
            end: 10,
            cores: 2,
            charges: None,
            supervisor_seconds: 0.5,
            processes: vec![
                Process {
                    pid: 4,
                    name: "MainProcess".to_owned(),
                    method: "main".to_owned(),
                    records: vec![record; 3],
                    strings: vec![String::new(), "größe.py:3".to_owned()],
                    threads: vec![thread],
                    samples: vec![ProcessSample { at: 7, ..ProcessSample::default() }],
                    ..Process::default()
                },
                Process { pid: 5, parent: 4, dropped: 7, ..Process::default() },
            ],
        }
    }

    #[test]
    fn a_recording_reads_back() {
        for recording in [recording(), Recording::default()] {
            assert_eq!(Recording::from_bytes(&recording.to_bytes()), Ok(recording));
        }
    }

    #[test]
    fn what_is_none_is_refused_and_says_why() {
        let bytes = recording().to_bytes();
        assert_eq!(Recording::from_bytes(b"something else"), Err(FileError::NotARecording));
        let mut newer = bytes.clone();
        newer[8] = 99;
        assert_eq!(Recording::from_bytes(&newer), Err(FileError::Version(99)));
        for length in 0..bytes.len() {
            assert!(Recording::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Recording::from_bytes(&longer).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Recording::from_bytes(&bytes);
            let mut body = MAGIC.to_vec();
            body.extend(VERSION.to_le_bytes());
            body.extend((bytes.len() as u64).to_le_bytes());
            body.extend(&bytes);
            let _ = Recording::from_bytes(&body);
        }

        #[test]
        fn changed_bytes_give_a_value_or_an_error(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
        ) {
            let mut bytes = recording().to_bytes();
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let _ = Recording::from_bytes(&bytes);
        }
    }
}

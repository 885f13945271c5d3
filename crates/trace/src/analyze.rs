//! From a recording to its report.

use crate::attribute::{Account, Attributor, ProcessRole, process_roles};
use crate::cause::Cause;
use crate::facts::Facts;
use crate::pairing::Pairs;
use crate::record::{Record, RecordKind};
use crate::recording::{Charges, Recording};
use crate::report::{CauseShare, ProcessReport, Recorder, Report, Slice};
use crate::{Attribution, diagnose, fixes, predict, timeline};

/// Slices of a process's life in a report, at most.
const SLICES: usize = 2000;

/// What a small Linux machine charges; where it could not be measured.
pub(crate) const DEFAULT_CHARGES: Charges = Charges {
    fork: 2e-3,
    forkserver: 6e-3,
    spawn: 60e-3,
    thread: 80e-6,
    message: 20e-6,
    queue_message: 40e-6,
    pipe_byte: 0.5e-9,
    pickle_byte: 0.3e-9,
    pool_task: 100e-6,
    executor_task: 200e-6,
    wake: 50e-6,
    page_fault: 0.5e-6,
    manager_call: 150e-6,
    lock: 0.1e-6,
    lock_shared: 0.6e-6,
    interpreter: 30e-3,
    page_copy: 1e-6,
    page_free: 0.2e-6,
};

/// Explains a recording. Pure: the same recording gives the same report.
pub fn analyze(recording: &Recording) -> Report {
    let charges = recording.charges.unwrap_or(DEFAULT_CHARGES);
    let lines = timeline::lines(recording, &charges);
    let pairs = Pairs::new(recording, &lines);
    let roles = process_roles(recording);
    let account = Attributor::new(recording, &charges, &lines, &pairs, &roles).run();
    if recording.processes.is_empty() {
        return empty(recording);
    }
    let facts = Facts::new(recording, &charges, &lines, &pairs, &roles, &account);
    let (primary, findings) = diagnose::diagnose(&facts);
    let model = predict::Model::new(&facts);
    let fixes = fixes::fixes(&facts, &model, primary.cause);
    Report {
        primary,
        causes: shares(&facts.total),
        findings,
        fixes,
        curve: if facts.parallel { model.curve() } else { Vec::new() },
        workload: facts.parallel.then_some(model.facts),
        processes: processes(recording, &lines, &roles, &account),
        remarks: remarks(&facts),
        process_seconds: facts.process_seconds,
        ..empty(recording)
    }
}

/// A report without anything that the processes say.
fn empty(recording: &Recording) -> Report {
    let elapsed = recording.end.saturating_sub(recording.start) as f64 * 1e-9;
    let last = recording.processes.iter().filter_map(|process| process.samples.last());
    let cpu_seconds: f64 = last.map(|sample| sample.cpu as f64 * 1e-9).sum();
    Report {
        schema: Report::SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        program: recording.program.clone(),
        cores: recording.cores,
        elapsed,
        process_seconds: 0.0,
        cpu_seconds,
        primary: crate::report::Primary {
            cause: Cause::None,
            headline: "Nothing was recorded.".to_owned(),
            without_it: None,
        },
        causes: Vec::new(),
        findings: Vec::new(),
        fixes: Vec::new(),
        curve: Vec::new(),
        workload: None,
        processes: Vec::new(),
        charges: recording.charges,
        recorder: recorder(recording, elapsed, cpu_seconds),
        remarks: Vec::new(),
        runs: Vec::new(),
    }
}

fn recorder(recording: &Recording, elapsed: f64, cpu_seconds: f64) -> Recorder {
    let mut recorder = Recorder::default();
    for process in &recording.processes {
        recorder.records += process.records.len() as u64;
        recorder.dropped += process.dropped;
        let last: Option<&Record> = process.records.iter().rfind(|record| record.kind == RecordKind::Cost);
        recorder.hook_seconds += last.map_or(0.0, |record| record.value as f64 * 1e-9);
    }
    recorder.supervisor_seconds = recording.supervisor_seconds;
    // As much of the run as its hooks are of its work: of that of the cores that it kept busy, of one core at least.
    let busy = cpu_seconds.clamp(elapsed, elapsed * f64::from(recording.cores.max(1)));
    if busy > 0.0 {
        recorder.overhead = recorder.hook_seconds / busy;
    }
    recorder
}

fn shares(seconds: &[f64]) -> Vec<CauseShare> {
    let attribution = Attribution::new(Cause::ALL.iter().copied().zip(seconds.iter().copied()));
    let share =
        |share: &crate::Share| CauseShare { cause: share.cause, core_seconds: share.core_seconds, share: share.share };
    attribution.shares().iter().map(share).collect()
}

fn processes(
    recording: &Recording,
    lines: &[timeline::ProcessLine],
    roles: &[ProcessRole],
    account: &Account,
) -> Vec<ProcessReport> {
    let since = |moment: u64| moment.saturating_sub(recording.start) as f64 * 1e-9;
    let report = |(number, process): (usize, &crate::recording::Process)| {
        let last = process.samples.last().copied().unwrap_or_default();
        let ends = || process.threads.iter().filter_map(|thread| thread.samples.last());
        let slices = account.slices[number].iter().map(|&(begin, end, cause)| (begin, end, cause)).collect();
        let mut blas: Vec<(String, u32)> = Vec::new();
        for record in process.records.iter().filter(|record| record.kind == RecordKind::Blas) {
            let name = process.strings.get(record.name as usize).cloned().unwrap_or_default();
            let threads = u32::try_from(record.value).unwrap_or(u32::MAX);
            match blas.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = threads,
                None => blas.push((name, threads)),
            }
        }
        ProcessReport {
            pid: process.pid,
            parent: process.parent,
            name: process.name.clone(),
            role: roles[number].name().to_owned(),
            method: process.method.clone(),
            start: since(lines[number].begin),
            end: since(lines[number].end),
            exit_code: process.exit_code,
            cpu_seconds: (last.cpu as f64).max(ends().map(|sample| sample.cpu as f64).sum()) * 1e-9,
            delay_seconds: ends().map(|sample| sample.delay as f64 * 1e-9).sum(),
            minor_faults: last.minor_faults,
            major_faults: last.major_faults,
            voluntary_switches: ends().fold(0, |sum, sample| sum.saturating_add(sample.voluntary)),
            involuntary_switches: ends().fold(0, |sum, sample| sum.saturating_add(sample.involuntary)),
            peak_memory: process.samples.iter().map(|sample| sample.resident).max().unwrap_or(0),
            threads: at_a_time(&lines[number]),
            blas,
            tasks: process.records.iter().filter(|record| record.kind == RecordKind::Task).count() as u64,
            causes: shares(&account.causes[number]),
            timeline: coarser(slices)
                .into_iter()
                .map(|(begin, end, cause)| Slice { start: since(begin), end: since(end), cause })
                .collect(),
        }
    };
    recording.processes.iter().enumerate().map(report).collect()
}

/// Most threads that were alive at the same time.
fn at_a_time(line: &timeline::ProcessLine) -> u32 {
    let mut events: Vec<(u64, i32)> = Vec::new();
    for thread in &line.threads {
        events.push((thread.begin, 1));
        events.push((thread.end.max(thread.begin.saturating_add(1)), -1));
    }
    events.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, step) in events {
        now += step;
        most = most.max(now);
    }
    u32::try_from(most).unwrap_or(0)
}

/// At most [`SLICES`] slices: the shortest give way to their longer neighbours.
fn coarser(mut slices: Vec<(u64, u64, Cause)>) -> Vec<(u64, u64, Cause)> {
    while slices.len() > SLICES {
        let mut lengths: Vec<u64> = slices.iter().map(|(begin, end, _)| end - begin).collect();
        let excess = (slices.len() - SLICES).div_ceil(2).max(1);
        let (_, &mut limit, _) = lengths.select_nth_unstable(excess - 1);
        let mut kept: Vec<(u64, u64, Cause)> = Vec::with_capacity(slices.len());
        let mut dropped = 0;
        for slice in slices.drain(..) {
            let only_one = kept.len() == 1;
            match kept.last_mut() {
                Some(last) if last.2 == slice.2 => last.1 = slice.1,
                // The first has no one before it: it gives way to the second.
                Some(first) if only_one && first.1 - first.0 <= limit && dropped < excess => {
                    dropped += 1;
                    *first = (first.0, slice.1, slice.2);
                }
                Some(last) if slice.1 - slice.0 <= limit && dropped < excess => {
                    dropped += 1;
                    last.1 = slice.1;
                }
                _ => kept.push(slice),
            }
        }
        slices = kept;
    }
    slices
}

fn remarks(facts: &Facts<'_>) -> Vec<String> {
    let recording = facts.recording;
    let mut remarks = Vec::new();
    let dropped: u64 = recording.processes.iter().map(|process| process.dropped).sum();
    if dropped > 0 {
        remarks.push(format!("{dropped} records found their ring full and are missing."));
    }
    let blind = recording.processes.iter().zip(facts.roles).filter(|(_, role)| **role == ProcessRole::Other).count();
    if blind > 0 {
        remarks.push(format!("{blind} processes ran without hooks (other programs); their time counts as compute."));
    }
    match recording.program.exit_code {
        Some(code) if code < 0 => remarks.push(format!("The program was ended by signal {}.", -code)),
        Some(code) if code > 0 => remarks.push(format!("The program ended with exit code {code}.")),
        _ => {}
    }
    for process in recording.processes.iter().skip(1) {
        if let Some(code) = process.exit_code.filter(|code| *code < 0 && *code != -15) {
            remarks.push(format!("Process {} ({}) was ended by signal {}.", process.pid, process.name, -code));
        }
    }
    if facts.others > 0.15 * facts.elapsed {
        remarks.push(format!(
            "Threads of the program waited {} for cores while it did not fill them itself: the machine had other work.",
            crate::causes::seconds(facts.others)
        ));
    }
    if recording.charges.is_none() {
        remarks.push("What this machine charges was not measured; predictions use a typical machine's.".to_owned());
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_get_fewer_whichever_is_the_shortest() {
        for shortest in [0, 1, SLICES / 2, SLICES] {
            let mut at = 0;
            let slices: Vec<(u64, u64, Cause)> = (0..=SLICES)
                .map(|number| {
                    let begin = at;
                    at += if number == shortest { 1 } else { 10 };
                    (begin, at, if number % 2 == 0 { Cause::Compute } else { Cause::Rpc })
                })
                .collect();
            let coarse = coarser(slices);
            assert!(coarse.len() <= SLICES, "{shortest}");
            assert_eq!((coarse[0].0, coarse[coarse.len() - 1].1), (0, at));
            assert!(coarse.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}

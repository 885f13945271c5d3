//! What holds of every recording, whatever its processes wrote.

use breakeven_trace::build::Build;
use breakeven_trace::recording::{Charges, Role};
use breakeven_trace::{Cause, Record, RecordKind, Recording, Report, analyze};
use proptest::prelude::*;

const CHARGES: Charges = Charges {
    fork: 1e-3,
    forkserver: 5e-3,
    spawn: 50e-3,
    thread: 60e-6,
    message: 15e-6,
    queue_message: 30e-6,
    pipe_byte: 0.4e-9,
    pickle_byte: 0.3e-9,
    pool_task: 90e-6,
    executor_task: 150e-6,
    wake: 40e-6,
    page_fault: 0.4e-6,
    manager_call: 120e-6,
    lock: 1e-6,
    lock_shared: 2e-6,
    interpreter: 20e-3,
    page_copy: 0.8e-6,
    page_free: 0.2e-6,
};

/// A span anywhere in a run, of any kind.
fn span() -> impl Strategy<Value = (usize, usize, usize, f64, f64, u64, u64, u64, Option<f64>)> {
    (
        0usize..4,
        0usize..3,
        0usize..RecordKind::ALL.len(),
        0.0..10.0,
        0.0..3.0,
        0u64..6,
        0u64..20,
        prop_oneof![0u64..3000, 0u64..50_000_000],
        proptest::option::of(0.0..1.0),
    )
}

prop_compose! {
    /// Three children and their parent, with threads, samples and spans of all kinds at random.
    fn recordings()(
        spans in proptest::collection::vec(span(), 0..120),
        lives in proptest::collection::vec((0.0..10.0, 0.0..10.0), 3),
        samples in proptest::collection::vec((0usize..4, 0usize..3, 0.0..0.5, 0.0..0.5, 0u64..20_000), 0..60),
        cores in 0u32..5,
    ) -> Recording {
        let mut run = Build::new(cores, 10.0);
        for (a, b) in &lives {
            run.child(0, "fork", f64::min(*a, *b), f64::max(*a, *b));
        }
        for process in 0..4 {
            run.thread(process, Role::TaskHandler);
            run.thread(process, Role::ThreadWorker);
        }
        for (process, thread, kind, begin, length, object, link, value, cpu) in spans {
            let end: f64 = begin + length;
            let object = if object == 5 { run.pid(2) } else { object };
            let span = run
                .span_of(process, thread, RecordKind::ALL[kind], begin, end.min(10.0))
                .object(object)
                .link(link)
                .value(value)
                .name("thing")
                .site("script.py:3 function");
            if let Some(share) = cpu {
                span.cpu(share * (end.min(10.0) - begin));
            }
        }
        let mut totals = [[(0.0, 0.0, 0.0, 0u64); 3]; 4];
        for (process, thread, cpu, delay, faults) in samples {
            let total = &mut totals[process][thread];
            *total = (total.0 + 0.5, total.1 + cpu, total.2 + delay, total.3 + faults);
            if total.0 <= 10.0 {
                let sample = run.sample(process, thread, total.0, total.1, total.2);
                sample.minor_faults = total.3;
                sample.voluntary = total.3 / 100;
            }
        }
        run.recording().charges = Some(CHARGES);
        run.finish()
    }
}

/// Every moment of a recording, and every length, by a function.
fn with_times(recording: &Recording, moment: impl Fn(u64) -> u64, length: impl Fn(u64) -> u64) -> Recording {
    let mut changed = recording.clone();
    changed.start = moment(changed.start);
    changed.end = moment(changed.end);
    for process in &mut changed.processes {
        process.start = moment(process.start);
        process.end = moment(process.end);
        for record in &mut process.records {
            record.begin = moment(record.begin);
            record.end = moment(record.end);
            if record.cpu != Record::NOT_MEASURED {
                record.cpu = length(record.cpu);
            }
        }
        for thread in &mut process.threads {
            for sample in &mut thread.samples {
                sample.at = moment(sample.at);
                sample.cpu = length(sample.cpu);
                sample.delay = length(sample.delay);
            }
        }
    }
    changed
}

fn share(report: &Report, cause: Cause) -> f64 {
    report.causes.iter().find(|share| share.cause == cause).map_or(0.0, |share| share.share)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn shares_sum_to_one(recording in recordings()) {
        let report = analyze(&recording);
        let sum: f64 = report.causes.iter().map(|share| share.share).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        let lives: f64 = recording.processes.iter().map(|one| (one.end - one.start) as f64 * 1e-9).sum();
        let helpers: f64 =
            report.processes.iter().filter(|one| one.role == "helper").map(|one| one.end - one.start).sum();
        prop_assert!((report.process_seconds - (lives - helpers)).abs() < 1e-6, "{} of {lives}", report.process_seconds);
    }

    #[test]
    fn slices_cover_each_life_without_gap_or_overlap(recording in recordings()) {
        for process in analyze(&recording).processes {
            let mut at = process.start;
            for slice in &process.timeline {
                prop_assert!((slice.start - at).abs() < 1e-9, "a gap from {at} to {}", slice.start);
                prop_assert!(slice.end > slice.start);
                at = slice.end;
            }
            prop_assert!((at - process.end).abs() < 1e-9);
            prop_assert!(process.timeline.len() <= 2000);
        }
    }

    #[test]
    fn the_clocks_zero_does_not_matter(recording in recordings(), by in 0u64..1 << 50) {
        let shifted = with_times(&recording, |moment| moment + by, |length| length);
        prop_assert_eq!(analyze(&recording), analyze(&shifted));
    }

    #[test]
    fn a_run_twice_as_slow_on_a_machine_twice_as_slow_says_the_same(recording in recordings()) {
        let start = recording.start;
        let mut slow = with_times(&recording, |moment| start + 2 * (moment - start), |length| 2 * length);
        let twice = |charge: f64| 2.0 * charge;
        slow.charges = Some(Charges {
            fork: twice(CHARGES.fork),
            forkserver: twice(CHARGES.forkserver),
            spawn: twice(CHARGES.spawn),
            thread: twice(CHARGES.thread),
            message: twice(CHARGES.message),
            queue_message: twice(CHARGES.queue_message),
            pipe_byte: twice(CHARGES.pipe_byte),
            pickle_byte: twice(CHARGES.pickle_byte),
            pool_task: twice(CHARGES.pool_task),
            executor_task: twice(CHARGES.executor_task),
            wake: twice(CHARGES.wake),
            page_fault: twice(CHARGES.page_fault),
            manager_call: twice(CHARGES.manager_call),
            lock: twice(CHARGES.lock),
            lock_shared: twice(CHARGES.lock_shared),
            interpreter: twice(CHARGES.interpreter),
            page_copy: twice(CHARGES.page_copy),
            page_free: twice(CHARGES.page_free),
        });
        let (before, after) = (analyze(&recording), analyze(&slow));
        prop_assert!((2.0 * before.process_seconds - after.process_seconds).abs() < 1e-6);
        // What is told by speed (bytes a second) and by the interpreter's clock (looks a second) does not scale.
        let scales = [Cause::Compute, Cause::Memory, Cause::Startup, Cause::Oversubscription, Cause::Imbalance];
        for cause in scales.into_iter().filter(|_| share(&before, Cause::Gil) + share(&after, Cause::Gil) == 0.0) {
            let (a, b) = (share(&before, cause), share(&after, cause));
            prop_assert!((a - b).abs() < 0.01, "{cause}: {a} and {b}");
        }
    }

    #[test]
    fn the_recorders_own_records_change_nothing(recording in recordings()) {
        let mut without = recording.clone();
        for process in &mut without.processes {
            process.records.retain(|record| record.kind != RecordKind::Cost);
        }
        let (with, without) = (analyze(&recording), analyze(&without));
        prop_assert_eq!(with.causes, without.causes);
        prop_assert_eq!(with.primary, without.primary);
        prop_assert_eq!(with.fixes, without.fixes);
    }

    #[test]
    fn any_words_are_borne(
        words in proptest::collection::vec(proptest::array::uniform8(any::<u64>()), 0..200),
        pids in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()), 0..5),
        start in any::<u64>(),
        end in any::<u64>(),
        cores in any::<u32>(),
        samples in proptest::collection::vec(proptest::array::uniform8(any::<u64>()), 0..20),
    ) {
        let mut recording = Recording { start, end, cores, ..Recording::default() };
        for (pid, parent, begin, finish) in pids {
            recording.processes.push(breakeven_trace::recording::Process {
                pid,
                parent,
                start: begin,
                end: finish,
                method: "fork".to_owned(),
                ..Default::default()
            });
        }
        let count = recording.processes.len();
        for (number, mut words) in words.into_iter().enumerate() {
            // Every second one of a known kind, else hardly any would be a record.
            if number % 2 == 0 {
                let kind = RecordKind::ALL[number % RecordKind::ALL.len()];
                words[6] = words[6] & !(0xffff << 32) | u64::from(kind.code()) << 32;
                words[1] = words[1].max(words[0]);
            }
            if let Some(record) = Record::from_words(words)
                && count > 0
            {
                recording.processes[number % count].records.push(record);
            }
        }
        for (number, words) in samples.into_iter().enumerate() {
            if count > 0 {
                let process = &mut recording.processes[number % count];
                process.threads.push(breakeven_trace::recording::Thread { tid: words[7] as u32, ..Default::default() });
                process.threads[0].samples.push(breakeven_trace::recording::ThreadSample {
                    at: words[0],
                    cpu: words[1],
                    delay: words[2],
                    minor_faults: words[3],
                    major_faults: words[4],
                    voluntary: words[5],
                    involuntary: words[6],
                    state: b'R',
                });
            }
        }
        let report = analyze(&recording);
        prop_assert!(report.causes.iter().all(|share| share.share.is_finite()));
    }
}

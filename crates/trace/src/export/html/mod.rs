//! A report as one HTML page that refers to nothing outside of itself.
//!
//! `page.html` is the template, `style.css` and `timeline.js` are put into it. Everything but the timeline is there without
//! JavaScript. The template engine escapes every value; before that, [`clean`] spells out what is invisible or reverses
//! the direction of writing, since names in a report are chosen by the program.

mod curve;
mod words;

use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use crate::cause::Cause;
use crate::record::RecordKind;
use crate::recording::Recording;
use crate::report::{FixKind, Report};

/// Most task spans that a page carries; of more, the longest ones.
const TASKS: usize = 20_000;

/// The page. With the recording, its tasks stand in the timeline too.
pub fn render(report: &Report, recording: Option<&Recording>) -> String {
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("seconds", words::seconds);
    environment.add_filter("size", words::size);
    environment.add_filter("thousands", words::thousands);
    environment.add_filter("percent", words::percent);
    environment.add_filter("speedup", words::speedup);
    environment.add_filter("cause_words", |name: &str| name.parse().map_or("", crate::words::cause));
    environment.add_filter("fix_words", |name: &str| {
        FixKind::from_name(name).map_or_else(|| name.to_owned(), |kind| crate::words::fix(kind).to_owned())
    });
    environment.add_filter("signal", words::ending);
    environment.add_filter("sketch_class", |line: &str| match line.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        _ => "same",
    });
    environment.add_template("page", include_str!("page.html")).expect("the template is well-formed");

    let mut report_value = serde_json::to_value(report).expect("a report is plain data");
    clean(&mut report_value);
    let directory = report_value["program"]["directory"].as_str().unwrap_or_default().to_owned();
    let prefix = format!("{}/", directory.trim_end_matches('/'));
    environment.add_filter("short", move |path: &str| words::short(path, &directory).to_owned());
    // A sentence with the paths of files below the program's folder as one would type them there.
    environment
        .add_filter("local", move |text: &str| if prefix == "/" { text.into() } else { text.replace(&prefix, "") });
    let charges: Vec<(&str, &str, Option<f64>)> = words::CHARGES
        .iter()
        .map(|&(name, what)| (name, what, report_value["charges"][name].as_f64()))
        .filter(|(_, _, value)| value.is_some())
        .collect();

    let rendered = environment.get_template("page").expect("it was added").render(context! {
        report => Value::from_serialize(&report_value),
        curve => curve::draw(report).map(Value::from_serialize),
        causes => Value::from_serialize(Cause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>()),
        charges => Value::from_serialize(charges),
        timeline => Value::from_serialize(timeline(report, recording)),
        style => Value::from_safe_string(include_str!("style.css").to_owned()),
        script => Value::from_safe_string(include_str!("timeline.js").to_owned()),
    });
    rendered.expect("the template takes every report")
}

/// What timeline.js draws. Times are whole microseconds after the start.
#[derive(Serialize)]
struct Timeline {
    elapsed: i64,
    causes: Vec<&'static str>,
    processes: Vec<Row>,
    /// Names of tasks' functions, to which the third number of each task points.
    names: Vec<String>,
    /// Whether tasks were left out.
    shortened: bool,
}

#[derive(Serialize)]
struct Row {
    pid: u32,
    name: String,
    role: String,
    /// (start, end, cause) after each other: the index of the cause in `causes`.
    slices: Vec<i64>,
    /// (start, end, name, items) after each other.
    tasks: Vec<i64>,
}

fn timeline(report: &Report, recording: Option<&Recording>) -> Timeline {
    let micro = |seconds: f64| (seconds * 1e6).round() as i64;
    let index = |cause: Cause| Cause::ALL.iter().position(|known| *known == cause).unwrap_or_default() as i64;
    let mut rows: Vec<Row> = report
        .processes
        .iter()
        .map(|process| Row {
            pid: process.pid,
            name: cleaned(&process.name),
            role: cleaned(&process.role),
            slices: process.timeline.iter().flat_map(|s| [micro(s.start), micro(s.end), index(s.cause)]).collect(),
            tasks: Vec::new(),
        })
        .collect();
    let mut names = Vec::new();
    let mut shortened = false;
    if let Some(recording) = recording {
        let mut tasks = Vec::new();
        for process in &recording.processes {
            // By the start too: a process's number can have been used before.
            let row = report.processes.iter().position(|one| {
                one.pid == process.pid
                    && micro(one.start) == micro(process.start.saturating_sub(recording.start) as f64 / 1e9)
            });
            let Some(row) = row else { continue };
            for record in process.records.iter().filter(|record| record.kind == RecordKind::Task) {
                let name = process.strings.get(record.name as usize).map_or("", String::as_str);
                tasks.push((record.duration(), row, record, name));
            }
        }
        if tasks.len() > TASKS {
            shortened = true;
            tasks.sort_by_key(|(duration, ..)| std::cmp::Reverse(*duration));
            tasks.truncate(TASKS);
        }
        tasks.sort_by_key(|(_, row, record, _)| (*row, record.begin));
        let mut known = std::collections::BTreeMap::new();
        for (_, row, record, name) in tasks {
            let name = *known.entry(name).or_insert_with(|| {
                names.push(cleaned(name));
                names.len() - 1
            });
            let after = |at: u64| (at.saturating_sub(recording.start) / 1000) as i64;
            rows[row].tasks.extend([after(record.begin), after(record.end), name as i64, record.value as i64]);
        }
    }
    Timeline {
        elapsed: micro(report.elapsed),
        causes: Cause::ALL.iter().map(|cause| cause.name()).collect(),
        processes: rows,
        names,
        shortened,
    }
}

/// Spells out, in every string of it, what cannot be seen. Line ends stay: sketches have them.
fn clean(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = cleaned(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(clean),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}

fn cleaned(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        match c {
            '\n' => out.push(c),
            '\t' => out.push_str("    "),
            c if c.is_control() || invisible => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{Flags, Record};
    use crate::recording::{Charges, Process, Program};
    use crate::report::*;

    /// A report with something in every field.
    pub(crate) fn sample() -> Report {
        let share = |cause, core_seconds, share| CauseShare { cause, core_seconds, share };
        Report {
            schema: Report::SCHEMA,
            version: "0.1.0".into(),
            program: Program {
                argv: vec!["script.py".into(), "--fast".into()],
                python: "3.11.7".into(),
                directory: "/home/ann".into(),
                exit_code: Some(-9),
                started: 1.8e9,
                transport: "plain".into(),
            },
            cores: 2,
            elapsed: 4.0,
            process_seconds: 6.0,
            cpu_seconds: 5.0,
            primary: Primary { cause: Cause::Rpc, headline: "Round trips.".into(), without_it: Some(2.0) },
            causes: vec![share(Cause::Rpc, 4.5, 0.75), share(Cause::Compute, 1.5, 0.25)],
            findings: vec![Finding {
                cause: Cause::Rpc,
                share: 0.75,
                core_seconds: 4.5,
                costs_seconds: Some(2.0),
                headline: "Round trips.".into(),
                evidence: vec!["1,000 calls of `append`.".into()],
                places: vec![Place {
                    file: "/home/ann/script.py".into(),
                    line: 7,
                    function: Some("work".into()),
                    source: Some("    shared.append(x)".into()),
                    what: "1,000 calls".into(),
                }],
                advice: "Return the results.".into(),
                sketch: Some("- shared.append(x)\n+ return x\n".into()),
            }],
            fixes: vec![Fix {
                kind: FixKind::AvoidManager,
                place: Some("/home/ann/script.py:7".into()),
                predicted_seconds: 2.0,
                low: 1.8,
                high: 2.3,
                predicted_speedup: 2.0,
                explanation: "Without the manager.".into(),
                needs_edit: true,
                workers: Some(2),
                measured_seconds: Some(2.1),
            }],
            curve: [(1, 7.0), (2, 4.0), (4, 4.2), (8, 5.0)]
                .map(|(workers, seconds)| CurvePoint {
                    workers,
                    seconds,
                    low: seconds * 0.9,
                    high: seconds * 1.1,
                    extrapolated: workers > 2,
                })
                .to_vec(),
            workload: Some(WorkloadFacts {
                items: 10,
                tasks: 10,
                seconds: 0.1,
                spread: 0.2,
                bytes_in: 100.0,
                bytes_out: 10.0,
                sleep_share: 0.0,
                outside: 0.3,
                workers: 2,
            }),
            processes: vec![ProcessReport {
                pid: 41,
                parent: 0,
                name: "MainProcess".into(),
                role: "main".into(),
                method: "main".into(),
                start: 0.0,
                end: 4.0,
                exit_code: Some(0),
                cpu_seconds: 3.0,
                delay_seconds: 0.1,
                minor_faults: 12_345,
                major_faults: 1,
                voluntary_switches: 2,
                involuntary_switches: 3,
                peak_memory: 50_000_000,
                threads: 3,
                blas: vec![("openblas".into(), 2)],
                tasks: 10,
                causes: vec![share(Cause::Rpc, 4.0, 1.0)],
                timeline: vec![
                    Slice { start: 0.0, end: 3.0, cause: Cause::Rpc },
                    Slice { start: 3.0, end: 4.0, cause: Cause::Compute },
                ],
            }],
            charges: Some(Charges {
                fork: 1e-3,
                forkserver: 4e-3,
                spawn: 5e-2,
                thread: 5e-5,
                message: 6e-6,
                queue_message: 9e-6,
                pipe_byte: 7e-10,
                pickle_byte: 4e-10,
                pool_task: 6e-5,
                executor_task: 2e-4,
                wake: 4e-5,
                page_fault: 3e-7,
                manager_call: 8e-5,
                lock: 1e-7,
                lock_shared: 5e-7,
                interpreter: 2e-2,
                page_copy: 5e-7,
                page_free: 2e-7,
            }),
            recorder: Recorder {
                records: 1234,
                dropped: 5,
                hook_seconds: 0.01,
                supervisor_seconds: 0.02,
                overhead: 0.0075,
            },
            remarks: vec!["5 records were dropped.".into()],
            runs: vec![Run { elapsed: 4.0, cpu_seconds: 5.0, primary: Cause::Rpc }],
        }
    }

    fn recording() -> Recording {
        let task = |begin: u64| Record {
            begin,
            end: begin + 1_000_000,
            cpu: 0,
            value: 3,
            object: 0,
            link: 0,
            thread: 41,
            kind: RecordKind::Task,
            flags: Flags(0),
            site: 0,
            name: 1,
        };
        Recording {
            start: 1_000_000_000,
            end: 5_000_000_000,
            processes: vec![Process {
                pid: 41,
                start: 1_000_000_000,
                end: 5_000_000_000,
                strings: vec![String::new(), "work</script>".into()],
                records: vec![task(2_000_000_000), task(3_000_000_000)],
                ..Process::default()
            }],
            ..Recording::default()
        }
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = render(&sample(), Some(&recording())).to_lowercase();
        for word in ["http:", "https:", "src=", "href=\"/", "@import", "url(", "fetch(", "xmlhttp", "<link", "import("]
        {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn numbers_are_there() {
        let page = render(&sample(), None);
        for text in ["4.00 s", "75 %", "12,345", "50.0 MB", "2.10 s", "SIGKILL", "script.py:7", "1,234"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("/home/ann/script.py"), "paths below the program's folder are short");
        let mut report = sample();
        report.primary.headline = "Round trips (/home/ann/sub/script.py:7).".into();
        let page = render(&report, None);
        assert!(
            page.contains("Round trips (sub&#x2f;script.py:7).") || page.contains("Round trips (sub/script.py:7).")
        );
    }

    #[test]
    fn names_cannot_act() {
        let attack = "</script><script>alert(1)</script><img onerror='x' \"{{ 7 * 7 }}\u{202e}\u{1b}[2J&amp;";
        let mut value = serde_json::to_value(sample()).unwrap();
        fn spoil(value: &mut serde_json::Value, with: &str) {
            match value {
                serde_json::Value::String(text) if text.parse::<Cause>().is_err() && !text.starts_with("avoid_") => {
                    *text = with.to_owned();
                }
                serde_json::Value::Array(values) => values.iter_mut().for_each(|value| spoil(value, with)),
                serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| spoil(value, with)),
                _ => {}
            }
        }
        spoil(&mut value, attack);
        let page = render(&serde_json::from_value(value).unwrap(), Some(&recording()));
        assert_eq!(page.matches("<script").count(), 2, "the data and timeline.js");
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<img") && !page.contains("onerror='") && !page.contains('\u{202e}'));
        assert!(!page.contains('\u{1b}') && !page.contains(" 49"));
        assert!(page.contains("\\u{202e}"));
    }

    #[test]
    fn tasks_stand_in_the_timeline() {
        let timeline = timeline(&sample(), Some(&recording()));
        assert_eq!(timeline.processes[0].tasks, [1_000_000, 1_001_000, 0, 3, 2_000_000, 2_001_000, 0, 3]);
        assert_eq!(timeline.names, ["work</script>"]);
        assert_eq!(timeline.processes[0].slices, [0, 3_000_000, 5, 3_000_000, 4_000_000, 0]);
    }

    #[test]
    fn of_too_many_tasks_the_longest_are_shown() {
        let mut recording = recording();
        let mut task = recording.processes[0].records[0];
        task.end = task.begin + 10;
        recording.processes[0].records.extend(std::iter::repeat_n(task, TASKS));
        let timeline = timeline(&sample(), Some(&recording));
        assert!(timeline.shortened);
        assert_eq!(timeline.processes[0].tasks.len(), 4 * TASKS);
        assert_eq!(timeline.processes[0].tasks[..2], [1_000_000, 1_001_000]);
    }

    #[test]
    fn an_empty_report_makes_a_page() {
        let mut report = sample();
        report.causes.clear();
        report.findings.clear();
        report.fixes.clear();
        report.curve.clear();
        report.processes.clear();
        report.charges = None;
        report.workload = None;
        report.remarks.clear();
        report.runs.clear();
        report.elapsed = 0.0;
        assert!(render(&report, Some(&Recording::default())).ends_with("</html>\n"));
    }
}

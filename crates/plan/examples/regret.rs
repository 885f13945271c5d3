//! The planner's regret in simulated time: workloads by numbers of cores, against what could have been had in hindsight.
//!
//! ```text
//! cargo run --release -p breakeven-plan --example regret [FOLDER]     writes FOLDER/regret-simulated.{md,svg}; default: docs
//! cargo run --release -p breakeven-plan --example regret -- --print   prints the table
//! ```
//!
//! No clock and no random numbers are involved, so the two files are the same on every machine; a test compares them.
#![allow(clippy::disallowed_methods, reason = "an example is a program: it has arguments and writes files")]

#[path = "../tests/support/workloads.rs"]
mod workloads;

use breakeven_plan::sim::map::{Items, Run, run};
use breakeven_plan::{Config, Kind};
use std::fmt::Write as _;

/// Cores of the simulated machines.
const CORES: [u32; 7] = [2, 4, 16, 64, 256, 1_000, 10_000];

/// One line of the table: a workload, and the runs by number of cores.
pub struct Row {
    name: &'static str,
    runs: Vec<Run>,
}

fn simulate(items: &Items, cores: u32) -> Run {
    let kinds = vec![Kind::Threads, Kind::Warm];
    run(items, Config { total: Some(items.costs.len() as u64), cores, kinds, ..Config::default() })
}

/// Every workload on every machine.
pub fn rows() -> Vec<Row> {
    workloads::all()
        .into_iter()
        .map(|(name, items)| Row { name, runs: CORES.iter().map(|cores| simulate(&items, *cores)).collect() })
        .collect()
}

/// The page.
pub fn page(rows: &[Row]) -> String {
    let mut out = String::from(
        "# Regret of the planner, simulated\n\nTime over the best in hindsight, by cores of the simulated machine: the \
         planner of `map` with the charges of `crates/plan/src/machine.rs`. The best in hindsight knows the cost of each \
         item, orders the best number of helpers at once, sends them the dearest items in one chunk each and divides the \
         work without a remainder; or it is the loop. Made by `cargo run \
         --release -p breakeven-plan --example regret`.\n\n![regret over cores](regret-simulated.svg)\n\n| workload | loop |",
    );
    for cores in CORES {
        let _ = write!(out, " {cores} |");
    }
    out.push_str("\n|---|--:|");
    out.push_str(&"--:|".repeat(CORES.len()));
    out.push('\n');
    for row in rows {
        let _ = write!(out, "| {} | {:.0} ms |", row.name, row.runs[0].serial * 1e3);
        for run in &row.runs {
            let _ = write!(out, " {:.2} |", run.regret());
        }
        out.push('\n');
    }
    let mut all: Vec<f64> = rows.iter().flat_map(|row| row.runs.iter().map(Run::regret)).collect();
    all.sort_by(f64::total_cmp);
    let worst_loop =
        rows.iter().flat_map(|row| &row.runs).map(|run| run.makespan - run.serial * 1.05).fold(f64::MIN, f64::max);
    let _ = writeln!(
        out,
        "\nMedian {:.2}, 90 % of the cells below {:.2}, worst {:.2}. Never more than the loop and 5 % and {:.2} ms.",
        all[all.len() / 2],
        all[all.len() * 9 / 10],
        all[all.len() - 1],
        worst_loop.max(0.0) * 1e3,
    );
    out
}

/// The plot: one line a workload.
pub fn plot(rows: &[Row]) -> String {
    let (width, height, left, bottom, right) = (720.0, 360.0, 44.0, 36.0, 150.0);
    let top = rows.iter().flat_map(|row| row.runs.iter().map(Run::regret)).fold(1.2, f64::max);
    let x = |index: usize| left + index as f64 / (CORES.len() - 1) as f64 * (width - left - right);
    let y = |regret: f64| 14.0 + (top.ln() - regret.max(1.0).ln()) / top.ln() * (height - bottom - 14.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"10\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for tick in [1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0].into_iter().filter(|tick| *tick <= top) {
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#e5e7eb\"/>\
             <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{tick}</text>",
            width - right,
            y(tick),
            left - 5.0,
            y(tick) + 3.0,
        );
    }
    for (index, cores) in CORES.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{cores}</text>",
            x(index),
            height - bottom + 16.0
        );
    }
    let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\">cores; regret upwards, logarithmic</text>", height - 4.0);
    for (number, row) in rows.iter().enumerate() {
        let colour = format!("hsl({} 65% 42%)", number * 360 / rows.len());
        let points: Vec<String> =
            row.runs.iter().enumerate().map(|(index, run)| format!("{:.1},{:.1}", x(index), y(run.regret()))).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            width - right + 10.0,
            20.0 + 15.0 * number as f64,
            row.name
        );
    }
    out.push_str("</svg>\n");
    out
}

#[allow(dead_code, reason = "the test that compares the files includes this one")]
fn main() -> std::io::Result<()> {
    let rows = rows();
    let first = std::env::args().nth(1);
    if first.as_deref() == Some("--print") {
        print!("{}", page(&rows));
        return Ok(());
    }
    let folder = std::path::PathBuf::from(first.unwrap_or_else(|| "docs".into()));
    std::fs::write(folder.join("regret-simulated.md"), page(&rows))?;
    std::fs::write(folder.join("regret-simulated.svg"), plot(&rows))
}

//! Prints what recordings say, a few lines each: `cargo run -p breakeven-trace --example explain -- FILE...`

use breakeven_trace::{Recording, analyze};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let report = analyze(&Recording::from_bytes(&std::fs::read(&path)?)?);
        println!("{path}: {:.2} s, {}: {}", report.elapsed, report.primary.cause, report.primary.headline);
        let shares: Vec<String> =
            report.causes.iter().take(7).map(|share| format!("{} {:.2}", share.cause, share.share)).collect();
        println!("  shares: {}", shares.join(", "));
        for finding in &report.findings {
            println!("  {} costs {:.3} s: {}", finding.cause, finding.costs_seconds.unwrap_or(0.0), finding.headline);
            finding.evidence.iter().skip(1).for_each(|line| println!("    {line}"));
        }
        for fix in &report.fixes {
            let place = fix.place.as_deref().unwrap_or("-");
            println!("  {:?} {:.2} s [{:.2}, {:.2}] {place}", fix.kind, fix.predicted_seconds, fix.low, fix.high);
        }
        report.remarks.iter().for_each(|remark| println!("  {remark}"));
    }
    Ok(())
}

//! The break-even curve as the numbers of an SVG drawing.

use serde::Serialize;

use crate::report::{FixKind, Report};

pub(super) const WIDTH: f64 = 720.0;
pub(super) const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// What page.html draws: coordinates, rounded, and the texts beside them.
#[derive(Debug, Serialize)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    bottom: f64,
    /// Outline of the interval.
    band: String,
    /// Line through what this machine's cores can do.
    within: String,
    /// Line beyond them; empty if there is none.
    beyond: String,
    points: Vec<Point>,
    across: Vec<Tick>,
    up: Vec<Tick>,
    /// Height of the line for the serial version, with its seconds.
    serial: Option<(f64, f64)>,
}

#[derive(Debug, Serialize)]
struct Point {
    x: f64,
    y: f64,
    workers: u32,
    seconds: f64,
    low: f64,
    high: f64,
    extrapolated: bool,
    as_it_ran: bool,
    least: bool,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: f64,
    text: String,
}

/// `None`: there is nothing to draw (fewer than two points, or numbers that are none).
pub(super) fn draw(report: &Report) -> Option<Drawing> {
    let finite = |point: &&crate::report::CurvePoint| {
        [point.seconds, point.low, point.high].iter().all(|value| value.is_finite() && *value >= 0.0)
            && point.workers > 0
    };
    let mut curve: Vec<_> = report.curve.iter().filter(finite).collect();
    curve.sort_by_key(|point| point.workers);
    curve.dedup_by_key(|point| point.workers);
    let (first, last) = (curve.first()?, curve.last()?);
    if curve.len() < 2 {
        return None;
    }
    let serial = report.fixes.iter().find(|fix| fix.kind == FixKind::Serial).map(|fix| fix.predicted_seconds);
    let serial = serial.filter(|seconds| seconds.is_finite() && *seconds > 0.0);

    // Many workers on a logarithmic axis; a few on a plain one, which people read better.
    let logarithmic = last.workers > 12;
    let scale = |workers: u32| if logarithmic { f64::from(workers).ln() } else { f64::from(workers) };
    let (from, to) = (scale(first.workers), scale(last.workers));
    // An interval that goes far up may leave the picture; the line may not.
    let tallest = curve.iter().map(|point| point.seconds.max(point.high.min(point.seconds * 2.0))).fold(0.0, f64::max);
    let (step, top) = nice(tallest.max(serial.unwrap_or_default()));
    let x = |workers: u32| round(LEFT + (scale(workers) - from) / (to - from) * (WIDTH - LEFT - RIGHT));
    let y = |seconds: f64| round(HEIGHT - BOTTOM - (seconds / top).min(1.0) * (HEIGHT - TOP - BOTTOM));

    let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        points.map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ")
    };
    let band = path(
        &mut curve
            .iter()
            .map(|point| (x(point.workers), y(point.high)))
            .chain(curve.iter().rev().map(|point| (x(point.workers), y(point.low)))),
    );
    let own = curve.iter().filter(|point| !point.extrapolated).count();
    let line = |points: &[&crate::report::CurvePoint]| {
        path(&mut points.iter().map(|point| (x(point.workers), y(point.seconds))))
    };
    let least = curve.iter().map(|point| point.seconds).fold(f64::INFINITY, f64::min);
    let mut least_is_marked = false;
    let points = curve
        .iter()
        .map(|point| {
            let is_least = !least_is_marked && point.seconds == least;
            least_is_marked |= is_least;
            Point {
                x: x(point.workers),
                y: y(point.seconds),
                workers: point.workers,
                seconds: point.seconds,
                low: point.low,
                high: point.high,
                extrapolated: point.extrapolated,
                as_it_ran: report.workload.is_some_and(|workload| workload.workers == point.workers),
                least: is_least,
            }
        })
        .collect();
    let mut across: Vec<Tick> = Vec::new();
    for point in &curve {
        let at = x(point.workers);
        if across.last().is_none_or(|tick| at - tick.at >= 28.0) {
            across.push(Tick { at, text: point.workers.to_string() });
        }
    }
    let up = (0..=(top / step).round() as u32)
        .map(|n| Tick { at: y(f64::from(n) * step), text: super::words::seconds(f64::from(n) * step) })
        .collect();
    Some(Drawing {
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right: WIDTH - RIGHT,
        bottom: HEIGHT - BOTTOM,
        band,
        within: line(&curve[..own]),
        beyond: if own < curve.len() { line(&curve[own.saturating_sub(1)..]) } else { String::new() },
        points,
        across,
        up,
        serial: serial.map(|seconds| (y(seconds), seconds)),
    })
}

/// A step of 1, 2 or 5 times a power of ten, and the multiple of it, 3 to 6 steps, that is not below `value`.
fn nice(value: f64) -> (f64, f64) {
    if !value.is_finite() || value <= 0.0 {
        return (1.0, 1.0);
    }
    let rough = value / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0) * power;
    (step, (value / step).ceil() * step)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::html::tests::sample;

    #[test]
    fn steps_are_round_and_reach_the_value() {
        for value in [1e-9, 0.003, 0.99, 1.0, 7.3, 10.0, 12345.0] {
            let (step, top) = nice(value);
            assert!(top >= value && top < value + step * 1.001, "{value}: {step} {top}");
            assert!((2.0..=5.0).contains(&(top / step).round()), "{value}: {step} {top}");
        }
        assert_eq!(nice(0.0), (1.0, 1.0));
        assert_eq!(nice(f64::NAN), (1.0, 1.0));
    }

    #[test]
    fn faster_is_lower_and_more_workers_are_right() {
        let drawing = draw(&sample()).unwrap();
        for pair in drawing.points.windows(2) {
            assert!(pair[0].x < pair[1].x);
            assert_eq!(pair[0].y < pair[1].y, pair[0].seconds > pair[1].seconds); // down is up in SVG
        }
        let marks: Vec<_> = drawing.points.iter().map(|point| (point.as_it_ran, point.least)).collect();
        assert_eq!(marks, [(false, false), (true, true), (false, false), (false, false)]);
        assert_eq!(drawing.within.split(' ').count(), 2);
        assert_eq!(drawing.beyond.split(' ').count(), 3, "it begins where the other ends");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let mut report = sample();
        report.curve.truncate(1);
        assert!(draw(&report).is_none());
        report = sample();
        for point in &mut report.curve {
            point.seconds = f64::NAN;
        }
        assert!(draw(&report).is_none());
    }

    #[test]
    fn everything_lies_within_the_picture() {
        let mut report = sample();
        report.curve[0].high = 1e9;
        report.curve[3].workers = 10_000;
        report.fixes[0].kind = FixKind::Serial;
        report.fixes[0].predicted_seconds = 50.0;
        let drawing = draw(&report).unwrap();
        assert!(drawing.points.iter().all(|p| (LEFT..=WIDTH).contains(&p.x) && (0.0..=HEIGHT).contains(&p.y)));
        assert!(drawing.serial.is_some_and(|(y, _)| y >= TOP));
    }
}

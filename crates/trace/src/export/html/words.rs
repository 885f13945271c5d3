//! How the page puts numbers. `python/breakeven/_why/words.py` does the same for the terminal.

/// The machine's charges: field of [`crate::recording::Charges`], what it is.
pub(super) const CHARGES: [(&str, &str); 18] = [
    ("fork", "a process by fork: start and join"),
    ("forkserver", "the same by forkserver, the server being up"),
    ("spawn", "the same by spawn"),
    ("thread", "a thread: start and join"),
    ("message", "a small message through a SimpleQueue, CPU of both sides"),
    ("queue_message", "the same through a Queue with its feeder thread"),
    ("pipe_byte", "a byte through a pipe, CPU of both sides"),
    ("pickle_byte", "pickling and unpickling a byte of a large object"),
    ("pool_task", "a task through Pool.imap with chunksize 1"),
    ("executor_task", "a task through a ProcessPoolExecutor"),
    ("wake", "from waking a sleeping process until it runs"),
    ("page_fault", "the first touch of a fresh page"),
    ("manager_call", "a round trip to a manager"),
    ("lock", "acquiring and releasing a free Lock"),
    ("lock_shared", "the same where two processes do so all the time, CPU"),
    ("interpreter", "an interpreter that imports multiprocessing and ends"),
    ("page_copy", "the first write to a page that a forked child shares"),
    ("page_free", "giving a page back"),
];

/// Three digits of a number, no exponent.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 9.995 => format!("{value:.2}"),
        middle if middle < 99.95 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// Seconds in the unit that fits.
pub(super) fn seconds(value: f64) -> String {
    let (factor, unit) = match value.abs() {
        v if v < 1e-9 => (1e12, "ps"),
        v if v < 1e-6 => (1e9, "ns"),
        v if v < 1e-3 => (1e6, "us"),
        v if v < 1.0 => (1e3, "ms"),
        v if v < 600.0 => (1.0, "s"),
        _ => (1.0 / 60.0, "min"),
    };
    if value == 0.0 { "0 s".into() } else { format!("{} {unit}", digits(value * factor)) }
}

/// Bytes in the unit that fits.
pub(super) fn size(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "kB", "MB", "GB"] {
        if value.abs() < 999.5 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{} {unit}", digits(value)) };
        }
        value /= 1000.0;
    }
    format!("{} TB", digits(value))
}

/// A whole number with commas.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && digits.is_ascii() && value.is_finite() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share, as percent.
pub(super) fn percent(value: f64) -> String {
    if value > 0.0 && value < 0.0005 {
        "< 0.1 %".into()
    } else if value < 0.0995 {
        format!("{:.1} %", value * 100.0)
    } else {
        format!("{:.0} %", value * 100.0)
    }
}

/// How many times faster.
pub(super) fn speedup(value: f64) -> String {
    format!("{}×", digits(value))
}

/// How a program ended; nothing for one that ended well.
pub(super) fn ending(code: i64) -> String {
    const SIGNALS: [(i64, &str); 12] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ];
    match code {
        0 => String::new(),
        1.. => format!("exit code {code}"),
        _ => match SIGNALS.iter().find(|(number, _)| -code == *number) {
            Some((_, name)) => (*name).into(),
            None => format!("signal {}", -code),
        },
    }
}

/// A path as one would type it in `directory`, if it lies below.
pub(super) fn short<'a>(path: &'a str, directory: &str) -> &'a str {
    let directory = directory.trim_end_matches('/');
    match path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !directory.is_empty() => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_that_fits() {
        let cases = [(0.0, "0 s"), (6.5e-10, "650 ps"), (4.2e-4, "420 us"), (12.34, "12.3 s"), (3600.0, "60.0 min")];
        for (value, expected) in cases {
            assert_eq!(seconds(value), expected);
        }
        for (value, expected) in [(0.0, "0 B"), (999.0, "999 B"), (2.1e8, "210 MB"), (5e15, "5,000 TB")] {
            assert_eq!(size(value), expected);
        }
        for (value, expected) in [(0.0, "0"), (999.0, "999"), (1234567.0, "1,234,567"), (-1000.0, "-1,000")] {
            assert_eq!(thousands(value), expected);
        }
        for (value, expected) in [(0.0, "0.0 %"), (1e-9, "< 0.1 %"), (0.0123, "1.2 %"), (1.0, "100 %")] {
            assert_eq!(percent(value), expected);
        }
    }

    #[test]
    fn what_is_not_finite_does_no_harm() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let _ = (seconds(value), size(value), thousands(value), percent(value), speedup(value));
        }
    }

    #[test]
    fn paths_are_short_below_the_folder_only() {
        for (path, directory, expected) in [
            ("/a/b/c.py", "/a/b", "c.py"),
            ("/a/b/c.py", "/a/b/", "c.py"),
            ("/a/bc.py", "/a/b", "/a/bc.py"),
            ("/c.py", "/", "/c.py"),
            ("c.py", "", "c.py"),
        ] {
            assert_eq!(short(path, directory), expected);
        }
    }

    #[test]
    fn every_charge_has_words() {
        let charges = serde_json::to_value(super::super::tests::sample().charges).unwrap();
        let mut named: Vec<&str> = CHARGES.iter().map(|(name, _)| *name).collect();
        named.sort_unstable();
        let mut fields: Vec<&String> = charges.as_object().unwrap().keys().collect();
        fields.sort_unstable();
        assert_eq!(fields, named);
    }
}

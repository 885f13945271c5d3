//! Models that must fail. Loom ends a failed execution by panicking wherever its threads are, and
//! often aborts the process; so each such model runs in a process of its own.

/// Runs `model` in a process of its own and checks that it fails with `expected`. `test` is the
/// name of the calling test.
#[allow(clippy::disallowed_methods, reason = "a test: it tells its own process inside from outside")]
pub fn must_fail(test: &str, expected: &str, model: impl FnOnce()) {
    const INSIDE: &str = "BREAKEVEN_MODEL_INSIDE";
    if std::env::var(INSIDE).is_ok() {
        return model();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{test}: the model did not find the fault");
    assert!(text.contains(expected), "{test}: it failed otherwise:\n{text}");
}

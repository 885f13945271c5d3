#!/usr/bin/env bash
# test_rust.sh: all tests of the crates. With cargo-nextest (a process and a time limit for each test) where it is
# installed, else with cargo test.
source "$(dirname "$0")/common.sh"
use_venv_for_cargo

# The tests of crates/python start an interpreter; one that is built as a shared library must be found by the loader.
LD_LIBRARY_PATH=$("$PYO3_PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

# shellcheck disable=SC2086  # CARGO_TEST_ARGS is meant to be split
if cargo nextest --version >/dev/null 2>&1; then
    say "cargo nextest"
    cargo nextest run --workspace --no-fail-fast ${CARGO_TEST_ARGS:-}
    say "doc tests"
    cargo test --workspace --doc --quiet
else
    say "cargo test (cargo-nextest is not installed: no time limit for each test)"
    cargo test --workspace --no-fail-fast ${CARGO_TEST_ARGS:-}
fi

#!/usr/bin/env bash
# lint.sh [--fix]: everything that is checked without running the code. All checks run; it fails at the end if one did.
source "$(dirname "$0")/common.sh"
use_venv_for_cargo

# rich is the one library whose types mypy has to see; on a clean clone nothing of ours is installed yet.
"$VENV/bin/ruff" --version >/dev/null 2>&1 && "$VENV/bin/mypy" --version >/dev/null 2>&1 &&
    "$VENV/bin/python" -c 'import rich' >/dev/null 2>&1 ||
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check 'mypy>=1.11' 'ruff>=0.6' 'rich>=13'
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

if [ "${1:-}" = --fix ]; then
    cargo fmt --all
    "$VENV/bin/ruff" check --quiet --fix . || true # what it cannot mend, lint will tell
    "$VENV/bin/ruff" format --quiet .
    exit
fi

failed=()
check() {
    local name=$1
    shift
    say "$name"
    "$@" || failed+=("$name")
}

check "cargo fmt" cargo fmt --all --check
# Twice: what clippy.toml forbids (locks, clocks, the environment) binds the libraries, and is what tests are made of.
tests_may=(--allow clippy::disallowed_types --allow clippy::disallowed_methods)
check "clippy, libraries" cargo clippy --workspace --lib --quiet -- --deny warnings
check "clippy, all" cargo clippy --workspace --all-targets --quiet -- --deny warnings "${tests_may[@]}"
check "ruff check" "$VENV/bin/ruff" check .
check "ruff format" "$VENV/bin/ruff" format --check .
check "mypy" "$VENV/bin/mypy"
check "layers" "$VENV/bin/python" scripts/check_layers.py

say "lint: ${failed[*]:+failed: }${failed[*]:-all checks passed}"
[ ${#failed[@]} -eq 0 ]

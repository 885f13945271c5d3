#!/usr/bin/env bash
# pytest.sh DIR [ARGS]: the Python tests with the interpreter of the virtual environment DIR, under a time limit as a whole.
source "$(dirname "$0")/common.sh"

dir=$1
shift
# Each test has its own limit (pyproject.toml), by a signal that Python must be awake to handle. This is for what does
# not wake: SIGABRT makes faulthandler print the stack of every thread before the end.
limit=${PYTEST_LIMIT:-1500}
foreground=()
[ -t 0 ] && foreground=(--foreground) # else Ctrl-C at a terminal would not reach the tests

say "pytest with $("$dir/bin/python" --version)"
# shellcheck disable=SC2086  # PYTEST_ARGS is meant to be split
exec timeout "${foreground[@]}" --signal=ABRT --kill-after=30 "$limit" \
    "$dir/bin/python" -X faulthandler -m pytest ${PYTEST_ARGS:-} "$@"

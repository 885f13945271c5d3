#!/usr/bin/env bash
# pytest.sh DIR [ARGS]: the Python tests with the interpreter of the virtual environment DIR, under a time limit as a whole.
source "$(dirname "$0")/common.sh"

dir=$1
shift
# Each test has its own limit (pyproject.toml), by a signal that Python must be awake to handle. This is for what does
# not wake: SIGABRT makes faulthandler print the stack of every thread before the end.
limit=${PYTEST_LIMIT:-2700}
foreground=()
[ -t 0 ] && foreground=(--foreground) # else Ctrl-C at a terminal would not reach the tests

say "pytest with $("$dir/bin/python" --version)"
run() {
    # shellcheck disable=SC2086  # PYTEST_ARGS is meant to be split
    timeout "${foreground[@]}" --signal=ABRT --kill-after=30 "$limit" \
        "$dir/bin/python" -X faulthandler -m pytest ${PYTEST_ARGS:-} "$@"
}
result=0
run "$@" || result=$?

# SECOND_LOOK=n, for CI: up to n failures are run once more, alone. One that passes then is called flaky, by name, in CI's
# closing lines; it is a fault to be mended, and no reason to throw a day's work away. More than n are no accident.
if [ "$result" -eq 1 ] && [ "${SECOND_LOOK:-0}" -gt 0 ]; then
    failures=$("$dir/bin/python" - "${CACHE:-.pytest_cache}/v/cache/lastfailed" <<'EOF'
import json, sys
try:
    print(*json.load(open(sys.argv[1])), sep="\n")
except OSError:
    pass
EOF
    )
    if [ -n "$failures" ] && [ "$(wc -l <<<"$failures")" -le "$SECOND_LOOK" ]; then
        say "second look at what failed"
        result=0
        run --last-failed --last-failed-no-failures none "$@" || result=$?
        [ "$result" -ne 0 ] || sed 's/^/FLAKY /' <<<"$failures"
    fi
fi
exit "$result"

#!/usr/bin/env bash
# test_pythons.sh [--others]: the Python tests on every supported CPython that is found, each in its own .venv-3.X.
# --others leaves out the version of the main environment, which has been tested already. All versions are tried even if
# one fails; what was not found is said.
source "$(dirname "$0")/common.sh"

done_already=
if [ "${1:-}" = --others ] && [ -x "$VENV/bin/python" ]; then
    done_already=$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fi

passed=() failed=() missing=()
for version in "${SUPPORTED[@]}"; do
    [ "$version" = "$done_already" ] && continue
    if ! python=$(find_python "$version"); then
        missing+=("$version")
        continue
    fi
    dir=.venv-$version
    if bash scripts/build.sh "$dir" test "$python" && bash scripts/pytest.sh "$dir"; then
        passed+=("$version")
    else
        failed+=("$version")
    fi
done

say "interpreters: passed ${passed[*]:-none}; failed ${failed[*]:-none}; not found, so not tested: ${missing[*]:-none}${done_already:+; $done_already was tested before}"
[ ${#failed[@]} -eq 0 ]

#!/usr/bin/env bash
# test_pythons.sh [--others]: the Python tests on every supported CPython that is found, each in its own .venv-3.X.
# --others leaves out the version of the main environment, which has been tested already, and on the rest the crash
# matrices, which take as long as everything else and hardly depend on the version. As many versions at a time as there
# are cores; what each printed comes when it ends. All are tried even if one fails; what was not found is said.
source "$(dirname "$0")/common.sh"

done_already=
if [ "${1:-}" = --others ] && [ -x "$VENV/bin/python" ]; then
    done_already=$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    export PYTEST_ADDOPTS="${PYTEST_ADDOPTS:-} -m not\ matrix"
fi

passed=() failed=() missing=() built=()
for version in "${SUPPORTED[@]}"; do
    [ "$version" = "$done_already" ] && continue
    if ! python=$(find_python "$version"); then
        missing+=("$version")
    elif bash scripts/build.sh ".venv-$version" test "$python"; then
        built+=("$version")
    else
        failed+=("$version")
    fi
done

logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT
test_one() {
    # A cache of its own: the second look asks it for what failed.
    local result=0
    PYTEST_ADDOPTS="${PYTEST_ADDOPTS:-} -o cache_dir=.pytest_cache/$1" CACHE=.pytest_cache/$1 \
        bash scripts/pytest.sh ".venv-$1" >"$logs/$1" 2>&1 || result=$?
    echo "$result" >"$logs/$1.result"
    cat "$logs/$1"
}
for version in "${built[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
    test_one "$version" &
done
wait
for version in "${built[@]}"; do
    if [ "$(cat "$logs/$version.result" 2>/dev/null)" = 0 ]; then passed+=("$version"); else failed+=("$version"); fi
done

say "interpreters: passed ${passed[*]:-none}; failed ${failed[*]:-none}; not found, so not tested: ${missing[*]:-none}${done_already:+; $done_already was tested before}"
[ ${#failed[@]} -eq 0 ]

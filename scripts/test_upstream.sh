#!/usr/bin/env bash
# test_upstream.sh [--all]: CPython's own tests of multiprocessing and concurrent.futures against breakeven, on every
# supported CPython that is found; tests/upstream/__init__.py says how. --all runs every way in and start method.
source "$(dirname "$0")/common.sh"

main_version=$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
pythons=() missing=()
for version in "${SUPPORTED[@]}"; do
    if [ "$version" = "$main_version" ]; then
        pythons+=(--python "$VENV/bin/python")
    elif python=$(find_python "$version"); then
        # Made by test_pythons.sh just before, in `make test`.
        "$ROOT/.venv-$version/bin/python" -c 'import breakeven' >/dev/null 2>&1 ||
            bash scripts/build.sh ".venv-$version" test "$python"
        pythons+=(--python ".venv-$version/bin/python")
    else
        missing+=("$version")
    fi
done

# Some builds of CPython leave parts of the test package out. Debian packages the whole of it for its own version; the
# files are unpacked here, not installed. Where that cannot be had, the run says what was not run.
complete_tests() {
    local version=$1 python=$2 folder=target/upstream-tests/$1 part
    "$python" -c 'import test.test_concurrent_futures' >/dev/null 2>&1 && return
    [ -d "$folder" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    part=$(mktemp -d)
    if (cd "$part" && apt-get download "libpython$version-testsuite" && dpkg-deb -x ./*.deb .) >/dev/null 2>&1; then
        mkdir -p "$folder"
        cp -r "$part/usr/lib/python$version/test/"test_concurrent_futures* "$folder"
    fi
    rm -rf "$part"
}
complete_tests "$main_version" "$VENV/bin/python"

say "CPython's own tests; interpreters not found, so not tested: ${missing[*]:-none}"
exec "$VENV/bin/python" -m tests.upstream "${pythons[@]}" "$@"

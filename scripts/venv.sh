#!/usr/bin/env bash
# venv.sh DIR [PYTHON]: make the virtual environment DIR, with maturin in it, unless it is there and works.
source "$(dirname "$0")/common.sh"

dir=$1
if ! "$dir/bin/python" -c 'import pip' >/dev/null 2>&1; then
    python=${2:-}
    [ -n "$python" ] || python=$(main_python)
    say "$dir with $("$python" --version)"
    rm -rf "$dir"
    "$python" -m venv "$dir"
fi
if ! "$dir/bin/maturin" --version >/dev/null 2>&1; then
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.16,<2'
fi

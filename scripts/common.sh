# Sourced by the other scripts: where things are, and which Python to take.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=${VENV:-.venv}
SUPPORTED=(3.10 3.11 3.12 3.13)

say() { printf '\n== %s\n' "$*"; }

# Is "$1" a CPython $2 (any supported version, if $2 is empty) that can make virtual environments? It is run to find out:
# pyenv's shims are on PATH for versions that are not switched on, and Debian ships Pythons without venv.
usable_python() {
    "$1" -c '
import sys, sysconfig, platform
import ensurepip, venv
version = "%d.%d" % sys.version_info[:2]
wanted = sys.argv[1].split()
sys.exit(not (platform.python_implementation() == "CPython" and version in wanted
              and not sysconfig.get_config_var("Py_GIL_DISABLED")))
' "${2:-${SUPPORTED[*]}}" >/dev/null 2>&1
}

# Print the path of a CPython $1 (as 3.11), or nothing, and fail, where there is none.
find_python() {
    local candidate
    while read -r candidate; do
        if [ -x "$candidate" ] && usable_python "$candidate" "$1"; then
            echo "$candidate"
            return 0
        fi
    done < <(
        type -ap "python$1" || true
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/"python$1" 2>/dev/null | sort -rV || true
        type -ap python3 || true
    )
    return 1
}

# Print the interpreter for the main environment: $PYTHON, else 3.11 (what the benchmarks were made with), else the newest.
main_python() {
    local version
    if [ -n "${PYTHON:-}" ]; then
        usable_python "$PYTHON" || { echo "PYTHON=$PYTHON is not a CPython of ${SUPPORTED[*]} with venv" >&2; return 1; }
        echo "$PYTHON"
        return
    fi
    for version in 3.11 3.13 3.12 3.10; do
        find_python "$version" && return
    done
    echo "no CPython of ${SUPPORTED[*]} with venv and pip was found; name one with PYTHON=" >&2
    return 1
}

# Cargo's PyO3 build takes this interpreter; the same one for all commands, or PyO3 is built anew at each change.
use_venv_for_cargo() {
    PYO3_PYTHON=$ROOT/$VENV/bin/python
    export PYO3_PYTHON
}

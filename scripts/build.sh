#!/usr/bin/env bash
# build.sh DIR EXTRAS [PYTHON]: the virtual environment DIR with our dependencies, those of the EXTRAS of pyproject.toml
# (comma-separated), and the native module, optimised, installed editable.
source "$(dirname "$0")/common.sh"

dir=$1 extras=$2
bash scripts/venv.sh "$dir" "${3:-}"

say "native module for $("$dir/bin/python" --version)"
# maturin finds the interpreter by VIRTUAL_ENV; a conda or PYTHONHOME of the caller's would mislead it.
env -u CONDA_PREFIX -u PYTHONHOME VIRTUAL_ENV="$ROOT/$dir" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1 \
    "$dir/bin/maturin" develop --release --extras "$extras"
# As an installed wheel has it; else, where writing bytecode is switched off, every process would compile all of it anew.
"$dir/bin/python" -m compileall -q python/breakeven

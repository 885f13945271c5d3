"""What a result has to carry so that somebody else can judge it: machine, interpreter, commit, date, build."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _first(path: str, key: str) -> str | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return None


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment() -> dict[str, str]:
    """What every sample runs under, the same for all.

    The built package is found by its path: the peers live in an environment of their own, where it is not installed.
    """
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "python"), *filter(None, [env.get("PYTHONPATH")])])
    # Installed packages come compiled; a checkout whose bytecode may not be kept would be compiled in every process.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    # A BLAS that starts as many threads as there are cores in each of 16 processes measures itself.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = "1"
    return env


def native_build() -> dict[str, object] | str:
    """build_info() of the native module: a debug build must be visible in a result. A sentence where there is none."""
    code = "import json; from breakeven import _native; print(json.dumps(_native.build_info()))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return "none: " + (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return json.loads(done.stdout)


def describe() -> dict[str, object]:
    """All of it, as JSON-ready values."""
    memory = _first("/proc/meminfo", "MemTotal")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    # The benchmark writes these two itself, so they say nothing about what was measured.
    own = ("docs/benchmarks.json", "docs/benchmarks.md")
    dirty = [line for line in (changed or "").splitlines() if not line.endswith(own)]
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory.split()[0]) // 1024 if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": Path(sys.executable).name,
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_files": len(dirty),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load_at_start": round(os.getloadavg()[0], 2),
        "native": native_build(),
    }

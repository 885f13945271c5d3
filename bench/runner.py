"""Runs samples in turns, each in a process group of its own with a time limit, and collects a result that report.py
reads."""

from __future__ import annotations

import compileall
import contextlib
import importlib.metadata
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import machine, order
from bench.workloads import WORKLOADS, Workload

SCHEMA = 1
# Everybody in every round; the others stop after PEER_ROUNDS, because what counts is the ratio of the first two.
PRINCIPALS = ("stdlib", "breakeven", "serial loop")
PEER_ROUNDS = 3


def rival_state(rival: Any) -> dict[str, str]:
    """{"version": ...} of an installed rival, {"missing": reason} of another."""
    if rival.distribution is None:
        return {"version": f"Python {sys.version.split()[0]}"}
    # The transport's own import name, which is not always the distribution's.
    module = {"faster-fifo": "faster_fifo", "Pebble": "pebble"}.get(rival.distribution, rival.distribution)
    # In a process of its own: an extension that crashes when it is loaded must not take the run with it.
    tried = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        capture_output=True,
        text=True,
        env=machine.environment(),
        cwd=machine.ROOT,
        timeout=60,
    )
    if tried.returncode:
        return {"missing": (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]}
    try:
        return {"version": importlib.metadata.version(rival.distribution)}
    except importlib.metadata.PackageNotFoundError:
        return {"version": "of this checkout"}


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used so far, as far as the kernel shows them."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of the samples that have ended, and all that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_sample(workload: Workload, rival: str, quick: bool) -> dict[str, Any]:
    """One sample: {"metrics": ...}, {"not_offered": reason} or {"error": text}; and the seconds it took in all,
    and how many cores others used meanwhile."""
    limit = workload.limit
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        out = os.path.join(place, "answer.json")
        request = json.dumps({"workload": workload.id, "rival": rival, "quick": quick, "out": out})
        began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
        with open(os.path.join(place, "output"), "w+b") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.sample", request],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=machine.environment(),
                cwd=machine.ROOT,
                start_new_session=True,
            )
            handle = os.pidfd_open(process.pid)
            try:
                waiter = select.poll()
                waiter.register(handle, select.POLLIN)
                in_time = bool(waiter.poll(limit * 1000))
            finally:
                # Whatever it left, while its own process, not yet reaped, still holds the number of the group.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                os.close(handle)
                process.wait()
            output.seek(0)
            said = output.read()[-2000:].decode(errors="replace")
        seconds = round(time.monotonic() - began, 3)
        # Who else was at work, in cores: what a figure is worth depends on it.
        others = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / seconds
        answer: dict[str, Any]
        try:
            with open(out) as file:
                answer = json.load(file)
        except (OSError, ValueError):
            answer = {"error": f"ended with status {process.returncode} and no answer\n{said}"}
        if not in_time:
            answer = {"error": f"still running after {limit:g} s; killed\n{said}"}
    return answer | {"seconds": seconds, "others": round(others, 2)}


def select_workloads(only: str | None) -> list[Workload]:
    """Those whose id the regular expression finds; all without one."""
    return [work for work in WORKLOADS.values() if only is None or re.search(only, work.id)]


def run(
    *,
    only: str | None = None,
    rivals: Sequence[str] | None = None,
    rounds: int = 5,
    peer_rounds: int = PEER_ROUNDS,
    quick: bool = False,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    command: str = "",
) -> dict[str, Any]:
    """Measures and returns the whole result, JSON-ready.

    only: regular expression over workload ids. rivals: names to take part, None for all. rounds: how often each of the
    principal rivals runs each workload; peers run at most `peer_rounds` times. quick: tiny sizes, to see that it works.
    """
    chosen = select_workloads(only)
    compileall.compile_dir(machine.ROOT / "python", quiet=2)
    states: dict[str, dict[str, str]] = {}
    for work in chosen:
        for name, rival in work.registry().items():
            if name in work.rivals and name not in states and (rivals is None or name in rivals):
                states[name] = rival_state(rival) | {"note": rival.note}
                if "missing" in states[name]:
                    tell(f"left out: {name}: {states[name]['missing']}")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine.describe(),
        "options": {"rounds": rounds, "peer_rounds": peer_rounds, "quick": quick, "only": only, "command": command},
        "rivals": states,
        "workloads": {},
        "samples": [],
    }
    began = time.monotonic()
    for work in chosen:
        result["workloads"][work.id] = {
            "title": work.title,
            "how": work.how,
            "metric": work.metric,
            "unit": work.unit,
            "better": work.better,
        }
        present = [name for name in work.rivals if name in states and "version" in states[name]]
        turns = {name: min(work.rounds, rounds if name in PRINCIPALS else min(rounds, peer_rounds)) for name in present}
        out: set[str] = set()
        for number, name in order.interleave(present, turns):
            if name in out:
                continue
            answer = run_sample(work, name, quick)
            result["samples"].append({"workload": work.id, "rival": name, "round": number} | answer)
            if "metrics" in answer:
                tell(
                    f"{work.id:22} {name:20} {number}  {answer['metrics'][work.metric]:14.6g} {work.unit}"
                    f"  ({answer['seconds']:.1f} s, others {answer['others']:.1f} cores)"
                )
            else:
                why = answer.get("not_offered") or answer["error"]
                tell(f"{work.id:22} {name:20} {number}  failed: {why.strip().splitlines()[-1][:150]}")
                # Once more would only take the time limit once more; our own failures are worth a second look.
                if name not in PRINCIPALS or "not_offered" in answer:
                    out.add(name)
    result["seconds"] = round(time.monotonic() - began, 1)
    result["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    return result

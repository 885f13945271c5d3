"""What a process holds: children, descriptors, mapped memory files, threads; and the difference between two moments."""

import gc
import os
import re
import sys
import threading
import time
from multiprocessing import forkserver, resource_tracker


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _helpers():
    """Processes and descriptors of helpers that are started once and kept: the standard library's, and our template."""
    tracker, server = resource_tracker._resource_tracker, forkserver._forkserver
    pids = {getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None)} - {None}
    fds = {getattr(tracker, "_fd", None), getattr(server, "_forkserver_alive_fd", None)} - {None}
    warm = sys.modules.get("breakeven._warm")
    if warm is not None:
        fds |= warm.descriptors()
    return pids, fds


def _children():
    pids, _ = _helpers()
    found = {}
    for task in os.listdir("/proc/self/task"):
        for pid in map(int, _read(f"/proc/self/task/{task}/children").split()):
            if pid not in pids:
                found[pid] = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip() or "(zombie)"
    return found


def _fds():
    _, own = _helpers()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in own:
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
        if not _KEPT.search(target):
            found[fd] = target
    return found


# The standard library's heap of ctypes objects grows by such files and keeps them; a native module that was built anew
# while the tests run shows up as deleted.
_KEPT = re.compile(r"^/(?:dev/shm|tmp|root/tmp).*/pym-|\.so \(deleted\)$")


def _segments():
    found = {}
    for line in _read("/proc/self/maps").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and (fields[5].startswith(("/memfd:", "/dev/shm/")) or "(deleted)" in fields[5]):
            if not _KEPT.search(fields[5]):
                found[fields[4]] = fields[5]
    return found


def snapshot():
    helpers = sys.modules.get("breakeven._map_helpers")
    if helpers is not None:
        helpers.end_all()  # those that maps keep for the next one
    return {
        "child": _children(),
        "descriptor": _fds(),
        "segment": _segments(),
        "thread": {thread.ident: thread.name for thread in threading.enumerate()},
    }


def difference(before, after):
    left = []
    for kind, now in after.items():
        for key, what in now.items():
            if before[kind].get(key) != what and not (kind == "child" and key in before[kind]):
                left.append(f"{kind} {key}: {what}")
    return left


def wait_until_clean(before, patience=5.0):
    """What is there now and was not before; up to `patience` seconds are given to what is just going."""
    deadline = time.monotonic() + patience
    while True:
        gc.collect()
        left = difference(before, snapshot())
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)

"""How many cores this process may really use."""

from __future__ import annotations

import os

__all__ = ["usable_cores"]


def _quota_v2():
    with open("/proc/self/cgroup") as lines:
        path = next((line.split(":", 2)[2].strip() for line in lines if line.startswith("0::")), None)
    if path is None:
        return None
    best = None
    # Every ancestor may set a quota of its own, and the smallest rules.
    while True:
        try:
            with open(f"/sys/fs/cgroup{path.rstrip('/')}/cpu.max") as file:
                # An empty file has been seen in the wild (loky issue 479).
                fields = file.read().split()
        except OSError:
            fields = []
        if len(fields) == 2 and fields[0] != "max" and float(fields[1]) > 0:
            quota = float(fields[0]) / float(fields[1])
            best = quota if best is None else min(best, quota)
        if path in ("", "/"):
            return best
        path = path.rsplit("/", 1)[0] or "/"


def _quota_v1():
    with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
        quota = int(file.read())
    with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
        period = int(file.read())
    return quota / period if quota > 0 and period > 0 else None


def usable_cores() -> int:
    """Cores by affinity and by cgroup quota (rounded up), at least 1; `os.cpu_count()` knows neither."""
    process_count = getattr(os, "process_cpu_count", None)  # 3.13: affinity, and what -X cpu_count overrides
    cores = (process_count() if process_count is not None else len(os.sched_getaffinity(0))) or 1
    for read in (_quota_v2, _quota_v1):
        try:
            quota = read()
        except (OSError, ValueError):
            continue
        if quota is not None:
            cores = min(cores, -int(-quota // 1))
            break
    return max(1, cores)

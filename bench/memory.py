"""How much memory a tree of processes holds, with what they share counted once."""

from __future__ import annotations

import os
import threading
import time


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            pass
    return found


def tree(pid: int) -> list[int]:
    """`pid` and all that descend from it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += _children(found[-1])
    return found


def _rollup(pid: int) -> dict[str, int]:
    """Pss, Pss_Anon, Pss_File, Pss_Shmem of one process in bytes; empty when it has gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return {}
    return {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in lines)
        if name.startswith("Pss")
    }


def _shared_files(pid: int) -> dict[tuple[int, int], int]:
    """Bytes that the kernel holds for each memfd or /dev/shm file this process has open, by (device, inode)."""
    found = {}
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return {}
    for descriptor in descriptors:
        path = f"/proc/{pid}/fd/{descriptor}"
        try:
            target = os.readlink(path)
            if target.startswith(("/memfd:", "/dev/shm/")):
                status = os.stat(path)
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
        except OSError:
            pass
    return found


class Watch:
    """Looks at the tree below `root` every few milliseconds, from a thread, while used as a context manager.

    The sum of PSS counts a page that k processes have mapped as 1/k in each, so as one in all. It misses pages of a
    shared file that nobody has mapped just now (allocated ahead, or recycled and waiting), which are memory all the
    same. `peak` therefore takes, for the shared part, the larger of the PSS and of what the kernel holds for those
    files.
    """

    def __init__(self, root: int, interval: float = 0.004) -> None:
        self.root, self.interval = root, interval
        self.peak = self.peak_pss = self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def sample(self) -> int:
        """Looks once; returns the bytes held now and keeps the highest."""
        private = shared = total = 0
        files: dict[tuple[int, int], int] = {}
        for pid in tree(self.root):
            parts = _rollup(pid)
            total += parts.get("Pss", 0)
            private += parts.get("Pss_Anon", 0) + parts.get("Pss_File", 0)
            shared += parts.get("Pss_Shmem", 0)
            files.update(_shared_files(pid))
        held = private + max(shared, sum(files.values()))
        self.peak, self.peak_pss, self.looks = max(self.peak, held), max(self.peak_pss, total), self.looks + 1
        return held

    def _run(self) -> None:
        while not self._stop.is_set():
            self.sample()
            time.sleep(self.interval)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

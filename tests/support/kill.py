"""Killing processes at random moments, and records that survive it."""

import os
import random
import signal
import struct
import time

_RECORD = struct.Struct("<qq")


class Journal:
    """A file of number pairs that a process can be killed while writing: each pair is one write, whole or not there."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._fd = None

    def write(self, first, second):
        if self._fd is None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._fd, _RECORD.pack(first, second))

    def read(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            data = file.read()
        return list(_RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]))


def is_running(pid):
    """Does this process exist, other than as a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def at_random_moments(processes, seed, within):
    """SIGKILL each of `processes`, at times that `seed` decides, spread over `within` seconds."""
    chance = random.Random(seed)
    moments = sorted((chance.uniform(0, within), index) for index in range(len(processes)))
    start = time.monotonic()
    for moment, index in moments:
        delay = start + moment - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        os.kill(processes[index].pid, signal.SIGKILL)
    for process in processes:
        process.join()

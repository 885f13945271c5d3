"""Where measurements of this machine are kept between programs. Imports nothing, since every first map looks here."""

from __future__ import annotations

import os
import sys

__all__ = ["folder", "path"]


def folder() -> str:
    """breakeven's folder in the user's cache (XDG_CACHE_HOME, by default ~/.cache). It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification: others are to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "breakeven")


def path(name: str, suffix: str) -> str:
    """The file for what holds until the machine is started again, for this version of Python."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        boot = "unknown-boot"
    version = sys.version_info
    python = f"{sys.implementation.name}-{version.major}.{version.minor}.{version.micro}"
    return os.path.join(folder(), f"{name}-{boot}-{python}{suffix}")

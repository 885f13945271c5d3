"""Start methods, for parametrisation."""

ALL = ("fork", "spawn", "forkserver")
FRESH = ("spawn", "forkserver")

"""Numbers of the kinds of records, and flags: crates/trace/src/record.rs."""

from __future__ import annotations

START = 1
BORN = 2
BOOT = 3
IMPORT = 4
INITIALIZER = 5
RUN = 6
THREAD = 7
EXIT = 8
JOIN = 9
CLOSE = 10
POOL = 20
SUBMIT = 21
TASK = 22
RESULT = 23
ARGUMENT = 24
DUMP = 30
LOAD = 31
SEND = 32
RECV = 33
POLL = 34
PIPE = 35
QUEUE = 40
PUT = 41
GET = 42
LOCK_WAIT = 50
LOCK_HOLD = 51
CALL = 60
SERVE = 61
BLAS = 70

# Nothing is recorded; the hook only calls its `before` and `after`.
SILENT = 0

FAILED = 1 << 1
TIMED_OUT = 1 << 2
NO_WAIT = 1 << 3
HELPER = 1 << 4

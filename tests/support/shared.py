"""What tests of things in shared memory have in common."""

import gc
import time

from breakeven import _native

LIMIT = 60


def run(ctx, target, *args):
    """Run a function in a process, to its end."""
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join(LIMIT)
    assert process.exitcode == 0


def in_use():
    """How many blocks of shared memory this tree of processes holds."""
    gc.collect()
    _native.reap()
    return _native.arena_statistics()["blocks_in_use"]


def wait_for_blocks(before):
    """Wait until no more blocks are in use than there were: killed processes give theirs back a little later."""
    deadline = time.monotonic() + 10
    while (now := in_use()) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now <= before, f"{now - before} blocks are not accounted for"

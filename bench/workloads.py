"""What is measured. One `Workload` a row; `python -m bench list` shows them.

Every function here runs in a process of its own (sample.py), for one rival, and returns a dict of plain numbers in SI
units: seconds, bytes, messages a second. It checks that what arrived is what was sent; a wrong answer is no
measurement.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from bench import machine, memory, stats
from bench.channels import CHANNELS, ChannelRival
from bench.pools import POOLS, PoolRival
from bench.programs import CASES, PROGRAMS, Program
from bench.roles import run_roles
from bench.tasks import square

Metrics = dict[str, float]
now = time.perf_counter

# 1500 x 1500 x 3 doubles: the array of the article that asks why queues are slow with large objects.
ARTICLE_SHAPE = (1500, 1500, 3)


class NotOffered(Exception):
    """The rival has no such call. Not a failure: it is left out."""


class WrongAnswer(AssertionError):
    """What arrived is not what was sent."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row. `run(rival, n)` measures; `metric` names the figure that ratios are made of."""

    id: str
    title: str
    run: Callable[[Any, int], Metrics]
    metric: str
    unit: str
    better: str
    n: int
    quick: int
    rivals: tuple[str, ...]
    how: str
    # Rivals that would take minutes for n; the metric is a rate or a time an item, so fewer items are a fair figure.
    n_for: dict[str, int] = dataclasses.field(default_factory=dict)
    limit: float = 60.0
    # At most so many rounds, for what takes long.
    rounds: int = 1_000

    def size(self, rival: str, quick: bool) -> int:
        n = self.n_for.get(rival, self.n)
        return min(n, self.quick) if quick else n

    def registry(self) -> dict[str, Any]:
        """The rivals of this kind, by name."""
        from bench.starts import STARTERS

        kinds: dict[str, dict[str, Any]] = {"pool": POOLS, "example": PROGRAMS, "start": STARTERS}  # type: ignore[dict-item]
        return kinds.get(self.id.partition("-")[0], CHANNELS)  # type: ignore[arg-type]


WORKLOADS: dict[str, Workload] = {}


def workload(
    id: str, title: str, **rest: Any
) -> Callable[[Callable[[Any, int], Metrics]], Callable[[Any, int], Metrics]]:
    """Enters the decorated function in WORKLOADS."""

    def enter(run: Callable[[Any, int], Metrics]) -> Callable[[Any, int], Metrics]:
        WORKLOADS[id] = Workload(id=id, title=title, run=run, **rest)
        return run

    return enter


def check(fact: bool, text: str) -> None:
    if not fact:
        raise WrongAnswer(text)


def faults() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


# ---- messages

_EVERY = (
    "stdlib",
    "breakeven",
    "stdlib SimpleQueue",
    "stdlib Pipe",
    "faster-fifo",
    "zooparallel",
    "zooparallel + pickle",
    "zeroq",
    "iceoryx2",
)
_SHARED = ("stdlib", "breakeven", "stdlib SimpleQueue", "faster-fifo", "zooparallel", "zeroq")
_SLOW = {
    "stdlib": 150_000,
    "stdlib SimpleQueue": 150_000,
    "stdlib Pipe": 150_000,
    "faster-fifo": 150_000,
    "zooparallel + pickle": 150_000,
    "iceoryx2": 150_000,
}


def stream(rival: ChannelRival, values: list[Any], maxsize: int, pairs: int = 1) -> Metrics:
    """`pairs` senders put `values` in equal shares, as many receivers take them: messages a second, from the moment
    when the first process starts to the moment when the last message has been taken."""
    share = len(values) // pairs
    line = rival.line(maxsize)

    def sender(ready: Callable[[], None], first: int) -> Metrics:
        put = line.put()
        messages = [rival.message(value) for value in values[first : first + share]]
        ready()
        began = now()
        for message in messages:
            put(message)
        return {"began": began, "ended": now()}

    def receiver(ready: Callable[[], None]) -> Metrics:
        get = line.get()
        ready()
        began = now()
        for _ in itertools.repeat(None, share - 1):
            get()
        last = get()
        ended = now()
        if pairs == 1:
            check(
                bytes(last) == rival.message(values[-1]) if rival.carries == "bytes" else last == values[-1],
                f"{last!r} came last",
            )
        return {"began": began, "ended": ended}

    roles = [lambda ready, first=i * share: sender(ready, first) for i in range(pairs)]
    answers = run_roles(rival.context(), *roles, *[receiver] * pairs)
    line.close()
    seconds = max(a["ended"] for a in answers[pairs:]) - min(a["began"] for a in answers)
    return {"rate": share * pairs / seconds, "n": share * pairs}


_RATE: dict[str, Any] = {"metric": "rate", "unit": "messages/s", "better": "higher", "quick": 5_000}


@workload(
    "1p1c-int",
    "int, one put and one get a message, 1 producer, 1 consumer",
    n=400_000,
    n_for=_SLOW,
    rivals=_EVERY,
    how="`Queue()` without a maxsize, as most programs make it",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return stream(rival, list(range(n)), 0)


@workload(
    "1p1c-int-bounded",
    "the same, through `Queue(maxsize=1000)`",
    n=400_000,
    n_for=_SLOW,
    rivals=("stdlib", "breakeven", "faster-fifo"),
    how="neither side can run far ahead of the other",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return stream(rival, list(range(n)), 1000)


@workload(
    "1p1c-str",
    "str of 12 characters, 1 producer, 1 consumer",
    n=400_000,
    n_for=_SLOW,
    rivals=("stdlib", "breakeven", "faster-fifo", "zooparallel", "zooparallel + pickle"),
    how="as above",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return stream(rival, [f"{i:012}" for i in range(n)], 0)


@workload(
    "1p1c-tuple",
    "tuple (int, float, str), 1 producer, 1 consumer",
    n=400_000,
    n_for=_SLOW,
    rivals=("stdlib", "breakeven", "faster-fifo", "zooparallel", "zooparallel + pickle"),
    how="as above",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return stream(rival, [(i, i / 2, "key") for i in range(n)], 0)


@workload(
    "2p2c-int",
    "int, 2 producers, 2 consumers",
    n=400_000,
    n_for=_SLOW,
    rivals=_SHARED,
    how="on two cores four processes have to take turns",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return stream(rival, list(range(n)), 0, pairs=2)


BATCH = 1000


@workload(
    "many-int",
    f"int, put_many of {BATCH} and get_many, 1 producer, 1 consumer",
    n=2_000_000,
    n_for={"stdlib": 150_000, "faster-fifo": 400_000},
    rivals=("stdlib", "breakeven", "faster-fifo"),
    how="the standard library has no such call, so its side is one put and one get a message",
    **_RATE,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    line = rival.line(0)
    if line.put_many() is None:
        return stream(rival, list(range(n)), 0)

    def sender(ready: Callable[[], None]) -> Metrics:
        put_many = line.put_many()
        assert put_many
        batches = [list(range(i, min(i + BATCH, n))) for i in range(0, n, BATCH)]
        ready()
        began = now()
        for batch in batches:
            put_many(batch)
        return {"began": began}

    def receiver(ready: Callable[[], None]) -> Metrics:
        get_many = line.get_many()
        assert get_many
        ready()
        left, total = n, 0
        while left:
            messages = get_many(BATCH)
            left -= len(messages)
            total += messages[0]
        ended = now()
        check(messages[-1] == n - 1, f"{messages[-1]!r} came last, not {n - 1}")
        return {"ended": ended}

    sent, got = run_roles(rival.context(), sender, receiver)
    line.close()
    return {"rate": n / (got["ended"] - sent["began"]), "n": n}


@workload(
    "same-process",
    "put, then get, in one process",
    n=300_000,
    n_for={
        "stdlib": 10_000,
        "stdlib SimpleQueue": 50_000,
        "stdlib Pipe": 50_000,
        "faster-fifo": 100_000,
        "iceoryx2": 50_000,
    },
    quick=2_000,
    rivals=(*_EVERY, "queue.SimpleQueue"),
    metric="seconds",
    unit="s",
    better="lower",
    how="the time of one pair of calls",
)
def _(rival: ChannelRival, n: int) -> Metrics:
    line = rival.line(0)
    get, put = line.get(), line.put()
    message = rival.message(7)
    for _ in range(100):
        put(message)
        get()
    began = now()
    for _ in itertools.repeat(None, n):
        put(message)
        got = get()
    ended = now()
    check(bytes(got) == message if rival.carries == "bytes" else got == 7, f"{got!r} came")
    line.close()
    return {"seconds": (ended - began) / n, "n": n}


def round_trip(rival: ChannelRival, n: int, pause: float) -> Metrics:
    """A caller puts on one line and waits for the echo on another; `pause` seconds between two calls."""
    there, back = rival.line(16), rival.line(16)
    warm = 200 if not pause else 5

    def caller(ready: Callable[[], None]) -> Metrics:
        get, put = back.get(), there.put()
        message = rival.message(7)
        ready()
        times = []
        for _ in range(n + warm):
            if pause:
                time.sleep(pause)
            began = now()
            put(message)
            get()
            times.append(now() - began)
        del times[:warm]
        return {"p50": stats.percentile(times, 0.5), "p99": stats.percentile(times, 0.99), "n": n}

    def responder(ready: Callable[[], None]) -> Metrics:
        get, put = there.get(), back.put()
        ready()
        for _ in itertools.repeat(None, n + warm):
            put(get())
        return {}

    if rival.name == "iceoryx2":
        # What its receiver sees is a view on a block that must go back; the echo is a message of its own.
        def responder(ready: Callable[[], None]) -> Metrics:
            get, put = there.get(), back.put()
            message = rival.message(7)
            ready()
            for _ in itertools.repeat(None, n + warm):
                get()
                put(message)
            return {}

    answer, _ = run_roles(rival.context(), caller, responder)
    there.close()
    back.close()
    return answer


_TRIP: dict[str, Any] = {"metric": "p50", "unit": "s", "better": "lower"}


@workload(
    "round-trip",
    "round trip between two processes, both running",
    n=10_000,
    n_for={"zeroq": 500},  # it sleeps a millisecond at a time
    quick=300,
    rivals=_EVERY,
    how="median of the trips of one run; the next call follows at once",
    **_TRIP,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return round_trip(rival, n, 0.0)


@workload(
    "round-trip-asleep",
    "round trip to a process that has been asleep for 5 ms or more",
    n=150,
    quick=20,
    rivals=_EVERY,
    how="the caller sleeps 6 ms between calls, so whoever waits in `get` has slept; a receiver that spins never sleeps",
    **_TRIP,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    return round_trip(rival, n, 0.006)


# ---- arrays

_ARRAY_RIVALS = ("stdlib", "breakeven", "faster-fifo", "zooparallel", "zeroq", "iceoryx2")


def array_stream(rival: ChannelRival, count: int, n: int, depth: int = 2) -> Metrics:
    """n arrays of `count` doubles, one after the other; the receiver reads every element of each.

    Only the steady state counts: the clock and the page faults start when a third as many messages again have gone
    by, and the sender waits for nothing but the channel. `depth` messages wait in it at most.
    """
    import numpy

    warm = max(4, n // 3)
    line = rival.line(depth, count * 8)

    def sender(ready: Callable[[], None]) -> Metrics:
        put = line.put()
        array = numpy.full(count, 2.0)
        ready()
        before = 0
        for i in range(warm + n):
            if i == warm:
                before = faults()
            if rival.reads_in_put:
                array[0] = i  # so that a message which is really an earlier one shows
            put(rival.message(array))
        return {"faults": faults() - before}

    def receiver(ready: Callable[[], None]) -> Metrics:
        get = line.get()
        ready()
        array = None
        began, before = 0.0, 0
        for i in range(warm + n):
            if i == warm:
                before = faults()
                began = now()
            array = None  # the one before is done with
            array = rival.array(get())
            total = array.sum()
            expected = (count - 1) * 2.0 + (i if rival.reads_in_put else 2.0)
            if total != expected:
                raise WrongAnswer(f"array {i} sums to {total}, not {expected}")
        return {"ended": now(), "began": began, "faults": faults() - before}

    sent, got = run_roles(rival.context(), sender, receiver)
    line.close()
    copy, read = physical(count)
    return {
        "seconds": (got["ended"] - got["began"]) / n,
        "sender_faults": sent["faults"] / n,
        "receiver_faults": got["faults"] / n,
        "copy": copy,
        "read": read,
        "n": n,
    }


def physical(count: int) -> tuple[float, float]:
    """Seconds for one copy of `count` doubles into memory that has been touched, and for one sum of them, right now: no
    transport can be faster than the longer of the two. The fastest of five."""
    import numpy

    source, target = numpy.full(count, 2.0), numpy.full(count, 1.0)
    copies, reads = [], []
    for _ in range(5):
        began = now()
        numpy.copyto(target, source)
        between = now()
        target.sum()
        copies.append(between - began)
        reads.append(now() - between)
    return min(copies), min(reads)


def array_handed_over(rival: ChannelRival, count: int, n: int) -> Metrics:
    """One array at a time: from the call of put to the moment when the receiver has read all of it. The sender sends
    the next one when it is told, outside the clock, that the last one has been read."""
    import numpy

    warm = max(3, n // 3)
    line = rival.line(2, count * 8)
    told, tell = os.pipe()

    def sender(ready: Callable[[], None]) -> Metrics:
        put = line.put()
        array = numpy.full(count, 2.0)
        ready()
        began = []
        for _ in range(warm + n):
            began.append(now())
            put(rival.message(array))
            os.read(told, 1)
        return {"began": began}  # type: ignore[dict-item]

    def receiver(ready: Callable[[], None]) -> Metrics:
        get = line.get()
        ready()
        ended = []
        for _ in range(warm + n):
            array = rival.array(get())
            check(array.sum() == count * 2.0, "the array that arrived is not the one that was sent")
            ended.append(now())
            array = None
            os.write(tell, b".")
        return {"ended": ended}  # type: ignore[dict-item]

    sent, got = run_roles(rival.context(), sender, receiver)
    line.close()
    times = [b - a for a, b in zip(sent["began"], got["ended"], strict=True)][warm:]
    return {"seconds": stats.percentile(times, 0.5), "n": n}


_SECONDS: dict[str, Any] = {"metric": "seconds", "unit": "s", "better": "lower"}
_DOUBLES = {"1MB": 1_000_000 // 8, "8MB": 8_000_000 // 8, "54MB": 54_000_000 // 8}

for _label, _n, _peers_n in (("1MB", 600, 200), ("8MB", 90, 30), ("54MB", 30, 9)):

    @workload(
        f"array-{_label}", f"array of {_label[:-2]} MB, all of it read by the receiver, one after the other",
        n=_n, n_for={name: _peers_n for name in _ARRAY_RIVALS if name != "breakeven"}, quick=4, rivals=_ARRAY_RIVALS,
        how="`Queue(maxsize=2)`; time a message in steady state, sender and receiver at work at once", **_SECONDS,
    )  # fmt: skip
    def _(rival: ChannelRival, n: int, count: int = _DOUBLES[_label]) -> Metrics:
        return array_stream(rival, count, n)


for _label, _n, _peers_n in (("1MB", 200, 100), ("54MB", 15, 6)):

    @workload(
        f"array-{_label}-handed", f"array of {_label[:-2]} MB, one at a time: from put to the last element read",
        n=_n, n_for={"stdlib": _peers_n}, quick=4, rivals=("stdlib", "breakeven"),
        how="sender and receiver take turns, so copying, waking and reading add up", **_SECONDS,
    )  # fmt: skip
    def _(rival: ChannelRival, n: int, count: int = _DOUBLES[_label]) -> Metrics:
        return array_handed_over(rival, count, n)


@workload(
    "list-100k",
    "list of 100,000 ints",
    n=300,
    n_for={"stdlib": 150, "faster-fifo": 150},
    quick=5,
    rivals=("stdlib", "breakeven", "faster-fifo"),
    how="`Queue(maxsize=2)`; time a message in steady state; its ends are checked",
    **_SECONDS,
)
def _(rival: ChannelRival, n: int) -> Metrics:
    warm = max(4, n // 3)
    line = rival.line(2, 500_000)

    def sender(ready: Callable[[], None]) -> Metrics:
        put = line.put()
        numbers = list(range(100_000))
        ready()
        for _ in range(warm + n):
            put(numbers)
        return {}

    def receiver(ready: Callable[[], None]) -> Metrics:
        get = line.get()
        ready()
        began = 0.0
        for i in range(warm + n):
            if i == warm:
                began = now()
            numbers = get()
            check(len(numbers) == 100_000 and numbers[0] == 0 and numbers[-1] == 99_999, "another list")
        return {"ended": now(), "began": began}

    _, got = run_roles(rival.context(), sender, receiver)
    line.close()
    return {"seconds": (got["ended"] - got["began"]) / n, "n": n}


@workload(
    "memory",
    "10 arrays of 54 MB to a slow consumer with maxsize 2: peak memory of all processes",
    n=10,
    quick=4,
    rivals=("stdlib", "breakeven", "faster-fifo"),
    metric="peak",
    unit="bytes",
    better="lower",
    how="the producer makes each array anew; the consumer reads one, sleeps 0.1 s; README.md says what is summed",
)
def _(rival: ChannelRival, n: int) -> Metrics:
    import numpy

    count = _DOUBLES["54MB"]

    watch = memory.Watch(os.getpid())
    base = watch.sample()
    line = rival.line(2, count * 8)

    def sender(ready: Callable[[], None]) -> Metrics:
        put = line.put()
        ready()
        for i in range(n):
            array = numpy.full(count, float(i))
            put(rival.message(array))
            del array
        return {}

    def receiver(ready: Callable[[], None]) -> Metrics:
        get = line.get()
        ready()
        for i in range(n):
            array = rival.array(get())
            check(array[0] == i == array[-1], f"array {i} is another one")
            array.sum()
            time.sleep(0.1)
            del array
        return {}

    with watch:
        run_roles(rival.context(), sender, receiver)
    line.close()
    return {
        "peak": watch.peak,
        "peak_above_idle": watch.peak - base,
        "peak_pss": watch.peak_pss,
        "idle": base,
        "looks": watch.looks,
        "n": n,
    }


# ---- the article's queue program


def article(rival: ChannelRival, products: int, heavy: bool) -> float:
    """16 processes, each making its share of matrix products and putting one thing on the queue for each: seconds for
    all, starting and joining included."""
    import numpy

    processes = 16
    each = products // processes
    context = rival.context()
    # For a rival whose ring is sized in bytes: room for 8 of the arrays, not for 100, which would be 5.4 GB.
    line = rival.line(100, 54_000_000 // 12 if heavy else 64)

    def work() -> None:
        put = line.put()
        for _ in range(each):
            a = numpy.random.random((500, 500))
            b = numpy.random.random((500, 500))
            a.dot(b)
            put(rival.message(numpy.zeros(ARTICLE_SHAPE)) if heavy else rival.message(1))

    get = line.get()
    began = now()
    children = [context.Process(target=work) for _ in range(processes)]
    for child in children:
        child.start()
    for _ in range(each * processes):
        got = get()
        if heavy:
            check(rival.array(got).size == 6_750_000, "another array")
        else:
            check(got == 1, f"{got!r} came")
    for child in children:
        child.join()
    return now() - began


@workload(
    "article",
    "the article's queue program: 16 processes, matrix products, one array of 54 MB or one int put for each",
    n=32,
    quick=16,
    rivals=("stdlib", "breakeven", "faster-fifo"),
    metric="ratio",
    unit="x",
    better="lower",
    limit=120.0,
    how="time with the array over time with the int, both from process start to join in one sample, int first",
)
def _(rival: ChannelRival, n: int) -> Metrics:
    light = article(rival, n, heavy=False)
    heavy = article(rival, n, heavy=True)
    return {"ratio": heavy / light, "int_seconds": light, "array_seconds": heavy, "n": n}


# ---- pools

_POOLS = ("stdlib", "breakeven", "concurrent.futures", "joblib", "loky", "mpire", "pebble", "zooparallel")
_TASKS: dict[str, Any] = {"metric": "rate", "unit": "tasks/s", "better": "higher"}


def pool_rate(rival: PoolRival, n: int, call: str) -> Metrics:
    """All of n tiny tasks through one call of the rival, results collected: tasks a second. The pool is up and has
    worked."""
    with rival.workers() as workers:
        handed_out = getattr(workers, call)
        if handed_out is None:
            raise NotOffered(f"{rival.name} has no {call}")
        items = list(range(n))
        check(sorted(handed_out(square, items[:64])) == [x * x for x in range(64)], "wrong results")
        began = now()
        results = list(handed_out(square, items))
        ended = now()
    if call == "imap_unordered":
        results.sort()
    check(results == [x * x for x in items], "wrong results")
    return {"rate": n / (ended - began), "n": n}


@workload(
    "pool-map",
    "Pool.map of x*x over a million ints, chunks as the pool chooses",
    n=1_000_000,
    quick=10_000,
    rivals=(*_POOLS[:2], "serial loop", *_POOLS[2:]),
    n_for={
        "concurrent.futures": 8_000,
        "loky": 8_000,
        "pebble": 8_000,
        "zooparallel": 20_000,
        "joblib": 200_000,
        "mpire": 500_000,
    },
    how="two workers, already up; a rival that sends one item a message gets fewer items: what counts is the rate",
    **_TASKS,
)
def _(rival: PoolRival, n: int) -> Metrics:
    return pool_rate(rival, n, "map")


_ONE_EACH = dict.fromkeys(_POOLS[2:], 8000) | {"joblib": 5_000, "stdlib": 30_000, "zooparallel": 20_000}


@workload(
    "pool-map-chunk1",
    "Pool.map with chunksize=1 asked for",
    n=150_000,
    n_for=_ONE_EACH,
    quick=1_000,
    rivals=_POOLS,
    how="one task a message, as asked",
    **_TASKS,
)
def _(rival: PoolRival, n: int) -> Metrics:
    return pool_rate(rival, n, "map_single")


_ITERATED = ("stdlib", "breakeven", "concurrent.futures", "joblib", "loky", "mpire", "pebble")


@workload(
    "pool-imap",
    "Pool.imap without a chunksize",
    n=300_000,
    n_for=_ONE_EACH | {"joblib": 200_000, "mpire": 200_000},
    quick=1_000,
    rivals=_ITERATED,
    how="an iterator over the results, all taken",
    **_TASKS,
)
def _(rival: PoolRival, n: int) -> Metrics:
    return pool_rate(rival, n, "imap")


@workload(
    "pool-imap-unordered",
    "Pool.imap_unordered without a chunksize",
    n=300_000,
    n_for=_ONE_EACH | {"joblib": 200_000, "mpire": 200_000},
    quick=1_000,
    rivals=("stdlib", "breakeven", "joblib", "mpire"),
    how="the same, in whatever order they come",
    **_TASKS,
)
def _(rival: PoolRival, n: int) -> Metrics:
    return pool_rate(rival, n, "imap_unordered")


@workload(
    "pool-apply-async",
    "apply_async, all in flight, then every result",
    n=60_000,
    n_for={name: 8_000 for name in _POOLS if name != "breakeven"} | {"stdlib": 20_000},
    quick=1_000,
    rivals=("stdlib", "breakeven", "concurrent.futures", "loky", "mpire", "pebble", "zooparallel"),
    how="one call a task, one handle a task",
    **_TASKS,
)
def _(rival: PoolRival, n: int) -> Metrics:
    with rival.workers() as workers:
        submit, result = workers.submit, workers.result
        if submit is None or result is None:
            raise NotOffered(f"{rival.name} has no call for one task")
        check(result(submit(square, 3)) == 9, "wrong result")
        began = now()
        handles = [submit(square, x) for x in range(n)]
        results = [result(handle) for handle in handles]
        ended = now()
    check(results == [x * x for x in range(n)], "wrong results")
    return {"rate": n / (ended - began), "n": n}


@workload(
    "pool-apply",
    "one apply, waited for",
    n=2_000,
    quick=50,
    rivals=("stdlib", "breakeven", "concurrent.futures", "loky", "mpire", "pebble", "zooparallel"),
    metric="p50",
    unit="s",
    better="lower",
    how="median; the next task is submitted when the result of the last is there",
)
def _(rival: PoolRival, n: int) -> Metrics:
    with rival.workers() as workers:
        submit, result = workers.submit, workers.result
        if submit is None or result is None:
            raise NotOffered(f"{rival.name} has no call for one task")
        times = []
        warm = n // 10
        for x in range(n + warm):
            began = now()
            got = result(submit(square, x))
            times.append(now() - began)
            check(got == x * x, f"{x} squared is not {got}")
    del times[:warm]
    return {"p50": stats.percentile(times, 0.5), "p99": stats.percentile(times, 0.99), "n": n}


# ---- the examples

for _case in CASES:

    @workload(
        f"example-{_case.name.replace('/', '-')}",
        f"examples/{_case.script}: {_case.title}",
        n=1,
        quick=1,
        rounds=2,
        rivals=("stdlib", "breakeven"),
        how="the unmodified program, under plain Python and under `breakeven run`; the time that it prints itself",
        **_SECONDS,
    )
    def _(rival: Program, n: int, case: Any = _case) -> Metrics:
        done = subprocess.run(case.command(rival.variant), cwd=machine.ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{case.script} under {rival.name} ended with {done.returncode}: {done.stderr[-1000:]}")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)  # this process has had no other child
        seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
        return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "n": n}


from bench import starts as _starts  # noqa: E402, F401  enters its workloads; it needs the decorator above

assert threading.active_count() == 1, "samples fork: nothing imported here may start a thread"

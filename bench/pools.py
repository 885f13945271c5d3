"""Rivals that run tasks, behind one shape: two workers, and the calls that the rival has for each way of handing out
work."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

WORKERS = 2

Task = Callable[[Any], Any]


class Workers:
    """A running pool. What a rival has no call for stays None, and it is left out of that workload."""

    # Everything in order, chunks as the rival chooses.
    map: Callable[[Task, Any], Iterable[Any]] | None = None
    # Everything in order, one item a message.
    map_single: Callable[[Task, Any], Iterable[Any]] | None = None
    # An iterator over the results, nothing said about chunks.
    imap: Callable[[Task, Any], Iterable[Any]] | None = None
    imap_unordered: Callable[[Task, Any], Iterable[Any]] | None = None
    # Starts one task; the second takes what the first returned and waits for the result.
    submit: Callable[[Task, Any], Any] | None = None
    result: Callable[[Any], Any] | None = None


class PoolRival:
    name: ClassVar[str]
    distribution: ClassVar[str | None] = None
    note: ClassVar[str] = ""

    def workers(self) -> contextlib.AbstractContextManager[Workers]:
        raise NotImplementedError


class _ModulePool(PoolRival):
    def context(self) -> Any:
        raise NotImplementedError

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        with self.context().Pool(WORKERS) as pool:
            w = Workers()
            w.map = pool.map
            w.map_single = lambda f, items: pool.map(f, items, chunksize=1)
            w.imap = pool.imap
            w.imap_unordered = pool.imap_unordered
            w.submit = lambda f, x: pool.apply_async(f, (x,))
            w.result = lambda handle: handle.get()
            yield w


class Stdlib(_ModulePool):
    name = "stdlib"

    def context(self) -> Any:
        return multiprocessing.get_context("fork")


class Breakeven(_ModulePool):
    name = "breakeven"
    distribution = "breakeven"

    def context(self) -> Any:
        import breakeven

        return breakeven.get_context("fork")


class Serial(PoolRival):
    """The loop that parallel code has to beat: no worker at all."""

    name = "serial loop"
    note = "no workers"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        w = Workers()
        w.map = w.map_single = w.imap = w.imap_unordered = lambda f, items: [f(x) for x in items]
        yield w


class Futures(PoolRival):
    """concurrent.futures.ProcessPoolExecutor. Its map has one item a message unless told otherwise."""

    name = "concurrent.futures"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as pool:
            w = Workers()
            w.map = w.map_single = lambda f, items: list(pool.map(f, items))
            w.imap = pool.map
            w.submit = pool.submit
            w.result = lambda handle: handle.result()
            yield w


class Loky(PoolRival):
    name = "loky"
    distribution = "loky"
    note = "map has one item a message"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        import loky

        pool = loky.get_reusable_executor(WORKERS)
        w = Workers()
        w.map = w.map_single = lambda f, items: list(pool.map(f, items))
        w.imap = pool.map
        w.submit = pool.submit
        w.result = lambda handle: handle.result()
        yield w
        pool.shutdown()


class Joblib(PoolRival):
    name = "joblib"
    distribution = "joblib"
    note = "batches of its own choice"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        import joblib

        w = Workers()
        with (
            joblib.Parallel(WORKERS) as pool,
            joblib.Parallel(WORKERS, batch_size=1) as single,
            joblib.Parallel(WORKERS, return_as="generator") as ordered,
            joblib.Parallel(WORKERS, return_as="generator_unordered") as unordered,
        ):
            w.map = lambda f, items: pool(joblib.delayed(f)(x) for x in items)
            w.map_single = lambda f, items: single(joblib.delayed(f)(x) for x in items)
            w.imap = lambda f, items: ordered(joblib.delayed(f)(x) for x in items)
            w.imap_unordered = lambda f, items: unordered(joblib.delayed(f)(x) for x in items)
            yield w


class Mpire(PoolRival):
    name = "mpire"
    distribution = "mpire"
    note = "chunks of its own choice"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        import mpire

        with mpire.WorkerPool(WORKERS, start_method="fork", keep_alive=True) as pool:
            w = Workers()
            w.map = pool.map
            w.map_single = lambda f, items: pool.map(f, items, chunk_size=1)
            w.imap = pool.imap
            w.imap_unordered = pool.imap_unordered
            w.submit = lambda f, x: pool.apply_async(f, (x,))
            w.result = lambda handle: handle.get()
            yield w


class Pebble(PoolRival):
    name = "pebble"
    distribution = "Pebble"
    note = "map has one item a message"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        import pebble

        with pebble.ProcessPool(WORKERS, context=multiprocessing.get_context("fork")) as pool:
            w = Workers()
            w.map = w.map_single = lambda f, items: list(pool.map(f, items).result())
            w.imap = lambda f, items: pool.map(f, items).result()
            w.submit = lambda f, x: pool.schedule(f, args=(x,))
            w.result = lambda handle: handle.result()
            yield w


class ZooPool(PoolRival):
    name = "zooparallel"
    distribution = "zooparallel"
    note = "map has one item a message"

    @contextlib.contextmanager
    def workers(self) -> Iterator[Workers]:
        import zooparallel

        with zooparallel.ZooPool(WORKERS) as pool:
            w = Workers()
            w.map = w.map_single = pool.map
            w.submit = pool.submit
            w.result = lambda handle: handle.result()
            yield w


POOLS: dict[str, PoolRival] = {
    rival.name: rival
    for rival in (
        Stdlib(), Breakeven(), Serial(), Futures(), Joblib(), Loky(), Mpire(), Pebble(), ZooPool(),
    )
}  # fmt: skip

"""Many small predictions with a model that takes long to load.

Faults it shows: start-up and memory, then granularity. The initializer spares the tasks from loading
the model, but every worker still loads a copy of its own, all at the same time, while the serial
program loads one; and a prediction is so short that sending it costs more than making it.
--via map sends the queries with Pool.map, --via apply_async one by one with a handle each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from typing import TYPE_CHECKING

# Before numpy is imported: a worker's matrix products need no BLAS threads of their own.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402  (the comment above says why)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 32  # numbers per word vector
CLASSES = 10

Query = tuple[int, ...]


class Model:
    """A bag-of-words classifier over a table of `words` word vectors."""

    def __init__(self, words: int) -> None:
        rng = np.random.default_rng(99)
        vectors = rng.standard_normal((words, WIDTH))
        # As real ones do, this model wants its vectors prepared after reading them.
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors: NDArray[np.float32] = np.tanh(3.0 * vectors).astype(np.float32)
        self._head: NDArray[np.float32] = rng.standard_normal((WIDTH, CLASSES)).astype(np.float32)

    def predict(self, query: Query) -> int:
        scores = self._vectors[list(query)].mean(axis=0) @ self._head
        return int(scores.argmax())


_model: Model | None = None  # this process's own, put here by load


def load(words: int) -> None:
    global _model
    _model = Model(words)


def predict(query: Query) -> int:
    if _model is None:
        raise RuntimeError("predict was called before load")
    return _model.predict(query)


def make_queries(count: int, words: int) -> list[Query]:
    rng = np.random.default_rng(5)
    return [tuple(row) for row in rng.integers(0, words, (count, 6)).tolist()]


def checksum(classes: list[int]) -> int:
    """Fold the classes into one number that depends on their order."""
    folded = 0
    for number in classes:
        folded = (folded * 31 + number) % (2**61 - 1)
    return folded


def run_serial(queries: list[Query], words: int) -> int:
    load(words)
    return checksum([predict(query) for query in queries])


def run_map(queries: list[Query], words: int, workers: int | None) -> int:
    with multiprocessing.Pool(workers, initializer=load, initargs=(words,)) as pool:
        return checksum(pool.map(predict, queries))


def run_apply_async(queries: list[Query], words: int, workers: int | None) -> int:
    with multiprocessing.Pool(workers, initializer=load, initargs=(words,)) as pool:
        handles = [pool.apply_async(predict, (query,)) for query in queries]
        return checksum([handle.get() for handle in handles])


def main() -> None:
    parser = argparse.ArgumentParser(description="Predictions: a loop against workers with a model each.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--via", choices=["map", "apply_async"], default="map")
    parser.add_argument("--queries", type=int, default=20_000, help="how many predictions (default: %(default)s)")
    parser.add_argument("--words", type=int, default=150_000, help="the model's vocabulary (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="pool size (default: the pool's)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    queries = make_queries(args.queries, args.words)
    started = time.perf_counter()
    if args.mode == "serial":
        result = run_serial(queries, args.words)
    elif args.via == "map":
        result = run_map(queries, args.words, args.workers)
    else:
        result = run_apply_async(queries, args.words, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "heavy_model", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()

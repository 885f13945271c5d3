"""Sixteen workers multiply matrices and report on one queue: with the number 1, or with 54 MB.

Fault it shows: transfer. The computation is the same with either payload; with the array each message
is pickled, pushed through a 64 KB pipe in hundreds of pieces and put together again, and the products
that took 20 ms wait for messages that take 140 ms.

BLAS is kept to one thread per process, since sixteen workers with a BLAS pool each would measure the
scheduler instead: OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and MKL_NUM_THREADS are set to 1 unless the
environment already says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import multiprocessing.queues
import os
import time
from typing import TYPE_CHECKING, Union

# Before numpy is imported: BLAS libraries read these once, when they are loaded.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402  (the comment above says why)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Message = Union[int, NDArray[np.float64]]

SHAPE = (1500, 1500, 3)  # float64: 54 MB
# The cells that a producer stamps and the consumer compares: both ends and the middle.
STAMPED = ((0, 0, 0), (SHAPE[0] // 2, SHAPE[1] // 2, 1), (SHAPE[0] - 1, SHAPE[1] - 1, 2))


def multiply(seed: int, order: int) -> float:
    """Multiply two pseudo-random order x order matrices; return the trace, a number that needs all of it."""
    rng = np.random.default_rng(seed)
    return float(np.trace(rng.random((order, order)) @ rng.random((order, order))))


def make_message(payload: str, trace: float) -> Message:
    if payload == "int":
        return 1
    array = np.zeros(SHAPE)
    for cell in STAMPED:
        array[cell] = trace
    return array


def check_message(message: Message) -> float:
    """Verify a message and return its part of the checksum; raises ValueError if it is damaged."""
    if isinstance(message, int):
        return float(message)
    if message.shape != SHAPE or message.dtype != np.float64:
        raise ValueError(f"a message of {SHAPE} float64 arrived as {message.shape} {message.dtype}")
    stamps = {float(message[cell]) for cell in STAMPED}
    trace = stamps.pop()
    # One cell in 128 of every axis but the stamps' own: all zero, in pages all over the array.
    if stamps or trace == 0.0 or message[1::128, 1::128].any():
        raise ValueError("a message arrived damaged")
    return trace


def produce(messages: multiprocessing.queues.Queue[Message], seeds: range, order: int, payload: str) -> None:
    for seed in seeds:
        messages.put(make_message(payload, multiply(seed, order)))


def run_serial(products: int, order: int, payload: str) -> float:
    return math.fsum(check_message(make_message(payload, multiply(seed, order))) for seed in range(products))


def run_parallel(products: int, order: int, payload: str, workers: int, maxsize: int) -> float:
    messages: multiprocessing.queues.Queue[Message] = multiprocessing.Queue(maxsize)
    processes = [
        multiprocessing.Process(target=produce, args=(messages, range(first, products, workers), order, payload))
        for first in range(workers)
    ]
    for process in processes:
        process.start()
    # fsum: the traces arrive in any order, and their sum must not depend on it.
    result = math.fsum(check_message(messages.get(timeout=60)) for _ in range(products))
    for process in processes:
        process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Matrix products, reported with 1 or with 54 MB.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--payload", choices=["int", "array"], default="array")
    parser.add_argument("--products", type=int, default=32, help="products and messages in all (default: %(default)s)")
    parser.add_argument("--order", type=int, default=500, help="rows of a matrix (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=16, help="processes (default: %(default)s)")
    parser.add_argument("--maxsize", type=int, default=100, help="the queue's bound (default: %(default)s)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    started = time.perf_counter()
    if args.mode == "serial":
        result = run_serial(args.products, args.order, args.payload)
    else:
        result = run_parallel(args.products, args.order, args.payload, args.workers, args.maxsize)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "queue_arrays", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()

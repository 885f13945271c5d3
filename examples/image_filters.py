"""Many filters over one large image, the image passed to every task.

Fault it shows: a large argument that is the same for all tasks. Pool.starmap pickles the image once
per chunk of tasks and copies it through a pipe each time, which takes longer than filtering it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 8  # a response is computed at every STEPth pixel of either axis


def make_image(side: int) -> NDArray[np.float32]:
    """Return a side x side image: smooth waves with noise, the same on every call."""
    axis = np.linspace(0, 40, side, dtype=np.float32)
    noise = np.random.default_rng(7).random((side, side), dtype=np.float32)
    image: NDArray[np.float32] = np.outer(np.sin(axis), np.cos(axis)) + np.float32(0.1) * noise
    return image


def make_filters(count: int, size: int) -> list[NDArray[np.float32]]:
    """Return `count` size x size kernels with weights that add up to 1."""
    rng = np.random.default_rng(11)
    kernels = [rng.random((size, size), dtype=np.float32) for _ in range(count)]
    return [kernel / kernel.sum() for kernel in kernels]


def apply_filter(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the kernel's response at every STEPth pixel at which it lies within the image."""
    rows, columns = (image.shape[axis] - kernel.shape[axis] + 1 for axis in (0, 1))
    response = np.zeros((-(-rows // STEP), -(-columns // STEP)), dtype=np.float32)
    for (dy, dx), weight in np.ndenumerate(kernel):
        response += weight * image[dy : dy + rows : STEP, dx : dx + columns : STEP]
    return response


def checksum(responses: list[NDArray[np.float32]]) -> float:
    return sum(float(response.sum(dtype=np.float64)) * (i + 1) for i, response in enumerate(responses))


def run_serial(image: NDArray[np.float32], kernels: list[NDArray[np.float32]]) -> float:
    return checksum([apply_filter(image, kernel) for kernel in kernels])


def run_parallel(image: NDArray[np.float32], kernels: list[NDArray[np.float32]], workers: int | None) -> float:
    with multiprocessing.Pool(workers) as pool:
        return checksum(pool.starmap(apply_filter, [(image, kernel) for kernel in kernels]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Image filters: a loop against Pool.starmap.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--side", type=int, default=2500, help="pixels per axis (default: %(default)s: 25 MB)")
    parser.add_argument("--filters", type=int, default=64, help="how many filters (default: %(default)s)")
    parser.add_argument("--kernel", type=int, default=3, help="rows of a filter (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="pool size (default: the pool's)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    image = make_image(args.side)
    kernels = make_filters(args.filters, args.kernel)
    started = time.perf_counter()
    result = run_serial(image, kernels) if args.mode == "serial" else run_parallel(image, kernels, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "image_filters", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()

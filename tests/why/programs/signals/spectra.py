"""Spectra of recorded signals with NumPy on "spawn", the workers make their data themselves and give back one
number. Run as `python -m signals.spectra`. It scales; am I right not to care about shared memory?"""

import sys
from multiprocessing import get_context

import numpy as np

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
SIGNALS = 24
LENGTH = 4_096


def spectrum(number):
    signal = np.random.default_rng(number).random(LENGTH)
    peak = 0.0
    for _ in range(4_000 // SHRINK):
        power = np.abs(np.fft.rfft(signal))
        peak = max(peak, float(power[1:].max()))
        signal = np.roll(signal, 7)
        signal[: LENGTH // 2] *= 0.999
    return peak


def in_pool(count, chunksize=None):
    with get_context("spawn").Pool(count) as pool:
        return sum(pool.map(spectrum, range(SIGNALS), chunksize))


def asked():
    return in_pool(2)


def one_by_one():
    return in_pool(2, 1)


def more_workers():
    return in_pool(4)


def serial():
    return sum(map(spectrum, range(SIGNALS)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{globals()[variant]():.6f}")

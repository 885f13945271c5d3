"""Pools whose workers have pools of their own: the well-known recipe, a process class that is never daemonic."""

import multiprocessing as mp
import multiprocessing.pool
import sys

METHOD = sys.argv[1]


class NoDaemonProcess(mp.get_context(METHOD).Process):
    @property
    def daemon(self):
        return False

    @daemon.setter
    def daemon(self, value):
        pass


class NoDaemonContext(type(mp.get_context(METHOD))):
    Process = NoDaemonProcess


class NestablePool(multiprocessing.pool.Pool):
    def __init__(self, *args, **keywords):
        super().__init__(*args, context=NoDaemonContext(), **keywords)


def square(x):
    return x * x


def sum_of_squares(n):
    with mp.Pool(2) as pool:
        return sum(pool.map(square, range(n)))


if __name__ == "__main__":
    mp.set_start_method(METHOD)
    with NestablePool(2) as pool:
        assert pool.map(sum_of_squares, [3, 4, 5]) == [5, 14, 30]
    with mp.pool.Pool(1, context=NoDaemonContext()) as pool:
        assert pool.apply(sum_of_squares, (4,)) == 14
    print("done")

"""What the children of these tests do."""

import multiprocessing
import os
import signal
import sys
import time


def nothing():
    pass


def give(value):
    return value


def end_with(code):
    sys.exit(code)


def tell_pids(queue):
    queue.put((os.getpid(), os.getppid()))


def sleep():
    time.sleep(1000)


def stubborn(queue):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    queue.put(os.getpid())
    time.sleep(1000)


def own_descriptors(queue):
    queue.put(len(os.listdir("/proc/self/fd")))


def end_as_told(queue):
    sys.exit(queue.get())


def close_descriptors(how, path):
    os.closerange(3, 256)
    if how == "replaced":
        while os.open(path, os.O_WRONLY | os.O_CREAT) < 64:
            pass
    sys.exit(5)


def square(x):
    return x * x


def surroundings(_):
    me = multiprocessing.current_process()
    return me.name, os.getpid(), os.getcwd(), os.environ.get("SET_JUST_NOW"), os.sched_getaffinity(0), me.daemon

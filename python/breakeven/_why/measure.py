"""Measures what this machine charges for parallelism; a program of its own, which prints JSON.

`machine.py` runs it in a fresh interpreter, isolated (`python -I`) and without breakeven: the charges are those of
plain CPython primitives, and neither the threads nor the memory of the process that asks are in them. All are medians,
in seconds; crates/trace/src/recording.rs (`Charges`) says what each one is.
"""

import mmap
import multiprocessing
import os
import pickle
import statistics
import sys
import threading
import time

SMALL = 7
PAGE = 4096


def nothing(item=None):
    """The empty target and the empty task."""


def median_of(times, act):
    """Median seconds of `act()`, called so many `times`."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


# ---------------------------------------------------------------------------------------------------------------------
# Processes and threads


def start_and_join(context):
    process = context.Process(target=nothing)
    process.start()
    process.join()


def measure_starts(charges):
    command = [sys.executable, "-I", "-W", "ignore", "-c", "import multiprocessing"]
    charges["interpreter"] = median_of(5, lambda: os.waitpid(os.posix_spawn(command[0], command, os.environ), 0))
    charges["fork"] = median_of(11, lambda: start_and_join(multiprocessing.get_context("fork")))
    charges["spawn"] = median_of(3, lambda: start_and_join(multiprocessing.get_context("spawn")))
    forkserver = multiprocessing.get_context("forkserver")
    start_and_join(forkserver)  # brings the server up
    charges["forkserver"] = median_of(5, lambda: start_and_join(forkserver))

    def thread():
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()

    charges["thread"] = median_of(51, thread)


# ---------------------------------------------------------------------------------------------------------------------
# Messages and bytes: CPU seconds of both sides


def consume(get, count, report):
    get()  # the first one says that both are up
    begin = time.process_time()
    for _ in range(count):
        get()
    report.send(time.process_time() - begin)


def cpu_of_both(get, put, count):
    """CPU seconds that `count` calls of `put` here and of `get` in a child take, both together."""
    here, there = fork.Pipe(duplex=False)
    child = fork.Process(target=consume, args=(get, count, there))
    child.start()
    there.close()
    put()
    time.sleep(0.002)
    begin = time.process_time()
    for _ in range(count):
        put()
    theirs = here.recv()
    ours = time.process_time() - begin
    child.join()
    here.close()
    return ours + theirs


def measure_messages(charges):
    count = 2000
    simple = fork.SimpleQueue()
    charges["message"] = cpu_of_both(simple.get, lambda: simple.put(SMALL), count) / count

    count = 1000
    queue = fork.Queue()
    charges["queue_message"] = cpu_of_both(queue.get, lambda: queue.put(SMALL), count) / count
    queue.close()
    queue.join_thread()

    size, count = 4 << 20, 6
    data = bytes(size)
    reader, writer = fork.Pipe(duplex=False)
    charges["pipe_byte"] = cpu_of_both(reader.recv_bytes, lambda: writer.send_bytes(data), count) / (size * count)

    big = os.urandom(PAGE) * (size // PAGE)
    charges["pickle_byte"] = median_of(7, lambda: pickle.loads(pickle.dumps(big))) / size


# ---------------------------------------------------------------------------------------------------------------------
# Round trips


def measure_tasks(charges):
    count = 400
    with fork.Pool(1) as pool:
        pool.apply(nothing)
        charges["pool_task"] = median_of(3, lambda: list(pool.imap(nothing, range(count), 1))) / count
        pool.close()
        pool.join()

    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=fork) as executor:
        executor.submit(nothing).result()
        count = 200
        charges["executor_task"] = median_of(3, lambda: list(executor.map(nothing, range(count)))) / count

    with fork.Manager() as manager:
        shared = manager.list()
        len(shared)
        charges["manager_call"] = median_of(201, lambda: len(shared))

    lock = fork.Lock()
    count = 2000

    def lock_and_unlock():
        for _ in range(count):
            lock.acquire()
            lock.release()

    charges["lock"] = median_of(5, lock_and_unlock) / count

    times = [fork.Pipe(duplex=False) for _ in range(2)]
    barrier = fork.Barrier(2)
    children = [fork.Process(target=fight, args=(lock, count, barrier, there)) for _, there in times]
    for child in children:
        child.start()
    charges["lock_shared"] = statistics.mean(here.recv() for here, _ in times)
    for child in children:
        child.join()
    for pipe in times:
        for end in pipe:
            end.close()


def fight(lock, count, barrier, report):
    """Says how much CPU time a lock takes that another process takes all the time, too."""
    barrier.wait()
    begin = time.process_time()
    for _ in range(count):
        lock.acquire()
        lock.release()
    report.send((time.process_time() - begin) / count)


def note_wakes(reader, writer, times):
    for _ in range(times):
        os.read(reader, 1)
        os.write(writer, time.monotonic_ns().to_bytes(8, "little"))


def measure_wake(charges):
    times = 61
    there, ask = os.pipe()
    answer, back = os.pipe()
    child = fork.Process(target=note_wakes, args=(there, back, times))
    child.start()
    taken = []
    for _ in range(times):
        time.sleep(0.001)  # until it sleeps
        begin = time.monotonic_ns()
        os.write(ask, b"!")
        taken.append(int.from_bytes(os.read(answer, 8), "little") - begin)
    child.join()
    for fd in (there, ask, answer, back):
        os.close(fd)
    charges["wake"] = max(statistics.median(taken), 1) / 1e9


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def measure_page_fault(charges):
    size = 16 << 20
    data = bytes(size)
    taken, freed = [], []
    for _ in range(5):
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                try:
                    area.madvise(mmap.MADV_NOHUGEPAGE)
                except OSError:  # a kernel without huge pages
                    pass
            times = []
            for _ in range(2):  # fresh pages, then the same copy into them once they are there
                begin = time.perf_counter()
                area[:] = data
                times.append(time.perf_counter() - begin)
            taken.append(max(times[0] - times[1], 0) / (size // PAGE))
            begin = time.perf_counter()
            area.close()
            freed.append((time.perf_counter() - begin) / (size // PAGE))
    charges["page_free"] = max(statistics.median(freed), 1e-9)
    charges["page_fault"] = max(statistics.median(taken), 1e-9)


def measure_page_copy(charges):
    size = 16 << 20
    area = bytearray(b"x") * size  # there, and this process's own
    here, there = fork.Pipe(duplex=False)
    taken = []
    for _ in range(3):
        child = fork.Process(target=write_to_pages, args=(area, there))
        child.start()
        taken.append(here.recv())
        child.join()
    here.close()
    there.close()
    charges["page_copy"] = max(statistics.median(taken), 1e-9)


def write_to_pages(area, report):
    """Says how many seconds the first write to a page takes longer than the second."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        area[::PAGE] = bytes(len(area) // PAGE)
        times.append(time.perf_counter() - begin)
    report.send(max(times[0] - times[1], 0) / (len(area) // PAGE))


# ---------------------------------------------------------------------------------------------------------------------


def spin():
    """Wall and CPU seconds of 30 ms of work: where other programs fill the cores, the first is the larger."""
    wall, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 0.03:
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def main():
    import json

    charges = {}
    spins = [spin()]
    for measure in (
        measure_starts,
        measure_messages,
        measure_tasks,
        measure_wake,
        measure_page_fault,
        measure_page_copy,
    ):
        measure(charges)
    spins.append(spin())
    wall, cpu = (sum(spin[which] for spin in spins) for which in (0, 1))
    json.dump({"charges": charges, "busy": max(0.0, 1 - cpu / wall)}, sys.stdout)


fork = multiprocessing.get_context("fork")

if __name__ == "__main__":
    main()

"""What recording costs: programs with about 1,000 tasks a second, recorded and not, interleaved.

    python bench/why_overhead.py [--rounds N] [--heavy] [--fixed] [NAME ...]

Each program times its own loop and says the elapsed and the CPU seconds of itself and its children. Shown are the
medians without and with the recording, the median of the quotients of neighbouring runs, by how much more CPU time it
took, and what the recording itself says that its hooks took. The machine should have nothing else to do.

NAME: only programs whose names contain it. `--heavy`: programs with as many messages as go through, instead. `--fixed`:
instead, what a recorded run costs that does nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAD = """
import os, resource, sys, time
import multiprocessing, concurrent.futures

TASKS = int(os.environ.get("TASKS", "1000"))

def work(n):
    # Two milliseconds; two workers do 1,000 a second.
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        for _ in range(1000):
            pass
    return n

def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)

def measured(run):
    before, began = cpu(), time.perf_counter()
    run()
    elapsed = time.perf_counter() - began
    print(elapsed, cpu() - before)

fork = multiprocessing.get_context("fork")
"""

POOL = """
def run():
    with fork.Pool(2) as pool:
        {}
        pool.close()
        pool.join()

if __name__ == "__main__":
    measured(run)
"""

EXECUTOR = """
def run():
    with concurrent.futures.{} as executor:
        {}

if __name__ == "__main__":
    measured(run)
"""
PROCESSES = "ProcessPoolExecutor(2, mp_context=fork)"

PROGRAMS = {
    "Pool.map": POOL.format("pool.map(work, range(TASKS), 1)"),
    "Pool.imap": POOL.format("[None for _ in pool.imap(work, range(TASKS))]"),
    "Pool.apply_async": POOL.format("[one.get() for one in [pool.apply_async(work, (n,)) for n in range(TASKS)]]"),
    "executor.submit": EXECUTOR.format(
        PROCESSES, "[one.result() for one in [executor.submit(work, n) for n in range(TASKS)]]"
    ),
    "executor.map": EXECUTOR.format(PROCESSES, "list(executor.map(work, range(TASKS)))"),
    "as_completed": EXECUTOR.format(
        PROCESSES,
        "[one.result() for one in concurrent.futures.as_completed([executor.submit(work, n) for n in range(TASKS)])]",
    ),
    "threads": EXECUTOR.format(
        "ThreadPoolExecutor(2)",
        "[one.result() for one in [executor.submit(time.sleep, 0.002) for n in range(TASKS)]]",
    ),
    "queues": """
def consume(tasks, results):
    for n in iter(tasks.get, None):
        results.put(work(n))

def run():
    tasks, results = fork.Queue(), fork.Queue()
    processes = [fork.Process(target=consume, args=(tasks, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for n in range(TASKS):
        tasks.put(n)
    for _ in range(TASKS):
        results.get()
    for _ in processes:
        tasks.put(None)
    for process in processes:
        process.join()

if __name__ == "__main__":
    measured(run)
""",
    "joblib": """
import joblib
from joblib.externals.loky import get_reusable_executor

def run():
    joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(work)(n) for n in range(TASKS))
    get_reusable_executor().shutdown(wait=True)  # so that its workers' time is known

if __name__ == "__main__":
    measured(run)
""",
}

HEAVY = {
    "Queue, 60,000 small messages": """
def consume(queue):
    for _ in iter(queue.get, None):
        pass

def run():
    queue = fork.Queue()
    process = fork.Process(target=consume, args=(queue,))
    process.start()
    for n in range(60_000):
        queue.put(n)
    queue.put(None)
    process.join()

if __name__ == "__main__":
    measured(run)
""",
    "SimpleQueue, 100,000": """
def consume(queue):
    for _ in iter(queue.get, None):
        pass

def run():
    queue = fork.SimpleQueue()
    process = fork.Process(target=consume, args=(queue,))
    process.start()
    for n in range(100_000):
        queue.put(n)
    queue.put(None)
    process.join()

if __name__ == "__main__":
    measured(run)
""",
    "Pool.imap, 20,000 empty tasks": POOL.format("[None for _ in pool.imap(abs, range(20_000))]"),
    "executor.submit, 6,000 empty": EXECUTOR.format(
        PROCESSES, "[one.result() for one in [executor.submit(abs, n) for n in range(6000)]]"
    ),
    "Lock, 300,000 times": """
def run():
    lock = fork.Lock()
    for n in range(300_000):
        with lock:
            pass

if __name__ == "__main__":
    measured(run)
""",
    "Manager, 10,000 calls": """
def run():
    with fork.Manager() as manager:
        shared = manager.list()
        for n in range(10_000):
            shared.append(n)

if __name__ == "__main__":
    measured(run)
""",
}


def once(path: Path, saved: Path | None) -> tuple[float, float]:
    """Elapsed and CPU seconds that the program says; `saved`: recorded, into this file."""
    way = [] if saved is None else ["-m", "breakeven._why.supervisor", "--save", str(saved)]
    done = subprocess.run([sys.executable, *way, path], capture_output=True, text=True, check=True, timeout=300)
    elapsed, cpu = map(float, done.stdout.split())
    return elapsed, cpu


def compare(name: str, source: str, rounds: int, folder: Path) -> None:
    from breakeven import _native

    path, saved = folder / "program.py", folder / "recording"
    path.write_text(HEAD + source)
    without, with_, says, records, dropped = [], [], [], [], []
    for at in range(rounds):
        for recorded in (False, True) if at % 2 else (True, False):
            (with_ if recorded else without).append(once(path, saved if recorded else None))
        recorder = json.loads(_native.analyze(saved.read_bytes()))["recorder"]
        says.append(recorder["hook_seconds"])
        records.append(recorder["records"])
        dropped.append(recorder["dropped"])

    def medians(which: int) -> tuple[float, float, float]:
        pairs = [b[which] / a[which] for a, b in zip(without, with_, strict=True)]
        one, other = (statistics.median(run[which] for run in runs) for runs in (without, with_))
        return one, other, statistics.median(pairs) - 1

    elapsed, cpu = medians(0), medians(1)
    more = statistics.median(b[1] - a[1] for a, b in zip(without, with_, strict=True))
    print(
        f"{name:32} elapsed {elapsed[0]:6.3f} {elapsed[1]:6.3f} {elapsed[2]:+6.1%}"
        f"   CPU {cpu[0]:6.3f} {cpu[1]:6.3f} {cpu[2]:+6.1%}   more CPU {more * 1e3:7.1f} ms"
        f"   says {statistics.median(says) * 1e3:7.1f} ms   records {statistics.median(records):9,.0f}"
        f" ({statistics.median(dropped):,.0f} dropped)",
        flush=True,
    )


def fixed(rounds: int, folder: Path) -> None:
    """A program that does nothing: its elapsed seconds from start to exit, as the caller sees it."""
    empty, pools = folder / "empty.py", folder / "pools.py"
    empty.write_text("")
    pools.write_text("import multiprocessing, concurrent.futures.process\n")
    for name, path in (("nothing", empty), ("imports multiprocessing", pools)):
        ways = {
            "plain": [],
            "recorded": ["-m", "breakeven._why.supervisor"],
            "why": ["-m", "breakeven", "why", "--quick", "--no-html", "-q"],
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, before in ways.items():
                begin = time.perf_counter()
                subprocess.run([sys.executable, *before, path], check=True, timeout=60)
                taken[way].append(time.perf_counter() - begin)
        medians = (f"{way} {statistics.median(one) * 1e3:6.1f} ms" for way, one in taken.items())
        print(f"{name:32}", *medians, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {options.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.fixed:
            fixed(options.rounds, Path(folder))
            return
        for name, source in (HEAVY if options.heavy else PROGRAMS).items():
            if not options.names or any(one in name for one in options.names):
                compare(name, source, options.rounds, Path(folder))


if __name__ == "__main__":
    main()

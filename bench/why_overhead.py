"""What recording costs: programs with about 1,000 tasks a second, recorded and not, interleaved.

    python bench/why_overhead.py [ROUNDS]

Each program times its own loop and prints the elapsed seconds and the CPU seconds of itself and its children. Shown are
the medians and the quotient with / without; the machine should have nothing else to do.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HEAD = """
import os, sys, time

def work(n):
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return n

def measured(run):
    before, began = os.times(), time.perf_counter()
    run()
    elapsed, after = time.perf_counter() - began, os.times()
    print(elapsed, sum(after[:4]) - sum(before[:4]))
"""

# Two workers, tasks of two milliseconds: 1,000 a second.
PROGRAMS = {
    "Pool.imap, chunksize 1": """
import multiprocessing

def run():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for _ in pool.imap(work, range(2000)):
            pass
        pool.close()
        pool.join()

if __name__ == "__main__":
    measured(run)
""",
    "executor.submit": """
import concurrent.futures, multiprocessing

def run():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        for future in [executor.submit(work, n) for n in range(2000)]:
            future.result()

if __name__ == "__main__":
    measured(run)
""",
    "Queue to two processes and back": """
import multiprocessing

def consume(tasks, results):
    for n in iter(tasks.get, None):
        results.put(work(n))

def run():
    context = multiprocessing.get_context("fork")
    tasks, results = context.Queue(), context.Queue()
    processes = [context.Process(target=consume, args=(tasks, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for n in range(2000):
        tasks.put(n)
    for _ in range(2000):
        results.get()
    for _ in processes:
        tasks.put(None)
    for process in processes:
        process.join()

if __name__ == "__main__":
    measured(run)
""",
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        for name, source in PROGRAMS.items():
            path = Path(folder) / "program.py"
            path.write_text(HEAD + source)
            ways = {"without": [], "with": ["-m", "breakeven._why.supervisor"]}
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for at in range(rounds):
                for way in sorted(ways, reverse=bool(at % 2)):
                    done = subprocess.run(
                        [sys.executable, *ways[way], path], capture_output=True, text=True, check=True, timeout=300
                    )
                    elapsed, cpu = map(float, done.stdout.split())
                    found[way].append((elapsed, cpu))
            for at, what in enumerate(("elapsed", "CPU")):
                without, with_ = (statistics.median(run[at] for run in found[way]) for way in ("without", "with"))
                pairs = [b[at] / a[at] for a, b in zip(found["without"], found["with"], strict=True)]
                quotient = statistics.median(pairs)
                print(f"{name:34} {what:8} {without:7.3f} s {with_:7.3f} s  {quotient - 1:+7.1%}", flush=True)


if __name__ == "__main__":
    main()

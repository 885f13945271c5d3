"""The command line around `run`: usage, the receipt, installation in the program and its children."""

import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests.support import programs

WHICH = """
import multiprocessing as mp, multiprocessing.queues as qs

def name(x):
    return f"{type(x).__module__}.{type(x).__qualname__}"

def work(q):
    q.put([name(mp.Queue()), name(mp.get_context("spawn").SimpleQueue()), name(q)])

if __name__ == "__main__":
    for method in mp.get_all_start_methods():
        ctx = mp.get_context(method)
        q = ctx.Queue()
        p = ctx.Process(target=work, args=(q,))
        p.start()
        print(method, *q.get(timeout=30))
        p.join()
"""


def breakeven(*arguments, **keywords):
    return programs.python("-m", "breakeven", *arguments, **keywords)


def test_program_and_children_get_our_queues(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WHICH)
    done = programs.run(script)
    assert (done.code, done.err) == (0, "")
    ours = "breakeven.queues.Queue breakeven.queues.SimpleQueue breakeven.queues.Queue"
    assert done.out.splitlines() == [f"{method} {ours}" for method in ("fork", "spawn", "forkserver")]


def test_children_are_reached_where_breakeven_is_not_on_their_path(tmp_path):
    # The program finds breakeven through sys.path only, which a child takes over from its parent late.
    script = tmp_path / "script.py"
    script.write_text("import sys, os\nsys.path[:] = [p for p in sys.path]\n" + WHICH)
    done = programs.run(script, env={"PYTHONPATH": ""})
    assert (done.code, done.err) == (0, "")


def test_early_bound_names(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from multiprocessing import Queue, Pool, SimpleQueue, JoinableQueue\n"
        "import breakeven\nbreakeven.uninstall()\n"
        "from multiprocessing import Queue as Q\n"
        "breakeven.install()\n"
        "print(*[type(f()).__module__ for f in (Queue, SimpleQueue, JoinableQueue, Q)])\n"
    )
    done = programs.run(script)
    assert (done.code, done.out, done.err) == (0, "breakeven.queues " * 3 + "breakeven.queues\n", "")


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise ValueError('x')", 1), ("raise SystemExit(4)", 4), ("raise KeyboardInterrupt", -2)],
    ids=["ends", "raises", "exits", "interrupted"],
)
def test_receipt_is_printed_at_the_end(tmp_path, end, code):
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, multiprocessing as mp, os, sys\n"
        "atexit.register(lambda: print('program atexit', file=sys.stderr))\n"
        "def work(q):\n    q.put(b'x' * 300_000)\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        q = mp.get_context(method).Queue()\n"
        "        p = mp.get_context(method).Process(target=work, args=(q,)); p.start(); q.get(); p.join()\n"
        f"    {end or 'pass'}\n"
    )
    done = programs.run("--receipt", script)
    assert done.code == code
    lines = done.err.splitlines()
    assert sum(line.startswith("breakeven: replaced ") for line in lines) == 1, done.err  # by the main process only
    start = next(i for i, line in enumerate(lines) if line.startswith("breakeven: replaced "))
    assert "program atexit" in lines[:start]
    assert all(line.startswith("breakeven:") for line in lines[start:])
    receipt = "\n".join(lines[start:])
    assert "multiprocessing: Queue, JoinableQueue, SimpleQueue, Lock, RLock" in receipt
    assert "concurrent.futures: ProcessPoolExecutor" in receipt
    counts = {}
    for line in lines[start:]:
        words = line.removeprefix("breakeven:").split()
        if words and words[-1].replace(",", "").isdigit():
            counts[" ".join(words[:-1])] = int(words[-1].replace(",", ""))
    assert counts["messages"] == 2
    assert counts["bytes copied"] >= 600_000


def test_receipt_only_where_asked(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    done = programs.run(script, "--receipt")
    assert (done.out, done.err) == ("['--receipt']\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage"),
        (["run"], "nothing to run"),
        (["run", "-m"], "argument expected"),
        (["run", "-c"], "argument expected"),
        (["run", "--nope", "x.py"], "unknown option"),
        (["runn", "x.py"], "no command"),
        (["why"], "nothing to run"),
        (["bench"], "not there yet"),
        (["top"], "not there yet"),
        (["simulate"], "not there yet"),
    ],
    ids=" ".join,
)
def test_wrong_use(arguments, said):
    done = breakeven(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    done = breakeven(option)
    assert (done.code, done.err) == (0, "")
    assert "breakeven run" in done.out


def test_version():
    import breakeven as module

    done = breakeven("--version")
    assert (done.code, done.out) == (0, f"breakeven {module.__version__}\n")


def test_the_command_is_the_same(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv, sys.path[0], __name__); 1/0")
    command = shutil.which("breakeven", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("breakeven was not installed with its command")
    plain = programs.python(script, "x", cwd=tmp_path)
    done = subprocess.run([command, "run", script, "x"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (plain.code, plain.out, plain.err)


def test_interrupt_from_the_keyboard(tmp_path):
    """SIGINT to the whole group, in the middle of a get: one traceback, killed by the signal, no child left."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing as mp\n"
        "if __name__ == '__main__':\n"
        "    q = mp.Queue()\n"
        "    print('ready', flush=True)\n"
        "    q.get()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "breakeven", "run", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    import os
    import signal

    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "breakeven/cli.py" not in err


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_receipt_counts_every_call_of_a_pool_once(tmp_path, method):
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "        pool.map(abs, range(1000))\n"
        "        pool.map(abs, range(100), chunksize=7)\n"
        "        list(pool.imap(abs, range(50)))\n"
        "        pool.starmap(pow, [(2, 3)] * 49)\n"
        "        pool.apply(abs, (1,))\n"
    )
    done = programs.run("--receipt", script)
    assert done.code == 0, done.err
    (tasks,) = (line for line in done.err.splitlines() if " tasks " in line)
    assert tasks.split()[-1] == "1,200"

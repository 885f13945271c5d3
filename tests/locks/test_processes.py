"""Locks in many processes: how they travel, how long they live, and what interrupts a wait."""

import gc
import os
import signal
import threading
import time

import breakeven
import pytest
from breakeven import _native

from tests.locks import bodies
from tests.support import programs

LIMIT = 30


def locks_in_use():
    gc.collect()
    _native.reap()
    return _native.arena_statistics()["locks"]


def test_ten_thousand_events_go_with_their_last_handle():
    before = locks_in_use()
    events = [breakeven.Event() for _ in range(10_000)]
    assert _native.arena_statistics()["locks"] == before + 10_000
    process = breakeven.get_context("fork").Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    del events
    assert locks_in_use() == before


def test_a_child_keeps_what_its_parent_lets_go(ctx):
    before = locks_in_use()
    lock, told, go_on = ctx.Lock(), ctx.SimpleQueue(), ctx.SimpleQueue()
    process = ctx.Process(target=bodies.acquire_and_tell, args=(lock, told, go_on))
    process.start()
    assert told.get().startswith("<Lock(owner=")
    del lock
    process._args = ()
    go_on.put(None)
    process.join(LIMIT)
    assert process.exitcode == 0
    del process
    assert locks_in_use() == before


def test_what_a_killed_process_held_is_freed(ctx):
    before = locks_in_use()
    lock, told, go_on = ctx.RLock(), ctx.SimpleQueue(), ctx.SimpleQueue()
    process = ctx.Process(target=bodies.acquire_and_tell, args=(lock, told, go_on))
    process.start()
    told.get()
    process.kill()
    process.join()
    del lock, process
    assert locks_in_use() == before


def test_locks_of_one_start_method_in_processes_of_another(method):
    told = breakeven.SimpleQueue()
    lock = breakeven.get_context("fork").Lock()
    lock.acquire()
    process = breakeven.get_context(method).Process(target=bodies.try_to_acquire, args=(lock, told, False))
    process.start()
    assert told.get() is False
    process.join(LIMIT)
    lock.release()


def test_all_kinds_at_once(ctx):
    told = ctx.SimpleQueue()
    condition, event, barrier = ctx.Condition(ctx.Lock()), ctx.Event(), ctx.Barrier(2)
    process = ctx.Process(target=use_all, args=(condition, event, barrier, ctx.BoundedSemaphore(1), told))
    process.start()
    assert told.get() == "waits"
    with condition:
        condition.notify()
    event.set()
    barrier.wait(LIMIT)
    assert told.get() == "done"
    process.join(LIMIT)
    assert process.exitcode == 0


def use_all(condition, event, barrier, semaphore, told):
    with condition, semaphore:
        told.put("waits")
        assert condition.wait(LIMIT)
    assert event.wait(LIMIT)
    barrier.wait(LIMIT)
    told.put("done")


def test_forked_while_another_thread_holds_it():
    ctx = breakeven.get_context("fork")
    lock, rlock, told = ctx.Lock(), ctx.RLock(), ctx.SimpleQueue()
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with lock, rlock:
            held.set()
            go_on.wait(LIMIT)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(LIMIT)
    processes = [ctx.Process(target=bodies.try_to_acquire, args=(each, told, True, LIMIT)) for each in (lock, rlock)]
    for process in processes:
        process.start()
    assert told.empty(), "the child does not have what a thread of its parent holds"
    go_on.set()
    assert [told.get(), told.get()] == [True, True]
    thread.join()
    for process in processes:
        process.join(LIMIT)
        assert process.exitcode == 0


def test_an_rlock_that_the_forking_thread_holds_is_not_the_childs():
    ctx = breakeven.get_context("fork")
    lock, told = ctx.RLock(), ctx.SimpleQueue()
    with lock:
        process = ctx.Process(target=bodies.try_to_release, args=(lock, told))
        process.start()
        assert told.get()[0] == "AssertionError"
        process.join(LIMIT)
        process = ctx.Process(target=bodies.try_to_acquire, args=(lock, told, False))
        process.start()
        assert told.get() is False
        process.join(LIMIT)


def test_a_grandchild(ctx):
    lock, told = ctx.Lock(), ctx.SimpleQueue()
    process = ctx.Process(target=bodies.nested, args=(lock, told))
    process.start()
    assert told.get() == 0
    process.join(LIMIT)
    assert lock.acquire(timeout=LIMIT)


WAITS = {
    "Lock": "x = mp.Lock(); x.acquire(); wait = x.acquire",
    "RLock": "x = mp.RLock(); t = threading.Thread(target=x.acquire); t.start(); t.join(); wait = x.acquire",
    "Semaphore": "wait = mp.Semaphore(0).acquire",
    "Event": "wait = mp.Event().wait",
    "Condition": "x = mp.Condition(); x.acquire(); wait = x.wait",
    "Barrier": "wait = mp.Barrier(2).wait",
    "JoinableQueue": "x = mp.JoinableQueue(); x.put(1); wait = x.join",
}


@pytest.mark.parametrize("kind", WAITS)
def test_ctrl_c_while_waiting(kind, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, threading, breakeven as mp\n"
        f"{WAITS[kind]}\n"
        "pid = os.getpid()\n"
        "def interrupt():\n"
        "    while True:\n"
        "        try: state = open(f'/proc/{pid}/task/{pid}/stat').read().rsplit(')')[1].split()[0]\n"
        "        except OSError: return\n"
        "        if state == 'S' and started.is_set():\n"
        "            break\n"
        "    os.kill(pid, signal.SIGINT)\n"
        "started = threading.Event()\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        "try:\n"
        "    started.set()\n"
        "    wait()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    outcome = programs.python(program)
    assert (outcome.code, outcome.out) == (0, "interrupted\n"), outcome.err


def test_a_signal_handler_that_does_not_raise_lets_the_wait_go_on():
    lock = breakeven.Lock()
    lock.acquire()
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: (seen.append(1), lock.release()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert lock.acquire(timeout=LIMIT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen == [1]
    lock.release()


def test_an_event_that_is_cleared_at_once_has_still_come():
    event, results = breakeven.Event(), []
    threads = [threading.Thread(target=lambda: results.append(event.wait(LIMIT))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(results) < 3:
        event.set()
        event.clear()
    for thread in threads:
        thread.join()
    assert results == [True] * 3


def test_under_installed_names(method):
    program = f"""
import breakeven; breakeven.install()
import multiprocessing as mp, sys
from multiprocessing import synchronize
import breakeven.synchronize as ours

class Derived(synchronize.Lock):
    pass

def child(lock, condition, event, semaphore):
    assert type(lock) is ours.Lock, type(lock)
    with lock, semaphore:
        pass
    with condition:
        condition.notify_all()
    event.set()

if __name__ == "__main__":
    ctx = mp.get_context({method!r})
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"):
        obj = getattr(ctx, name)()
        assert type(obj) is getattr(ours, name), name
        assert isinstance(obj, getattr(synchronize, name))
        assert issubclass(type(obj), getattr(synchronize, name))
        assert type(getattr(synchronize, name)(ctx=ctx)) is getattr(ours, name)
    assert type(ctx.Barrier(2)) is ours.Barrier
    assert type(mp.Lock()) is ours.Lock
    assert Derived.__mro__[1].__module__ == "multiprocessing.synchronize"
    assert Derived(ctx=ctx).acquire()
    args = ctx.Lock(), ctx.Condition(), ctx.Event(), ctx.Semaphore()
    process = ctx.Process(target=child, args=args)
    process.start()
    assert args[2].wait(60)
    process.join()
    assert process.exitcode == 0
    value = ctx.Value("i")
    assert type(value.get_lock()) is ours.RLock
    breakeven.uninstall()
    assert type(ctx.Lock()).__module__ == "multiprocessing.synchronize"
    print("fine")
"""
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"breakeven_locks_{os.getpid()}_{method}.py")
    with open(path, "w") as file:
        file.write(program)
    try:
        outcome = programs.python(path)
    finally:
        os.unlink(path)
    assert (outcome.code, outcome.out) == (0, "fine\n"), outcome.err


def test_misuse_is_named():
    class Forgetful(type(breakeven.Lock())):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().acquire()

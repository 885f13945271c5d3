"""What a program waits for beside its pools and queues: threads of its own, commands, an event loop."""

import pytest

from . import recordings

# Whoever ends a wait sees to it first that it has begun, and lasts.
THREADS = """
    import queue, threading, time

    def when(waits, end):
        def helper():
            while not waits():
                time.sleep(0.001)
            time.sleep(0.01)
            end()
        thread = threading.Thread(target=helper)
        thread.start()
        return thread

    def main():
        event = threading.Event()
        thread = when(lambda: event._cond._waiters, event.set)
        event.wait()
        thread.join()

        tasks = queue.Queue(1)
        thread = when(lambda: tasks.not_empty._waiters, lambda: tasks.put(1))
        tasks.get()
        thread.join()

        tasks.put(2)
        thread = when(lambda: tasks.not_full._waiters, tasks.get)
        tasks.put(3)
        thread.join()

        barrier = threading.Barrier(2)
        thread = when(lambda: barrier.n_waiting, barrier.wait)
        barrier.wait()
        thread.join()

        condition = threading.Condition()
        with condition:
            condition.wait(0.01)
        event.wait(0)

    main()
"""


def test_long_waits_of_threads_for_each_other_have_names_and_places(tmp_path):
    recorded = recordings.record(tmp_path, THREADS)
    assert recorded.outcome.code == 0, recorded.outcome.err
    main = recorded.main
    waits = [poll for poll in recorded.records("poll", main, thread=main["pid"]) if "start" not in poll["site"]]
    found = [(wait["name"], wait["site"].split(":")[-1]) for wait in waits]

    def line(text):
        return f"{recordings.line_of(THREADS, text)} main"

    assert [wait for wait in found if wait[0] != "threading.Event" or wait[1] == line("event.wait()")] == [
        ("threading.Event", line("event.wait()")),
        ("queue.Queue.get", line("tasks.get()")),
        ("queue.Queue.put", line("tasks.put(3)")),
        ("threading.Barrier", line("barrier.wait()")),
        ("threading.Condition", line("condition.wait(0.01)")),
    ]
    assert waits[-1]["flags"] == ["timed_out"]
    assert all(wait["end"] - wait["begin"] >= 1_000_000 and wait["object"] & 0xFFFF == 3 for wait in waits)


@pytest.mark.parametrize("call", ["subprocess.run(command)", "subprocess.Popen(command).wait()"])
def test_waiting_for_a_command_is_waiting_for_its_process(tmp_path, call):
    # It ends when it is waited for.
    (tmp_path / "command.py").write_text(
        "import os, time\n"
        "while 'do_wait' not in open(f'/proc/{os.getppid()}/wchan').read():\n"
        "    time.sleep(0.001)\n"
        "time.sleep(0.01)\n"
        "print(os.getpid())\n"
    )
    source = f"""
        import subprocess, sys

        command = [sys.executable, "command.py"]
        {call}
    """
    recorded = recordings.record(tmp_path, source)
    (join,) = recorded.records("join", recorded.main, name="subprocess")
    assert join["site"].endswith(f":{recordings.line_of(source, call)}")
    assert join["value"] == 0
    assert join["object"] == int(recorded.outcome.out)


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor(1)", "ProcessPoolExecutor(1, mp_context=context)"])
def test_an_event_loops_executors_and_its_waiting(tmp_path, executor):
    source = f"""
        import asyncio, concurrent.futures, multiprocessing, os, time

        def work(main, n):
            while "epoll_wait" not in open(f"/proc/{{main}}/task/{{main}}/wchan").read():
                time.sleep(0.001)
            time.sleep(0.01)
            return n

        async def calls(executor):
            loop = asyncio.get_running_loop()
            for n in range(3):
                print(await loop.run_in_executor(executor, work, os.getpid(), n))

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            with concurrent.futures.{executor} as executor:
                asyncio.run(calls(executor))
    """
    recorded = recordings.record(tmp_path, source)
    assert recorded.outcome.out == "0\n1\n2\n"
    tasks = recorded.records("task")
    assert [task["name"] for task in tasks] == ["work"] * 3
    submits = recorded.records("submit", recorded.main)
    assert sorted(submit["link"] for submit in submits) == sorted(task["link"] for task in tasks)
    place = f":{recordings.line_of(source, 'run_in_executor')} calls"
    assert all(submit["site"].endswith(place) for submit in submits)
    waits = recorded.records("poll", recorded.main, name="asyncio")
    for task in tasks:
        assert any(wait["begin"] < task["end"] < wait["end"] for wait in waits)

"""What the hooks record at the seams of the standard library, for every start method."""

import pytest

from tests.support import methods
from tests.why import recordings

start_methods = pytest.mark.parametrize("method", methods.ALL)

POOL = """
    import multiprocessing, sys

    def double(x):
        return 2 * x

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(2, initializer=print, initargs=("up",)) as pool:
            print(pool.map(double, [1] * 40, chunksize=10))  # map
            print(sorted(pool.imap_unordered(double, range(7))))  # imap
            data = b"x" * 100_000
            print(len(pool.apply(double, (data,))))  # apply
"""


@start_methods
def test_a_pools_tasks_are_followed_from_their_submission_to_their_result(tmp_path, method):
    recorded = recordings.record(tmp_path, POOL, method)
    assert recorded.outcome.err == ""
    assert recorded.outcome.code == 0

    (pool,) = recorded.records("pool")
    assert (pool["name"], pool["value"]) == ("Pool", 2)
    submits = recorded.records("submit")
    assert [submit["value"] for submit in submits] == [4, 7, 1]
    assert {submit["name"] for submit in submits} == {"double"}
    lines = [recordings.line_of(POOL, mark) for mark in ("# map", "# imap", "# apply")]
    assert [int(submit["site"].rsplit(":", 1)[1].split()[0]) for submit in submits] == lines

    tasks = recorded.records("task")
    assert {task["object"] for task in tasks} == {pool["object"]}
    assert sorted(task["value"] for task in tasks) == [1] * 8 + [10] * 4
    assert {task["name"] for task in tasks} == {"double"}
    assert all(task["cpu"] is not None for task in tasks)
    for submit in submits:
        links = {submit["link"] + chunk for chunk in range(submit["value"])}
        for kind, in_worker in [("dump", False), ("load", True), ("task", True), ("dump", True), ("load", False)]:
            found = [
                record["link"]
                for process in recorded.processes
                if (process is not recorded.main) == in_worker
                for record in recorded.records(kind, process, object=pool["object"])
                if record["link"] in links
            ]
            assert sorted(found) == sorted(links), (kind, in_worker)

    large = [record for record in recorded.records("dump") if record["value"] >= 100_000]
    assert [record["name"] for record in large] == ["bytes", "bytes"]  # there, and back twice as long
    assert recorded.records("initializer", name="print")  # a worker for which nothing was left may not have got there
    assert len(recorded.records("close")) == 1


@start_methods
def test_bytes_are_counted_where_they_pass(tmp_path, method):
    recorded = recordings.record(tmp_path, POOL, method)
    sends = {record["link"]: record for record in recorded.records("send", recorded.main) if record["link"]}
    dumps = {record["link"]: record for record in recorded.records("dump", recorded.main) if record["link"]}
    assert sends.keys() == dumps.keys()
    for link, dump in dumps.items():
        assert sends[link]["value"] == dump["value"]
        assert sends[link]["begin"] >= dump["end"]
    received = sum(record["value"] for child in recorded.children() for record in recorded.records("recv", child))
    assert received >= 100_000


EXECUTOR = """
    import concurrent.futures, multiprocessing, sys

    def double(x):
        return 2 * x

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = [executor.submit(double, n) for n in range(5)]  # submit
            print(sum(future.result() for future in concurrent.futures.as_completed(futures)))
            print(list(executor.map(double, range(6), chunksize=3)))  # map
"""


@start_methods
def test_an_executors_tasks_are_followed_from_their_submission_to_their_result(tmp_path, method):
    recorded = recordings.record(tmp_path, EXECUTOR, method)
    assert recorded.outcome.err == ""
    (executor,) = recorded.records("pool")
    assert (executor["name"], executor["value"]) == ("ProcessPoolExecutor", 2)
    submits = recorded.records("submit", object=executor["object"])
    assert [submit["link"] for submit in submits] == [1, 2, 3, 4, 5, 6, 7]
    tasks = recorded.records("task", object=executor["object"])
    assert sorted((task["link"], task["value"]) for task in tasks) == [*((n, 1) for n in range(1, 6)), (6, 3), (7, 3)]
    assert {task["name"] for task in tasks} == {"double"}
    for kind in ("dump", "load"):
        links = sorted(record["link"] for record in recorded.records(kind, object=executor["object"]) if record["link"])
        assert links == sorted([*range(1, 8)] * 2), kind
    assert {record["link"] for record in recorded.records("result", recorded.main)} >= set(range(1, 6))


PROCESSES = """
    import multiprocessing, sys

    def child(queue, numbers, lock):
        with lock:
            queue.put(sum(numbers))

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        queue, lock = context.Queue(), context.Lock()
        children = [
            context.Process(target=child, args=(queue, range(n), lock), name=f"child {n}") for n in range(1, 4)
        ]
        for process in children:
            process.start()  # start
        print(sorted(queue.get() for _ in children))
        for process in children:
            process.join()  # join
        failing = context.Process(target=sys.exit, args=(9,))
        failing.start()
        failing.join()
"""


@start_methods
def test_processes_are_followed_from_their_start_to_their_end(tmp_path, method):
    recorded = recordings.record(tmp_path, PROCESSES, method)
    assert recorded.outcome.err == ""
    starts = recorded.records("start")
    # The kernel says births in clock ticks: those of neighbours may come in any order.
    order = [start["object"] for start in starts]
    children = sorted(recorded.children(method), key=lambda child: order.index(child["pid"]))
    assert len(children) == len(order) == 4
    assert [child["name"] for child in children][:3] == ["child 1", "child 2", "child 3"]
    assert [child["exit_code"] for child in children] == [0, 0, 0, 9]
    assert {child["parent"] for child in children} == {recorded.main["pid"]}
    assert {start["name"] for start in starts} == {method}
    assert starts[0]["site"].split()[0].endswith(f":{recordings.line_of(PROCESSES, '# start')}")
    for child in children:
        (boot,) = recorded.records("boot", child)
        (run,) = recorded.records("run", child)
        assert boot["end"] <= run["begin"]
        assert child["start"] <= boot["begin"]
        assert run["end"] <= child["end"]
        assert len(recorded.records("born", child, object=recorded.main["pid"])) == 1
        assert child["samples"], "at least the one that it took itself"
    joins = [record for record in recorded.records("join", recorded.main) if record["end"] > record["begin"]]
    assert {child["pid"] for child in children} <= {join["object"] for join in joins}
    queue = recorded.records("queue", recorded.main, name="Queue")[0]["object"]
    puts = [record for child in children for record in recorded.records("put", child)]
    assert {(put["object"], put["name"]) for put in puts} == {(queue, "int")}
    assert len(recorded.records("get", recorded.main, object=queue)) == 3
    feeders = [thread for child in children for thread in child["threads"] if thread["role"] == "feeder"]
    assert len(feeders) == 3


MANAGER = """
    import multiprocessing, sys

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with context.Manager() as manager:
            shared = manager.dict()
            for n in range(5):
                shared[n] = n  # call
            print(len(shared))
"""


@start_methods
def test_a_managers_calls_are_seen_on_both_sides(tmp_path, method):
    recorded = recordings.record(tmp_path, MANAGER, method)
    assert recorded.outcome.err == ""
    calls = recorded.records("call", recorded.main)
    assert [call["name"] for call in calls] == ["__setitem__"] * 5 + ["__len__"]
    (server,) = recorded.children(method)
    served = recorded.records("serve", server)
    assert [record["name"] for record in served] == [call["name"] for call in calls]
    assert {record["object"] for record in served} == {call["object"] for call in calls}
    assert [record["link"] for record in served] == [call["link"] for call in calls]
    for call, serve in zip(calls, served, strict=True):
        assert call["begin"] <= serve["begin"] <= call["end"]


def test_each_request_of_a_manager_has_the_number_of_its_call(tmp_path):
    source = """
        import multiprocessing, threading

        def work(shared):
            threads = [threading.Thread(target=lambda: [shared.append(n) for n in range(5)]) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            with context.Manager() as manager:
                shared = manager.list()
                processes = [context.Process(target=work, args=(shared,)) for _ in range(2)]
                for process in processes:
                    process.start()
                work(shared)
                for process in processes:
                    process.join()
                print(len(shared))
    """
    recorded = recordings.record(tmp_path, source)
    assert recorded.outcome.out == "30\n"
    calls = {call["link"]: call for call in recorded.records("call")}
    served = {serve["link"]: serve for serve in recorded.records("serve")}
    assert len(calls) == len(served) == 31
    assert calls.keys() == served.keys()
    for link, call in calls.items():
        assert call["begin"] <= served[link]["begin"] <= served[link]["end"]
        assert call["name"] == served[link]["name"]


LOCKS = """
    import multiprocessing, sys

    def child(lock, event, turn):
        with lock:
            event.set()
            turn.wait()

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        lock, event, turn = context.Lock(), context.Event(), context.Event()
        process = context.Process(target=child, args=(lock, event, turn))
        process.start()
        event.wait()
        assert not lock.acquire(timeout=0.05)
        turn.set()
        with lock:
            print("mine")
        process.join()
"""


@start_methods
def test_waiting_for_a_lock_is_told_from_taking_a_free_one(tmp_path, method):
    recorded = recordings.record(tmp_path, LOCKS, method)
    assert (recorded.outcome.out, recorded.outcome.err) == ("mine\n", "")
    waits = recorded.records("lock_wait", recorded.main, name="Lock", flags=["timed_out"])
    assert [wait["end"] - wait["begin"] >= 50_000_000 for wait in waits] == [True]
    (child,) = recorded.children(method)
    held = recorded.records("lock_hold", child, object=waits[0]["object"])
    assert any(hold["begin"] <= waits[0]["begin"] and hold["end"] >= waits[0]["end"] for hold in held)
    assert recorded.records("lock_wait", recorded.main, name="Event")


def test_threads_have_roles_and_their_tasks_are_seen(tmp_path):
    recorded = recordings.record(
        tmp_path,
        """
        import concurrent.futures, multiprocessing.pool, threading

        def work(n):
            return n

        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            print(list(executor.map(work, range(3))))
        with multiprocessing.pool.ThreadPool(1) as pool:
            print(pool.map(work, range(4), chunksize=2))
        thread = threading.Thread(target=work, args=(1,))
        thread.start()
        thread.join()
        """,
    )
    assert recorded.outcome.err == ""
    roles = sorted(thread["role"] for thread in recorded.main["threads"])
    pool = ["result_handler", "task_handler", "thread_worker", "worker_handler"]
    assert roles == sorted(["main", "thread_worker", "user", *pool])
    assert [record["name"] for record in recorded.records("task")] == ["work"] * 5
    assert [record["name"] for record in recorded.records("pool")] == ["ThreadPoolExecutor", "ThreadPool"]


def test_the_arguments_of_the_first_submissions_of_a_place_are_described(tmp_path):
    recorded = recordings.record(
        tmp_path,
        """
        import functools, multiprocessing

        def work(table, n):
            return n

        if __name__ == "__main__":
            table = bytes(50_000)
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.map(functools.partial(work, table), range(3))
                for n in range(10):
                    pool.apply(work, (table, n))
        """,
    )
    arguments = recorded.records("argument")
    tables = [argument for argument in arguments if argument["name"] == "table: bytes"]
    assert all(argument["value"] >= 50_000 for argument in tables)
    sites = [argument["site"] for argument in tables]
    assert [sites.count(site) for site in dict.fromkeys(sites)] == [1, 3], "one map, and three of ten calls"


def test_processes_without_multiprocessing_are_seen(tmp_path):
    recorded = recordings.record(
        tmp_path,
        """
        import os, subprocess, sys, time

        pid = os.fork()
        if pid == 0:
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        with subprocess.Popen(["sleep", "1"]) as process:
            process.wait()
        sys.exit(5)
        """,
    )
    assert recorded.outcome.code == 5
    assert recorded.data["program"]["exit_code"] == recorded.main["exit_code"] == 5
    (forked,) = recorded.children("fork")
    assert (forked["parent"], forked["exit_code"]) == (recorded.main["pid"], 3)
    (other,) = recorded.children("other")
    assert (other["name"], other["records"]) == ("sleep", [])
    assert other["end"] - other["start"] > 500_000_000


def test_long_imports_are_seen_and_so_is_the_start(tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(0.01)")
    recorded = recordings.record(tmp_path, "import slow\nimport slow")
    slow = recorded.records("import", recorded.main, name="slow")
    assert [record["end"] - record["begin"] >= 10_000_000 for record in slow] == [True]
    (boot,) = recorded.records("boot", recorded.main)
    assert boot["end"] <= slow[0]["begin"]


def test_the_recorders_own_cost_is_noted(tmp_path):
    recorded = recordings.record(tmp_path, POOL, "fork")
    for process in recorded.processes:
        *costs, total = recorded.records("cost", process)
        own = [record for record in process["records"] if record["kind"] not in ("cost", "lock_free")]
        written = len([record for record in own if "cut" not in record["flags"]])
        assert total["name"] == ""
        assert total["link"] in (written, written - 1)  # a worker may be ended before it has counted its last one
        assert sum(cost["value"] for cost in costs) <= total["value"]
        assert total["end"] == process["end"]
    assert recorded.records("cost", recorded.main)[-1]["value"] > 0
    calls = {cost["name"]: cost["link"] for cost in recorded.records("cost", recorded.main)}
    assert calls["submit"] == len(recorded.records("submit"))

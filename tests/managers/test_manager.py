"""The manager itself: when there is a server and when not, and that what a server serves is as before."""

import multiprocessing
import multiprocessing.managers as stdlib
import os

import breakeven
import breakeven.managers
import pytest

LIMIT = 60


def servers():
    return [process for process in multiprocessing.active_children() if process.name.startswith("SyncManager")]


def test_containers_need_no_process():
    with breakeven.Manager() as manager:
        shared = manager.list(range(3))
        assert sum(shared) == 3
        assert manager.dict(a=1)["a"] + manager.Value("i", 2).value + manager.Array("i", [3])[0] == 6
        assert manager.Namespace(x=1).x == 1
        assert not servers()
    assert isinstance(manager, stdlib.SyncManager)


def use_all(manager_things):
    d, value, namespace, lock, queue, shared = manager_things
    with lock:
        d["child"] = shared
        value.value += 1
        namespace.x = 5
    queue.put("done")


def test_everything_else_comes_from_a_server(ctx):
    with ctx.Manager() as manager:
        shared = manager.list([1])
        things = manager.dict(), manager.Value("i", 3), manager.Namespace(), manager.Lock(), manager.Queue(), shared
        assert len(servers()) == 1
        process = ctx.Process(target=use_all, args=(things,))
        process.start()
        process.join(LIMIT)
        assert process.exitcode == 0
        d, value, namespace, _, queue, _ = things
        assert value.value == 4 and namespace.x == 5 and queue.get() == "done"
        d["child"].append("still the shared list")
        assert shared[-1] == "still the shared list"
        assert manager._number_of_objects() == 2, "the lock and the queue"
        del d, value, namespace, queue, things
    assert not servers()


def test_a_list_that_only_a_dict_knows():
    with breakeven.Manager() as manager:
        d = manager.dict()
        d["list"] = manager.list([1])
        d["list"].append(2)
        assert d["list"]._getvalue() == [1, 2]


def test_things_of_the_server_that_only_a_list_knows():
    with breakeven.Manager() as manager:
        shared = manager.list()
        shared.append(manager.dict(a=1))
        shared.append({"inside": [manager.Queue(), manager.Namespace()]})
        shared[0]["b"] = 2
        assert shared[0].copy() == {"a": 1, "b": 2}
        shared[1]["inside"][0].put("x")
        shared[1]["inside"][1].y = 7
        assert shared[1]["inside"][0].get() == "x" and shared[1]["inside"][1].y == 7


def test_states():
    manager = breakeven.managers.SyncManager()
    with pytest.raises(AssertionError):
        manager.list()
    manager.start()
    with pytest.raises(multiprocessing.ProcessError, match="Already started"):
        manager.start()
    shared = manager.list([1])
    manager.shutdown()
    manager.shutdown()
    with pytest.raises(AssertionError):
        manager.list()
    with pytest.raises(AssertionError):
        manager.dict()
    with pytest.raises(multiprocessing.ProcessError, match="shut down"):
        manager.start()
    with pytest.raises(multiprocessing.ProcessError, match="shut down"), manager:
        pass
    manager.join()
    shared.append(2)  # whoever holds a list can go on with it
    assert shared._getvalue() == [1, 2]


def note(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))


def test_an_initializer_runs_in_the_server_when_the_manager_starts(tmp_path):
    manager = breakeven.managers.SyncManager()
    with pytest.raises(TypeError):
        manager.start(5)
    manager.start(note, (tmp_path / "pid",))
    assert (tmp_path / "pid").read_text() == str(servers()[0].pid)
    manager.shutdown()


def test_an_address_makes_it_the_standard_librarys(tmp_path):
    address = str(tmp_path / "socket")
    manager = breakeven.managers.SyncManager(address=address, authkey=b"key")
    manager.start()
    shared = manager.list([1])
    assert type(shared) is stdlib.ListProxy
    assert manager.address == address
    other = breakeven.managers.SyncManager(address=address, authkey=b"key")
    other.connect()
    assert type(other.list([2])) is stdlib.ListProxy
    del shared
    manager.shutdown()


def test_the_address_is_known_when_asked_for():
    with breakeven.Manager() as manager:
        assert not servers()
        assert manager.address
        assert len(servers()) == 1


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, n):
        self.count += n
        return self.count


class OwnManager(breakeven.managers.SyncManager):
    pass


OwnManager.register("Counter", Counter)
OwnManager.register("Words", list, stdlib.ListProxy)


def test_registered_types():
    with OwnManager() as manager:
        counter, words = manager.Counter(), manager.Words("ab")
        assert counter.add(2) == 2 and counter.add(3) == 5
        assert type(words) is stdlib.ListProxy and words[1] == "b"
        shared = manager.list([words])
        del words
        shared[0].append("c")
        assert shared[0]._getvalue() == ["a", "b", "c"]


def test_a_process_from_before_the_first_use(python, tmp_path):
    """A child forked before there was any shared memory finds the list through its parent."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n"
        "def child(end):\n"
        "    shared = end.recv()\n"
        "    shared.append('child')\n"
        "    end.send(shared)\n"
        "ours, theirs = multiprocessing.get_context('fork').Pipe()\n"
        "process = multiprocessing.get_context('fork').Process(target=child, args=(theirs,))\n"
        "process.start()\n"
        "import breakeven\n"
        "shared = breakeven.Manager().list(['parent'])\n"
        "ours.send(shared)\n"
        "print(ours.recv(), shared)\n"
        "process.join()\n"
    )
    done = python(program)
    assert (done.code, done.out) == (0, "['parent', 'child'] ['parent', 'child']\n"), done.err


def test_under_install(python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "def add(totals, slot):\n"
        "    for i in range(1000):\n"
        "        totals[slot] += i\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method(sys.argv[1])\n"
        "    with multiprocessing.Manager() as manager:\n"
        "        totals = manager.list([0] * 4)\n"
        "        processes = [multiprocessing.Process(target=add, args=(totals, slot)) for slot in range(4)]\n"
        "        for process in processes: process.start()\n"
        "        for process in processes: process.join()\n"
        "        print(sum(totals), type(totals).__module__)\n"
    )
    for method in ("fork", "spawn", "forkserver"):
        done = python("-m", "breakeven", "run", program, method)
        assert (done.code, done.out) == (0, "1998000 breakeven.managers\n"), done.err


def test_install_takes_and_gives_back_the_name():
    before = multiprocessing.Manager
    breakeven.install()
    try:
        with multiprocessing.Manager() as manager:
            assert type(manager) is breakeven.managers.SyncManager
        with multiprocessing.get_context("spawn").Manager() as manager:
            assert type(manager) is breakeven.managers.SyncManager
    finally:
        breakeven.uninstall()
    assert multiprocessing.Manager == before

"""Pages that a forked process has for itself: seen, and copied ahead."""

import ctypes
import mmap
import os
import struct

import pytest
from breakeven import _native

SIZE = mmap.PAGESIZE


def own(address):
    return any(start <= address < end for start, end in _native.own_pages())


def packed(*ranges):
    return struct.pack(f"={2 * len(ranges)}Q", *(bound for pair in ranges for bound in pair))


def in_a_fork(test):
    """Run `test` in a fork of this process; it fails by raising."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            test()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def pages():
    """Memory of eight pages that were written to, and its address."""
    try:
        _native.make_own(packed(*_native.own_pages()[:1]))
    except OSError:
        pytest.skip("this kernel does not tell, or cannot copy ahead")
    memory = mmap.mmap(-1, 8 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    # The object that knows the address keeps the mapping from being closed.
    yield memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_a_fork_shares_all_pages_until_it_writes(pages):
    memory, address = pages

    def child():
        assert not own(address)
        memory[0] = b"y"[0]
        assert own(address) and not own(address + SIZE)

    assert own(address)
    in_a_fork(child)
    assert memory[0] == b"x"[0]


def test_pages_are_made_own_without_a_change(pages):
    memory, address = pages

    def child():
        _native.make_own(packed((address + SIZE, address + 3 * SIZE)))
        assert [own(address + page * SIZE) for page in range(4)] == [False, True, True, False]
        assert memory[:] == b"x" * len(memory)

    in_a_fork(child)


def test_what_is_not_there_is_passed_over(pages):
    memory, address = pages

    def child():
        _native.make_own(packed((SIZE, 2 * SIZE), (address, address + SIZE), (1 << 46, (1 << 46) + SIZE)))
        assert own(address)

    in_a_fork(child)
    with pytest.raises(OSError):
        _native.make_own(packed((address + 1, address + 2)))
    with pytest.raises(ValueError, match="8 bytes"):
        _native.make_own(packed((address, address + SIZE))[:-8])

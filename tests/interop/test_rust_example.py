"""A Rust program and this one exchange messages: `crates/wire/examples/echo.rs`, built and run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from breakeven import _native

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")


@pytest.fixture(scope="module")
def program():
    """Path of the built example."""
    command = ["cargo", "build", "--quiet", "--package", "breakeven-wire", "--example", "echo"]
    built = subprocess.run([*command, "--message-format=json"], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr
    messages = map(json.loads, built.stdout.splitlines())
    executables = [m["executable"] for m in messages if m.get("target", {}).get("name") == "echo"]
    assert len(executables) == 1
    return executables[0]


@pytest.fixture
def echo(program):
    """The running example and its two channels."""
    requests, replies = _native.Channel(), _native.Channel(maxsize=3)
    arena_fd, requests_id, requests_event = requests.handle()
    _, replies_id, replies_event = replies.handle()
    words = [arena_fd, requests_id, requests_event, replies_id, replies_event]
    process = subprocess.Popen(
        [program, *map(str, words)], pass_fds=(arena_fd, requests_event, replies_event), stderr=subprocess.PIPE
    )
    try:
        yield requests, replies, process
    finally:
        process.kill()
        process.communicate()
        requests.close()
        replies.close()
        _native.reap()


CASES = [
    (1, 2),
    (-(2**62), -(2**63)),
    (2**62, 2**63),
    (2.25, 4.5),
    ("Straße", "STRASSE"),
    (b"bytes", b"BYTES"),
    (True, True),
    ((1, ("a", None), 2.5), (2, ("A", None), 5.0)),
    ({"k": [1, "x"]}, {"K": [2, "X"]}),
    (range(3, 30, 4), range(3, 30, 4)),
    (list(range(50)), list(range(0, 100, 2))),
    (list(range(100_000)), list(range(0, 200_000, 2))),
    ([0.5] * 10_000, [1.0] * 10_000),
    ([True, None, False] * 2000, [True, None, False] * 2000),
    ([[i, i + 1] for i in range(3000)], [[2 * i, 2 * i + 2] for i in range(3000)]),
    ([f"text {i}" for i in range(3000)], [f"TEXT {i}" for i in range(3000)]),
]


@pytest.mark.parametrize("sent, expected", CASES, ids=lambda value: repr(value)[:20])
def test_each_kind_of_value_comes_back_changed(echo, sent, expected):
    requests, replies, _ = echo
    requests.put(sent)
    answer = replies.get(timeout=30)
    assert answer == expected
    assert type(answer) is type(expected)


def test_many_messages_both_ways_and_a_proper_end(echo):
    requests, replies, process = echo
    for number in range(2000):
        requests.put((number, f"text {number}"))
    for number in range(2000):
        assert replies.get(timeout=30) == (2 * number, f"TEXT {number}")
    requests.put(None)
    assert process.wait(timeout=30) == 0
    assert replies.empty()


def test_what_only_python_can_read_is_said_to_be_so(echo):
    requests, replies, _ = echo
    requests.put({1, 2, 3})
    assert "only Python can read" in replies.get(timeout=30)


def test_a_killed_rust_program_leaves_nothing(echo):
    requests, replies, process = echo
    requests.put(list(range(100_000)))
    replies.get(timeout=30)
    process.kill()
    process.wait()
    _native.reap()
    requests.put(1)
    assert requests.get(timeout=5) == 1

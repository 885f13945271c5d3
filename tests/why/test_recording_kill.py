"""Recordings of processes that are killed at any moment, of rings that are full, and where memory is short."""

import json

import pytest
from breakeven import _native

from tests.support import programs

from . import recordings

KILLED = """
    import multiprocessing, os, random, signal, sys, time

    def work():
        reader, writer = multiprocessing.Pipe(duplex=False)
        lock = multiprocessing.Lock()
        n = 0
        while True:
            n += 1
            with lock:
                writer.send((n, str(n)))
            assert reader.recv() == (n, str(n))

    if __name__ == "__main__":
        chance = random.Random(int(sys.argv[1]))
        context = multiprocessing.get_context("fork")
        for _ in range(8):
            process = context.Process(target=work)
            process.start()
            time.sleep(chance.choice([0.0, 0.002, 0.03, 0.2]) * chance.random())
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert process.exitcode == -signal.SIGKILL
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_leaves_whole_records_in_order(tmp_path, seed):
    recorded = recordings.record(tmp_path, KILLED, seed)
    assert (recorded.outcome.code, recorded.outcome.err) == (0, "")
    children = recorded.processes[1:]
    assert len(children) <= 8  # one that is killed before it says a word may be gone before it is seen
    assert {child["exit_code"] for child in children} <= {-9}
    for child in recorded.children("fork"):
        if not child["records"]:
            continue  # killed before its first
        whole = [record for record in child["records"] if "cut" not in record["flags"]]
        total = recorded.records("cost", child)[-1]
        written = [record for record in whole if record["kind"] not in ("cost", "lock_free")]
        # A record counts when it is there, which is an instruction later.
        assert total["link"] in (len(written), len(written) - 1)
        assert all(child["start"] <= record["begin"] <= record["end"] <= child["end"] for record in whole)
        if child["dropped"]:
            continue
        # Each message was pickled, sent, received and read back, as far as it came.
        counts = [len([one for one in written if one["kind"] == kind]) for kind in ("dump", "send", "recv", "load")]
        assert counts == sorted(counts, reverse=True) and counts[0] - counts[-1] <= 1
        sizes = [[one["value"] for one in written if one["kind"] == kind] for kind in ("send", "recv")]
        assert sizes[0][: len(sizes[1])] == sizes[1]


# The recorder is stopped meanwhile; the program's records find their ring full.
FULL = """
    import multiprocessing, os, signal

    reader, writer = multiprocessing.Pipe(duplex=False)
    os.kill(os.getppid(), signal.SIGSTOP)
    try:
        for n in range(20_000):
            writer.send(n)
            reader.recv()
    finally:
        os.kill(os.getppid(), signal.SIGCONT)
    print(n)
"""


def test_what_finds_the_ring_full_is_counted_and_the_report_says_so(tmp_path):
    saved, report = tmp_path / "recording", tmp_path / "report.json"
    script = recordings.write(tmp_path, FULL)
    options = ("--quick", "--no-html", "--save", saved, "--json", report)
    outcome = programs.python("-m", "breakeven", "why", *options, script, limit=120)
    assert (outcome.code, outcome.out) == (0, "19999\n")
    (main,) = json.loads(_native.recording_to_json(saved.read_bytes()))["processes"]
    kinds = ("dump", "send", "recv", "load")
    kept = [record for record in main["records"] if record["kind"] in kinds]
    # Those that are kept are the first ones.
    assert len(kept) + main["dropped"] == 4 * 20_000
    assert len(kept) <= 32768
    assert [record["kind"] for record in kept[:4]] == ["dump", "send", "recv", "load"]
    told = json.loads(report.read_text())
    assert told["recorder"]["dropped"] == main["dropped"]
    remark = f"{main['dropped']} records found their ring full and are missing."
    assert remark in told["remarks"]
    assert remark in " ".join(outcome.err.split())


def test_a_child_without_memory_for_its_ring_runs_unrecorded(tmp_path):
    source = """
        import multiprocessing, os, resource

        def work():
            os.write(1, b"works\\n")

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            process = context.Process(target=work)
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            # Less than a ring.
            resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 20), resource.RLIM_INFINITY))
            process.start()
            process.join()
            print(process.exitcode)
    """
    recorded = recordings.record(tmp_path, source)
    assert recorded.outcome == programs.Outcome(0, "works\n0\n", "")
    assert recorded.children("fork") == []


def test_a_program_without_memory_for_the_recording_is_not_run(tmp_path):
    source = """
        import resource, subprocess, sys

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        done = subprocess.run(
            [sys.executable, "-m", "breakeven._why.supervisor", "-c", "print('ran')"],
            preexec_fn=limit, capture_output=True, text=True,
        )
        print(done.returncode != 0, "ran" in done.stdout, done.stderr.strip().splitlines()[-1])
    """
    outcome = programs.python(recordings.write(tmp_path, source))
    assert outcome.out.startswith("True False OSError: ")

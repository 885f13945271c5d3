"""Reports in their JSON form, made by hand: what the shows (terminal, HTML, notebook) are tested on.

Each function returns a new dictionary. tests/why/test_html.py holds that the native side reads every one of them.
"""

import copy

CHARGES = {
    "fork": 1.1e-3,
    "forkserver": 4e-3,
    "spawn": 48e-3,
    "thread": 41e-6,
    "message": 5.2e-6,
    "queue_message": 9.9e-6,
    "pipe_byte": 6.5e-10,
    "pickle_byte": 3.9e-10,
    "pool_task": 61e-6,
    "executor_task": 142e-6,
    "wake": 43e-6,
    "page_fault": 2.5e-7,
    "manager_call": 83e-6,
    "lock": 1.4e-7,
    "lock_shared": 4e-7,
    "interpreter": 26e-3,
    "page_copy": 4e-7,
    "page_free": 1e-7,
}

# Names as a hostile program could choose them.
SCRIPT_END = "</script><script>document.title='owned'</script>"
HTML = "<img src=x onerror=\"document.title='owned'\">"
ESCAPES = "\x1b]0;owned\x07\x1b[2Jgone\r\n\x9b31m"
BIDI = "gpj.\u202eexe"
HOSTILE = (SCRIPT_END, HTML, ESCAPES, BIDI, "'\"&`{{ 7*7 }}{% raw %}", "</title>", "<!--", "\u2028")


def share(cause, seconds, whole):
    return {"cause": cause, "core_seconds": seconds, "share": seconds / whole if whole else 0.0}


def shares(**seconds):
    whole = sum(seconds.values())
    return [share(cause, value, whole) for cause, value in sorted(seconds.items(), key=lambda item: -item[1])]


def process(pid, *slices, parent=100, role="worker", method="fork", name=None, exit_code=0):
    """`slices`: (start, end, cause)."""
    by_cause = {}
    for start, end, cause in slices:
        by_cause[cause] = by_cause.get(cause, 0.0) + end - start
    return {
        "pid": pid,
        "parent": parent,
        "name": name or f"ForkPoolWorker-{pid - 100}",
        "role": role,
        "method": method,
        "start": slices[0][0] if slices else 0.0,
        "end": slices[-1][1] if slices else 0.0,
        "exit_code": exit_code,
        "cpu_seconds": by_cause.get("compute", 0.0),
        "delay_seconds": 0.02,
        "minor_faults": 4211,
        "major_faults": 0,
        "voluntary_switches": 812,
        "involuntary_switches": 33,
        "peak_memory": 412_000_000,
        "threads": 4 if role == "main" else 1,
        "blas": [["openblas", 1]],
        "tasks": 10 if role == "worker" else 0,
        "causes": shares(**by_cause),
        "timeline": [{"start": start, "end": end, "cause": cause} for start, end, cause in slices],
    }


def point(workers, seconds, extrapolated=False):
    return {
        "workers": workers,
        "seconds": seconds,
        "low": seconds * 0.9,
        "high": seconds * 1.15,
        "extrapolated": extrapolated,
    }


def fix(kind, seconds, elapsed, where=None, needs_edit=True, measured=None, workers=None):
    return {
        "kind": kind,
        "where": where,
        "predicted_seconds": seconds,
        "low": seconds * 0.85,
        "high": seconds * 1.2,
        "predicted_speedup": elapsed / seconds,
        "explanation": f"What {kind} would change, in a sentence.",
        "needs_edit": needs_edit,
        "workers": workers,
        "measured_seconds": measured,
    }


def serialize():
    """A pool that pickles a large argument for each task: the whole shape of a report."""
    elapsed = 8.2
    main = process(
        100, (0.0, 0.3, "startup"), (0.3, 5.3, "serialize"), (5.3, 7.2, "transfer"), (7.2, 8.2, "compute"),
        parent=0, role="main", method="main", name="MainProcess",
    )  # fmt: skip
    workers = [
        process(pid, (0.2, 0.3, "startup"), (0.3, 6.0, "serialize"), (6.0, 8.0, "compute")) for pid in (101, 102)
    ]
    seconds = {}
    for one in (main, *workers):
        for entry in one["causes"]:
            seconds[entry["cause"]] = seconds.get(entry["cause"], 0.0) + entry["core_seconds"]
    whole = sum(seconds.values())
    causes = shares(**seconds)
    part = {entry["cause"]: entry for entry in causes}
    return {
        "schema": 1,
        "version": "0.1.0",
        "program": {
            "argv": ["mesh.py", "--steps", "40"],
            "python": "3.11.7",
            "directory": "/home/ann/mesh",
            "exit_code": 0,
            "started": 1_795_278_000.0,
            "transport": "plain",
        },
        "cores": 2,
        "elapsed": elapsed,
        "process_seconds": whole,
        "cpu_seconds": 9.4,
        "primary": {
            "cause": "serialize",
            "headline": "Pickling `mesh` takes 5.0 of 8.2 seconds: 210 MB for each of 40 tasks (mesh.py:31).",
            "without_it": 2.9,
        },
        "causes": causes,
        "findings": [
            {
                **part["serialize"],
                "costs_seconds": 5.3,
                "headline": "Pickling `mesh` takes 5.0 of 8.2 seconds: 210 MB for each of 40 tasks (mesh.py:31).",
                "evidence": [
                    "40 tasks carried 8.4 GB in, and 3 kB out.",
                    "Each was pickled in 125 ms by the parent and unpickled in 142 ms by a worker.",
                    "`mesh` was the same object every time.",
                ],
                "places": [
                    {
                        "file": "/home/ann/mesh/mesh.py",
                        "line": 31,
                        "function": "main",
                        "source": "    results = pool.starmap(step, [(mesh, i) for i in range(40)])",
                        "what": "40 tasks of 210 MB",
                    }
                ],
                "advice": "Send `mesh` once to each worker, by the pool's initializer.",
                "sketch": "- with Pool(2) as pool:\n-     pool.starmap(step, [(mesh, i) for i in range(40)])\n"
                "+ with Pool(2, initializer=keep, initargs=(mesh,)) as pool:\n+     pool.map(step, range(40))\n",
            },
            {
                **part["transfer"],
                "costs_seconds": 1.2,
                "headline": "8.4 GB went through pipes of 64 kB.",
                "evidence": ["The parent waited 131,000 times for the readers."],
                "places": [],
                "advice": "What is not sent need not be copied: as above.",
                "sketch": None,
            },
        ],
        "fixes": [
            fix("initializer", 2.4, elapsed, "/home/ann/mesh/mesh.py:31"),
            fix("shared_memory", 2.6, elapsed, "/home/ann/mesh/mesh.py:31"),
            fix("run", 2.8, elapsed, needs_edit=False),
            fix("serial", 4.1, elapsed),
        ],
        "curve": [point(1, 9.9), point(2, 8.3), point(4, 8.4, True), point(8, 9.0, True)],
        "workload": {
            "items": 40,
            "tasks": 40,
            "seconds": 0.1,
            "spread": 0.08,
            "bytes_in": 2.1e8,
            "bytes_out": 75.0,
            "sleep_share": 0.0,
            "outside": 0.2,
            "workers": 2,
        },
        "processes": [main, *workers],
        "charges": dict(CHARGES),
        "recorder": {
            "records": 12_031,
            "dropped": 0,
            "hook_seconds": 0.004,
            "supervisor_seconds": 0.05,
            "overhead": 0.0066,
        },
        "remarks": [],
        "runs": [],
    }


def verified():
    """The same after `--verify` and `--repeat 3`."""
    report = serialize()
    for entry in report["fixes"]:
        if entry["kind"] == "run":
            entry["measured_seconds"] = 3.05
    report["runs"] = [{"elapsed": t, "cpu_seconds": 9.4, "primary": "serialize"} for t in (8.2, 8.4, 8.1)]
    return report


def healthy():
    """Nothing is wrong."""
    report = serialize()
    slices = [(0.0, 0.1, "startup"), (0.1, 8.2, "compute")]
    report["processes"] = [
        process(100, *slices, parent=0, role="main", method="main", name="MainProcess"),
        process(101, *slices),
    ]
    report["causes"] = shares(compute=16.2, startup=0.2)
    report["process_seconds"] = 16.4
    report["primary"] = {
        "cause": "none",
        "headline": "It pays as it is: 1.9 times as fast as one process.",
        "without_it": None,
    }
    report["findings"] = []
    report["fixes"] = [fix("serial", 16.1, 8.2)]
    return report


def killed():
    """A program that was killed while it ran, with records lost."""
    report = serialize()
    report["program"]["exit_code"] = -9
    for entry in report["processes"]:
        entry["exit_code"] = -9
    report["processes"][1]["exit_code"] = None
    report["recorder"]["dropped"] = 1_200
    report["remarks"] = [
        "The program was killed by SIGKILL; what it was doing at that moment counts as begun and not ended.",
        "1,200 records found their ring full.",
    ]
    return report


def many():
    """200 processes of 300 slices each."""
    report = serialize()
    kinds = ("compute", "io_wait", "rpc", "queue_contention")
    for number in range(200):
        slices = [(0.3 + n * 0.02, 0.32 + n * 0.02, kinds[(n + number) % 4]) for n in range(300)]
        report["processes"].append(process(200 + number, *slices))
    seconds = {}
    for one in report["processes"]:
        for entry in one["causes"]:
            seconds[entry["cause"]] = seconds.get(entry["cause"], 0.0) + entry["core_seconds"]
    report["causes"] = shares(**seconds)
    report["process_seconds"] = sum(seconds.values())
    return report


def every_cause():
    """Every cause has a share."""
    report = serialize()
    names = (
        "compute startup serialize transfer queue_contention rpc granularity imbalance oversubscription "
        "serial_fraction gil io_wait memory not_parallel"
    ).split()
    report["causes"] = shares(**{name: 14.0 - number for number, name in enumerate(names)})
    report["processes"] = [
        process(100, *[(float(n), n + 1.0, name) for n, name in enumerate(names)], parent=0, role="main")
    ]
    return report


def serial_only():
    """A program without any parallelism: one process, no workload, no curve."""
    report = healthy()
    report["processes"] = report["processes"][:1]
    report["primary"]["headline"] = "One process, nothing parallel: nothing to say about it."
    report.update(curve=[], workload=None, fixes=[])
    return report


def empty():
    """A program of which nothing was recorded."""
    report = serial_only()
    report["program"] = {
        "argv": [], "python": "", "directory": "", "exit_code": None, "started": 0.0, "transport": "plain",
    }  # fmt: skip
    report.update(
        causes=[],
        processes=[],
        charges=None,
        elapsed=0.0,
        process_seconds=0.0,
        cpu_seconds=0.0,
        recorder=dict.fromkeys(report["recorder"], 0),
        remarks=["No process could be recorded."],
    )
    report["primary"]["headline"] = "Nothing was recorded."
    return report


def hostile():
    """Each string that comes from the program or its output is an attack on whatever shows it."""
    report = copy.deepcopy(serialize())
    everything = " ".join(HOSTILE[:4]) + "".join(HOSTILE[4:])
    report["program"].update(argv=[*HOSTILE], python=everything, directory="/tmp/" + SCRIPT_END)
    report["primary"]["headline"] = everything
    report["remarks"] = [*HOSTILE]
    for finding in report["findings"]:
        finding.update(
            headline=everything, evidence=[*HOSTILE], advice=everything, sketch=f"- {everything}\n+ {everything}"
        )
        finding["places"] = [
            {"file": f"/tmp/{text}.py", "line": 1, "function": text, "source": text, "what": text} for text in HOSTILE
        ]
    for entry in report["fixes"]:
        entry.update(where=f"/tmp/{everything}:3", explanation=everything)
    for entry in report["processes"]:
        entry.update(name=everything, role=everything, method=everything, blas=[[everything, 3]])
    return report


ALL = (serialize, verified, healthy, killed, many, every_cause, serial_only, empty, hostile)

"""The manifest: for each program, what is wrong with it and what should be said about it.

A program takes the name of a variant as its argument: none (or `asked`) is the program as its author asked about
it, `fixed` is the same with the primary cause removed, `serial` the same work without parallelism. A healthy program
has, in place of `fixed`, the alternatives that somebody might propose; none of them gains. All variants print the
same. A second argument divides the sizes, for tests that want only to see it run.

Which cause is the primary one is not a matter of taste: without it the program must take less time by at least the
factor `gain`, and `measure` checks that. Lines that a finding may name end in `# <- here`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
MARK = "# <- here"

# DESIGN section 7.
CAUSES = (
    *("startup", "serialize", "transfer", "queue_contention", "rpc", "granularity", "imbalance", "oversubscription"),
    *("serial_fraction", "gil", "io_wait", "memory", "not_parallel", "none"),
)
FIXES = (
    *("serial", "threads", "asyncio", "chunking", "initializer", "shared_memory", "fewer_workers"),
    *("limit_blas_threads", "pool_reuse", "avoid_manager", "batch_messages", "rebalance", "vectorise", "run"),
    "more_workers",  # ours: the program used fewer than there are cores
    "processes",  # ours: for threads that wait for the interpreter's lock
)

HEALTHY = 1.15
"""An alternative to a healthy program gains less than this factor."""


@dataclass(frozen=True)
class Program:
    """One program of the corpus."""

    name: str
    """Of the file in `programs/`; with a dot, a module that is run with `-m`."""
    primary: str
    """The cause that has to be found first."""
    also: tuple[str, ...] = ()
    """Causes that are really there beside it, so that they may come second."""
    fixes: tuple[str, ...] = ()
    """Kinds of fixes that are right. The one in `fixed` is described by `change`."""
    change: str = ""
    """What the variant `fixed` does."""
    gain: float = 1.3
    """By which factor, at least, `fixed` is faster. (Where the program is healthy: no alternative is, by `HEALTHY`.)"""
    method: str = "fork"
    """The start method, or "threads", or "none"."""
    needs: tuple[str, ...] = ()
    """Packages from outside the standard library."""
    variants: tuple[str, ...] = ("fixed", "serial")
    """Beside `asked`."""
    shrink: int = 10
    """The second argument for a quick run."""
    root: Path = PROGRAMS
    """Where it is."""

    @property
    def healthy(self) -> bool:
        return self.primary == "none"

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.name.split(".")).with_suffix(".py")

    def command(self, variant: str = "", shrink: int = 0) -> list[str]:
        """What comes after `python` (or `breakeven why`), to be run with `root` as the working directory."""
        what = ["-m", self.name] if "." in self.name else [f"{self.name}.py"]
        return [*what, *([variant or "asked"] if variant or shrink else []), *([str(shrink)] if shrink else [])]

    def missing(self) -> list[str]:
        """Packages that this interpreter does not have."""
        return [package for package in self.needs if importlib.util.find_spec(package) is None]

    def marked(self) -> list[str]:
        """`file:line` of the lines that a finding may name."""
        lines = self.path.read_text().splitlines()
        return [f"{self.path.name}:{number}" for number, line in enumerate(lines, 1) if line.endswith(MARK)]


CORPUS: tuple[Program, ...] = (
    # -- startup
    Program(
        "batches_of_processes",
        "startup",
        also=("not_parallel",),
        fixes=("pool_reuse", "fewer_workers", "serial", "run"),
        change="one pool of two workers for all files",
        gain=2,
        method="spawn",
        shrink=6,
    ),
    Program(
        "recycled_workers",
        "startup",
        fixes=("pool_reuse", "initializer", "serial", "run"),
        change="without `maxtasksperchild`",
        gain=1.5,
    ),
    Program(
        "model_in_initializer",
        "startup",
        also=("oversubscription",),
        fixes=("initializer", "fewer_workers", "serial", "shared_memory"),
        change="the model is loaded once, before the fork",
        shrink=40,
    ),
    Program(
        "module_level_loading",
        "startup",
        also=("oversubscription",),
        fixes=("initializer", "fewer_workers", "serial", "run"),
        change="fork: the workers inherit the table",
        gain=1.5,
        method="spawn",
        shrink=40,
    ),
    Program(
        "joblib_short_loop",
        "startup",
        fixes=("serial", "pool_reuse", "threads", "run"),
        change="the plain loop",
        gain=1.5,
        method="loky",
        needs=("joblib",),
    ),
    # -- serialize
    Program(
        "parsed_records",
        "serialize",
        also=("serial_fraction", "transfer"),
        fixes=("serial", "rebalance", "batch_messages", "run"),
        change="the workers count, and send the counts",
        gain=1.5,
        shrink=20,
    ),
    Program(
        "weights_with_each_task",
        "serialize",
        also=("transfer", "serial_fraction"),
        fixes=("initializer", "shared_memory", "serial", "chunking", "run"),
        change="the dict goes to each worker once",
        gain=1.5,
    ),
    Program(
        "method_of_an_object",
        "serialize",
        also=("transfer", "serial_fraction"),
        fixes=("initializer", "shared_memory", "serial", "chunking", "run"),
        change="the object is inherited, not sent",
        gain=1.5,
    ),
    # -- transfer
    Program(
        "camera_frames",
        "transfer",
        also=("serialize", "memory"),
        fixes=("shared_memory", "serial", "threads", "run"),
        change="frames in shared memory",
        gain=2,
        needs=("numpy",),
        shrink=20,
    ),
    Program(
        "recording_pipe",
        "transfer",
        also=("memory", "serialize"),
        fixes=("shared_memory", "serial", "threads", "run"),
        change="samples in shared memory",
        gain=2,
        shrink=6,
    ),
    Program(
        "rendered_tiles",
        "transfer",
        also=("serialize", "memory"),
        fixes=("shared_memory", "serial", "threads", "run"),
        change="the workers write into a shared array",
        gain=1.5,
        needs=("numpy",),
    ),
    # -- queue_contention
    Program(
        "many_producers",
        "queue_contention",
        also=("granularity", "serialize", "transfer", "oversubscription"),
        fixes=("batch_messages", "serial", "run"),
        change="a thousand readings to a message",
        gain=2,
        shrink=50,
    ),
    Program(
        "job_queue",
        "queue_contention",
        also=("granularity", "serialize", "transfer", "oversubscription"),
        fixes=("batch_messages", "serial", "run"),
        change="500 jobs to a message",
        gain=2,
        shrink=50,
    ),
    Program(
        "shared_counter",
        "queue_contention",
        also=("oversubscription", "granularity"),
        fixes=("batch_messages", "serial", "run"),
        change="each process adds its count once",
        gain=1.5,
    ),
    # -- rpc
    Program(
        "manager_counts",
        "rpc",
        also=("queue_contention", "not_parallel"),
        fixes=("avoid_manager", "batch_messages", "serial", "run"),
        change="each process counts for itself first",
        gain=2,
    ),
    Program(
        "settings_from_manager",
        "rpc",
        fixes=("avoid_manager", "initializer", "serial", "run"),
        change="a plain dict",
        gain=2,
    ),
    Program(
        "progress_queue",
        "rpc",
        also=("queue_contention",),
        fixes=("avoid_manager", "batch_messages", "serial", "run"),
        change="one report for each sheet",
        gain=2,
    ),
    # -- granularity
    Program(
        "imap_over_numbers",
        "granularity",
        also=("serialize", "queue_contention", "transfer"),
        fixes=("chunking", "serial", "batch_messages", "vectorise", "run"),
        change="chunksize=1000",
        gain=2,
    ),
    Program(
        "submit_each",
        "granularity",
        also=("serialize", "queue_contention", "transfer"),
        fixes=("chunking", "serial", "batch_messages", "vectorise", "run"),
        change="a task for each thousand points",
        gain=2,
        method="forkserver",
    ),
    Program(
        "chunksize_one",
        "granularity",
        also=("serialize", "queue_contention", "transfer"),
        fixes=("chunking", "serial", "batch_messages", "vectorise", "run"),
        change="starmap's own chunks",
        gain=2,
    ),
    # -- imbalance
    Program(
        "biggest_last",
        "imbalance",
        fixes=("rebalance", "chunking", "run"),
        change="the biggest task first",
        gain=1.2,
        shrink=100,
    ),
    Program(
        "halves_of_a_triangle",
        "imbalance",
        fixes=("rebalance", "chunking", "run"),
        change="every other row",
        gain=1.2,
        shrink=20,
    ),
    Program(
        "chunks_of_sorted_jobs",
        "imbalance",
        fixes=("chunking", "rebalance", "run"),
        change="chunksize=1",
        gain=1.2,
    ),
    # -- oversubscription
    Program(
        "linear_models",
        "oversubscription",
        also=("startup",),
        fixes=("limit_blas_threads", "fewer_workers", "serial", "run"),
        change="two workers with one BLAS thread each",
        gain=2,
        needs=("numpy", "threadpoolctl"),
        shrink=16,
    ),
    Program(
        "matrix_threads",
        "oversubscription",
        fixes=("limit_blas_threads", "fewer_workers", "serial", "run"),
        change="two threads, and BLAS with one",
        gain=1.5,
        method="threads",
        needs=("numpy", "threadpoolctl"),
        shrink=30,
    ),
    Program(
        "simulation_in_step",
        "oversubscription",
        also=("queue_contention", "imbalance", "startup", "granularity"),
        fixes=("fewer_workers", "serial", "run"),
        change="two processes",
        shrink=50,
    ),
    # -- serial_fraction
    Program(
        "generated_inputs",
        "serial_fraction",
        fixes=("rebalance", "serial", "vectorise", "fewer_workers", "run"),
        change="the workers decode",
        shrink=40,
    ),
    Program(
        "merged_in_parent",
        "serial_fraction",
        fixes=("rebalance", "serial", "vectorise", "fewer_workers", "run"),
        change="the workers rank",
        gain=1.2,
    ),
    # -- gil
    Program(
        "prime_threads",
        "gil",
        fixes=("serial", "vectorise", "run", "processes"),
        change="a pool of processes",
        method="threads",
        shrink=50,
    ),
    Program(
        "textstats.letters",
        "gil",
        fixes=("serial", "vectorise", "run", "processes"),
        change="a pool of processes",
        method="threads",
        shrink=50,
    ),
    # -- io_wait
    Program(
        "fetch_with_pool",
        "io_wait",
        fixes=("threads", "asyncio", "run"),
        change="a thread for each page",
        gain=2,
    ),
    Program(
        "socket_readers",
        "io_wait",
        fixes=("threads", "asyncio", "run"),
        change="a thread for each request",
        gain=2,
    ),
    # -- memory
    Program(
        "inherited_objects",
        "memory",
        also=("startup",),
        fixes=("shared_memory", "vectorise", "serial", "threads", "fewer_workers", "initializer", "run"),
        change="one bytes object instead of one for each row",
        shrink=50,
    ),
    Program(
        "fresh_arrays",
        "memory",
        fixes=("shared_memory", "vectorise", "threads", "fewer_workers", "initializer", "run"),
        change="each worker uses its arrays again",
        shrink=50,
    ),
    # -- not_parallel
    Program(
        "join_in_the_loop",
        "not_parallel",
        fixes=("pool_reuse", "rebalance", "serial", "run"),
        change="two at a time",
        shrink=100,
    ),
    Program(
        "get_right_away",
        "not_parallel",
        fixes=("chunking", "rebalance", "serial", "run"),
        change="all submitted before the first get()",
        shrink=100,
    ),
    Program(
        "pool_in_each_call",
        "not_parallel",
        also=("startup",),
        fixes=("pool_reuse", "serial", "run"),
        change="one pool",
        gain=2,
    ),
    Program(
        "locked_work",
        "not_parallel",
        also=("queue_contention",),
        fixes=("rebalance", "serial", "run"),
        change="the lock around the writing only",
        shrink=100,
    ),
    # -- healthy
    Program(
        "chunked_map",
        "none",
        variants=("serial", "one_by_one", "more_workers", "threads"),
        shrink=100,
    ),
    Program(
        "ten_milliseconds_each",
        "none",
        variants=("serial", "chunks"),
        shrink=20,
    ),
    Program(
        "executor_of_big_tasks",
        "none",
        variants=("serial", "more_workers", "threads"),
        method="forkserver",
        shrink=100,
    ),
    Program(
        "hashing_threads",
        "none",
        variants=("serial", "more_threads", "processes"),
        method="threads",
        shrink=20,
    ),
    Program(
        "few_messages",
        "none",
        variants=("serial", "shared_array"),
        shrink=50,
    ),
    Program(
        "plain_script",
        "none",
        variants=("serial",),
        method="none",
    ),
    Program(
        "waiting_threads",
        "none",
        variants=("processes", "fewer_threads"),
        method="threads",
    ),
    Program(
        "signals.spectra",
        "none",
        variants=("serial", "one_by_one", "more_workers"),
        method="spawn",
        needs=("numpy",),
        shrink=100,
    ),
    Program(
        "joblib_grid",
        "none",
        variants=("serial", "batches", "threads"),
        method="loky",
        needs=("joblib",),
        shrink=100,
    ),
)

BY_NAME = {program.name: program for program in CORPUS}

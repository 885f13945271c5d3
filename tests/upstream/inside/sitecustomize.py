"""First on the path of a test run: puts breakeven in place in the interpreters that tests start by themselves.

Those are `python -c ...` and `python script.py`. The helpers of multiprocessing and breakeven, and our own workers, are
left alone: to reach them is breakeven's business.
"""

import os
import sys


def _started_by_a_test():
    for argument in getattr(sys, "orig_argv", [])[1:]:
        if argument.startswith(("from multiprocessing.", "--multiprocessing-fork", "from breakeven", "breakeven")):
            return False
        if argument.endswith("/worker.py"):
            return False
    return True


if os.environ.get("UPSTREAM_WAY", "plain") != "plain":
    import substitute

    substitute.find_extra_tests()
    if _started_by_a_test():
        if substitute.way() == "run":  # these are not under `breakeven run`, but they are part of such a program
            os.environ["UPSTREAM_WAY"] = "install"
            substitute.activate()
            os.environ["UPSTREAM_WAY"] = "run"
        else:
            substitute.activate()

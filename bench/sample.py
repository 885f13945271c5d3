"""One sample: one workload, one rival, once. Run by runner.py in a process of its own; hands its answer over in a
file."""

from __future__ import annotations

import json
import sys
import traceback


def main() -> None:
    answer: dict[str, object]
    order = json.loads(sys.argv[1])
    try:
        from bench.workloads import WORKLOADS, NotOffered

        work = WORKLOADS[order["workload"]]
        rival = work.registry()[order["rival"]]
        try:
            answer = {"metrics": work.run(rival, work.size(rival.name, order["quick"]))}
        except NotOffered as reason:
            answer = {"not_offered": str(reason)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    with open(order["out"], "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()

"""No parallelism at all: a short script that reads, counts and sorts. (What does the tool say about that?)"""

import json
import sys
from collections import Counter

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def records():
    for number in range(150_000 // SHRINK):
        yield json.dumps({"id": number, "name": f"user{number * 31 % 5003}", "score": number % 97})


def asked():
    counts = Counter()
    for line in records():
        record = json.loads(line)
        counts[record["name"]] += record["score"]
    return counts.most_common(3)


serial = asked

if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())

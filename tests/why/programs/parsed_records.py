"""Pool.map over the pieces of a log file. parse() gives a list of records, dicts with dicts in them as json.loads
would. Two workers, and it is slower than calling parse() on each piece in a loop. top shows the *parent* at 100
%."""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PIECES = 12
LINES = 12_000 // SHRINK


def piece(number):
    return [f"{n} GET /items/{n % 977} {n % 5}00 {n * 37 % 8191} host{number}" for n in range(LINES)]


def parse(number):
    records = []
    for line in piece(number):
        n, method, path, status, size, host = line.split()
        records.append(
            {
                "n": n,
                "request": {"method": method, "path": path, "parts": path.split("/")},
                "response": {"status": status, "size": size, "flags": [status, method]},
                "origin": {"host": host, "tags": {"source": host, "kind": method, "code": status}},
            }
        )
    return records


def bytes_by_status(records):
    sizes = {}
    for record in records:
        response = record["response"]
        sizes[response["status"]] = sizes.get(response["status"], 0) + int(response["size"])
    return sizes


def parse_and_count(number):
    return bytes_by_status(parse(number))


def total(counts):
    sizes = {}
    for count in counts:
        for status, size in count.items():
            sizes[status] = sizes.get(status, 0) + size
    return sorted(sizes.items())


def asked():
    with Pool(2) as pool:
        return total([bytes_by_status(records) for records in pool.map(parse, range(PIECES), chunksize=1)])  # <- here


def fixed():
    with Pool(2) as pool:
        return total(pool.map(parse_and_count, range(PIECES), chunksize=1))


def serial():
    return total([parse_and_count(number) for number in range(PIECES)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

"""My class holds a road network and has a method route() that I run in parallel with pool.imap(self.route, ...).
I pass nothing but two integers! Still it is five times slower than the loop. Is it the GIL?"""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
TRIPS = 40


class Network:
    def __init__(self, size):
        self.roads = {node: [(node * 3 + k) % size for k in range(1, 5)] for node in range(size)}
        self.names = {node: f"junction {node}" for node in range(size)}

    def route(self, start):
        """Walk 4,000 steps; the sum of the nodes seen."""
        node, seen = start, 0
        for step in range(4_000):
            node = self.roads[node][(node + step) % 4]
            seen += node
        return seen

    def all_routes(self):
        with Pool(2) as pool:
            return list(pool.imap(self.route, range(TRIPS)))  # <- here


network = None


def route(start):
    return network.route(start)


def asked():
    return sum(Network(30_000 // SHRINK).all_routes())


def fixed():
    global network
    network = Network(30_000 // SHRINK)  # before the fork: the workers inherit it
    with Pool(2) as pool:
        return sum(pool.imap(route, range(TRIPS)))


def serial():
    city = Network(30_000 // SHRINK)
    return sum([city.route(start) for start in range(TRIPS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

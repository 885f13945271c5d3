"""I score documents against a dict of word weights, executor.submit(score, weights, document) for each document.
score() is fast, so why is the whole so slow? The dict does not change. Do I have to put it into shared memory?"""

import sys
from concurrent.futures import ProcessPoolExecutor

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
WORDS = 80_000 // SHRINK
DOCUMENTS = 36

shared = None


def make_weights():
    return {f"term-{n:x}": n * 0.37 % 1 for n in range(WORDS)}


def document(number):
    return [f"term-{(number * 7919 + n * n) % (2 * WORDS):x}" for n in range(8_000)]


def score(weights, number):
    return sum(weights.get(word, 0.0) for word in document(number))


def keep(weights):
    global shared
    shared = weights


def score_shared(number):
    return score(shared, number)


def asked():
    weights = make_weights()
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(score, weights, number) for number in range(DOCUMENTS)]  # <- here
        return sum(future.result() for future in futures)


def fixed():
    with ProcessPoolExecutor(2, initializer=keep, initargs=(make_weights(),)) as executor:
        return sum(executor.map(score_shared, range(DOCUMENTS)))


def serial():
    weights = make_weights()
    return sum([score(weights, number) for number in range(DOCUMENTS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.6f}")

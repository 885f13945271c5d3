"""Every worker has to have the model, so I load it in the initializer of the pool, as all the tutorials say. With
four workers my predictions take longer than with none at all. What is it doing before the first prediction?"""

import json
import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
WORDS = 250_000 // SHRINK

model = None


def stored():
    """The model's file."""
    return json.dumps({f"word{n}": [n % 17, n % 13, n % 7] for n in range(WORDS)})


def load():
    global model
    model = json.loads(stored())


def predict(text):
    return sum(sum(model[word]) for word in text.split() if word in model)


TEXTS = [" ".join(f"word{(start * 977 + n * 131) % 300_000}" for n in range(200)) for start in range(100)]


def asked():
    with Pool(4, initializer=load) as pool:  # <- here
        return sum(pool.map(predict, TEXTS))


def fixed():
    load()  # before the fork: the workers inherit it
    with Pool(2) as pool:
        return sum(pool.map(predict, TEXTS))


def serial():
    load()
    return sum(map(predict, TEXTS))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

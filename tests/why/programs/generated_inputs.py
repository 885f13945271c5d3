"""imap with a generator: the generator reads and decodes the messages, the workers check their signatures. With
Pool(2) I gain nothing, with Pool(8) nothing either. The workers sleep most of the time. Is imap slow?"""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
MESSAGES = 240 // SHRINK


def decode(number):
    state = number
    for _ in range(60_000):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return state


def check(message):
    for _ in range(20_000):
        message = message * 69_069 + 1 & 0x7FFFFFFF
    return message % 1000


def decode_and_check(number):
    return check(decode(number))


def messages():
    for number in range(MESSAGES):
        yield decode(number)  # <- here


def asked():
    with Pool(2) as pool:
        return sum(pool.imap(check, messages()))  # <- here


def fixed():
    with Pool(2) as pool:
        return sum(pool.imap(decode_and_check, range(MESSAGES)))


def serial():
    return sum(map(check, messages()))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

"""I have 24 small files to check and start one process for each, as many at a time as I have cores. Both cores
are busy all the time, but checking all the files in a plain loop takes a fraction of the time. I am on "spawn"
because the same script has to run on a Mac."""

import asyncio  # noqa: F401  as scripts do: for another part of the program
import email.parser
import sys
import unittest.mock  # noqa: F401
import xml.dom.minidom
import zlib
from multiprocessing import get_context

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
FILES = 24 // SHRINK


def read(number):
    headers = "".join(f"X-Part-{n}: {number * n}\n" for n in range(40))
    return f"Subject: file {number}\n{headers}\n<doc><n>{number}</n></doc>"


def check(number):
    message = email.parser.Parser().parsestr(read(number))
    document = xml.dom.minidom.parseString(message.get_payload())
    return zlib.crc32(repr(message.items()).encode() + document.toxml().encode())


def check_into(results, number):
    results[number] = check(number)


def asked():
    ctx = get_context("spawn")
    results = ctx.Array("Q", FILES)
    for first in range(0, FILES, 2):
        batch = [ctx.Process(target=check_into, args=(results, n)) for n in range(first, min(first + 2, FILES))]
        for process in batch:
            process.start()  # <- here
        for process in batch:
            process.join()
    return sum(results)


def fixed():
    with get_context("spawn").Pool(2) as pool:
        return sum(pool.map(check, range(FILES)))


def serial():
    return sum(map(check, range(FILES)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

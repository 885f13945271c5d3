"""Four processes put their readings into one Queue and the main process adds them up. Each reading is just a
number, there is nothing to pickle worth the name, but the throughput is miserable, and it gets worse with more
producers."""

import sys
from multiprocessing import Process, Queue

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PRODUCERS = 4
READINGS = 50_000 // SHRINK


def reading(sensor, n):
    return (sensor * 7919 + n * n) % 1009


def sense(readings, sensor):
    for n in range(READINGS):
        readings.put(reading(sensor, n))  # <- here
    readings.put(None)


def add_up(readings):
    total = missing = 0
    while missing < PRODUCERS:
        value = readings.get()  # <- here
        if value is None:
            missing += 1
        else:
            total += value
    return total


def asked():
    readings = Queue()
    sensors = [Process(target=sense, args=(readings, sensor)) for sensor in range(PRODUCERS)]
    for sensor in sensors:
        sensor.start()
    total = add_up(readings)
    for sensor in sensors:
        sensor.join()
    return total


def sense_in_batches(readings, sensor):
    for first in range(0, READINGS, 1_000):
        readings.put([reading(sensor, n) for n in range(first, min(first + 1_000, READINGS))])
    readings.put(None)


def fixed():
    readings = Queue()
    sensors = [Process(target=sense_in_batches, args=(readings, sensor)) for sensor in range(PRODUCERS)]
    for sensor in sensors:
        sensor.start()
    total = missing = 0
    while missing < PRODUCERS:
        batch = readings.get()
        if batch is None:
            missing += 1
        else:
            total += sum(batch)
    for sensor in sensors:
        sensor.join()
    return total


def serial():
    return sum([reading(sensor, n) for sensor in range(PRODUCERS) for n in range(READINGS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

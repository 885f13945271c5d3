"""One process grabs frames of a camera, puts them in a multiprocessing.Queue, and the main process detects
movement. At 4K it manages a dozen frames a second; detection alone could do hundreds. Both processes are mostly
asleep."""

import sys
from multiprocessing import Process, Queue
from multiprocessing.shared_memory import SharedMemory

import numpy as np

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
FRAMES = 40 // SHRINK
SHAPE = (2160, 3840, 3)


def grab(frame, number):
    """What the camera's driver does: it fills a buffer."""
    frame[number % 8 :: 40] = number * 5 % 256
    return frame


def movement(frame):
    return int(frame[::40, ::64, 0].sum())


def camera(frames):
    buffer = np.zeros(SHAPE, np.uint8)
    for number in range(FRAMES):
        frames.put(grab(buffer, number).copy())  # <- here
    frames.put(None)


def asked():
    frames = Queue(maxsize=4)
    process = Process(target=camera, args=(frames,))
    process.start()
    seen = []
    while (frame := frames.get()) is not None:  # <- here
        seen.append(movement(frame))
    process.join()
    return sum(seen)


def camera_into(memory, free, ready):
    buffer = np.ndarray(SHAPE, np.uint8, memory.buf)
    for number in range(FRAMES):
        free.get()
        grab(buffer, number)
        ready.put(number)
    ready.put(None)


def fixed():
    memory = SharedMemory(create=True, size=int(np.prod(SHAPE)))
    try:
        free, ready = Queue(), Queue()
        process = Process(target=camera_into, args=(memory, free, ready))
        process.start()
        frame, seen = np.ndarray(SHAPE, np.uint8, memory.buf), []
        free.put(True)
        while ready.get() is not None:
            seen.append(movement(frame))
            free.put(True)
        process.join()
        del frame
        return sum(seen)
    finally:
        memory.close()
        memory.unlink()


def serial():
    buffer = np.zeros(SHAPE, np.uint8)
    return sum([movement(grab(buffer, number)) for number in range(FRAMES)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())

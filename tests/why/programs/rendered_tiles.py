"""I render an image tile by tile with Pool.map; each tile comes back as a float64 array of 16 MB and I paste it
into the image. Computing a tile takes 10 ms. The pool version needs far longer than the loop, on two idle cores."""

import sys
from multiprocessing import Pool, RawArray

import numpy as np

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
TILES = 24 // SHRINK
ROWS, COLUMNS = 512, 4096

pixels = None


def fill(tile, number):
    tile[:] = np.linspace(0.0, number + 1.0, COLUMNS)
    tile[:: number + 1] += 1.0


def render(number):
    tile = np.empty((ROWS, COLUMNS))
    fill(tile, number)
    return tile


def brightness(image):
    return float(image[::64, ::64].sum())


def asked():
    image = np.empty((TILES, ROWS, COLUMNS))
    with Pool(2) as pool:
        for number, tile in enumerate(pool.imap(render, range(TILES))):  # <- here
            image[number] = tile
    return brightness(image)


def keep(memory):
    global pixels
    pixels = np.frombuffer(memory).reshape(TILES, ROWS, COLUMNS)


def render_in_place(number):
    fill(pixels[number], number)


def fixed():
    memory = RawArray("d", TILES * ROWS * COLUMNS)
    with Pool(2, initializer=keep, initargs=(memory,)) as pool:
        pool.map(render_in_place, range(TILES))
    return brightness(np.frombuffer(memory).reshape(TILES, ROWS, COLUMNS))


def serial():
    image = np.empty((TILES, ROWS, COLUMNS))
    for number in range(TILES):
        fill(image[number], number)
    return brightness(image)


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.3f}")

"""Main script of every process that runs CPython's tests.

Spawn and forkserver children execute it again, as they do with any program's main script: so what puts breakeven in
place stands at the top, as a user would write it.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
if _here not in sys.path:
    sys.path.insert(0, _here)

import substitute  # noqa: E402

substitute.activate()
substitute.answer_with_stacks()

if __name__ == "__main__":
    import driver

    driver.main()

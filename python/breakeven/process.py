"""`multiprocessing.process` under this name: importing it yields the standard library's own module."""

import sys
from multiprocessing import process as _stdlib
from multiprocessing.process import *  # noqa: F403  (for type checkers; at run time the next line stands)

sys.modules[__name__] = _stdlib

"""`multiprocessing.popen_fork` under this name: importing it yields the standard library's own module."""

import sys
from multiprocessing import popen_fork as _stdlib
from multiprocessing.popen_fork import *  # noqa: F403  (for type checkers; at run time the next line stands)

sys.modules[__name__] = _stdlib

"""`multiprocessing.connection` under this name: importing it yields the standard library's own module."""

import sys
from multiprocessing import connection as _stdlib
from multiprocessing.connection import *  # noqa: F403  (for type checkers; at run time the next line stands)

sys.modules[__name__] = _stdlib

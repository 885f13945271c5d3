"""`breakeven why` against programs whose fault is known.

`programs/` has small programs as people show them when they ask why their parallel program is slow; `corpus.py` says of
each what is wrong with it. `python -m tests.why.measure` shows that this is so: it takes the fix, and measures what it
gains. `python -m tests.why.judge` shows what `breakeven why` makes of them.
"""

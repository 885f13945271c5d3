"""CPython's own tests of multiprocessing and concurrent.futures, run against breakeven.

    make test-upstream            the part that `make test` and CI run
    make test-upstream-all        every interpreter, way in and start method
    python -m tests.upstream --python .venv/bin/python --way install --only 'fork::.*Queue'

The tests come from the `test` package of the interpreter under test; what it does not ship is said, and the rest is
run. A test that does not pass is run again under plain CPython: what fails there too is reported and not counted.
Everything else fails the run, but for what `expected.py` lists with its reason; and an entry of that list which passes
fails it too.

`__main__` is the command line, `plan` says what is run, `runner` runs it and watches for hangs, `verdict` judges.
`inside/` is what runs in the interpreter under test.
"""

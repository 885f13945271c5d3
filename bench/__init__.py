"""Benchmarks: breakeven, the standard library and other libraries in one program, run in turns.

Run `python -m bench --help`; README.md tells how it measures and how to read what comes out.
"""

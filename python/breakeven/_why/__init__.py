"""`breakeven why`: what records a program, and what shows the report. docs/design/why.md tells the whole way."""

import os

# Where breakeven can be imported from, for interpreters that have been started with another path.
HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def entering(module: str, call: str) -> str:
    """Code for such an interpreter: imports a module of this package, then makes the call."""
    return (
        "try:\n"
        f" from breakeven._why import {module}\n"
        "except ModuleNotFoundError:\n"
        " import sys\n"
        f" sys.path.append({HOME!r})\n"
        f" from breakeven._why import {module}\n"
        f"{module}.{call}\n"
    )

"""In which order samples run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def interleave(rivals: Sequence[str], rounds: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Yields (round, rival) so that every rival runs once in each round that it takes part in.

    The order is turned round in every second round (A B C, C B A, A B C ...): with a fixed order, whoever comes second
    would always run on the caches and the clock frequency that the same other rival leaves behind.

    rounds: how many rounds each rival takes part in; those with fewer drop out after the early ones.
    """
    for number in range(max(rounds.values(), default=0)):
        present = [name for name in rivals if number < rounds[name]]
        yield from ((number, name) for name in (reversed(present) if number % 2 else present))

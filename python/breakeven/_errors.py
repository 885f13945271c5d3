"""Exceptions of the native module. Defined in Python, so that they can be pickled by name and sent by a worker."""

from __future__ import annotations

__all__ = ["CorruptMessage", "MemoryLimitError", "StaleBlob"]


class MemoryLimitError(MemoryError):
    """No shared memory for a message: the limit is reached, and nobody is giving memory back.

    Receive faster, bound the queue, or raise the limit with `breakeven.configure(memory_limit=...)` or the environment
    variable `BREAKEVEN_MEMORY_LIMIT` (bytes).
    """


class StaleBlob(LookupError):
    """A published object is gone: its publisher dropped it, or ended."""


class CorruptMessage(ValueError):
    """A message that no sender of this version writes: other versions share the queue, or memory was overwritten."""

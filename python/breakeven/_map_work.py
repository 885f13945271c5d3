"""What the caller of a map, its threads and its helper processes have in common: the items, and how one is run."""

from __future__ import annotations

import sys
from itertools import islice, starmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

# Slices of these are cheap and mean the items at these places; any other object is only iterated over.
_SLICEABLE = frozenset({list, tuple, range, str, bytes, bytearray})
# These are finite, run no code of the user's when iterated over, and cannot be sliced.
_UNORDERED = frozenset({dict, set, frozenset, type({}.keys()), type({}.values()), type({}.items())})


def _sliceable(items: Any) -> bool:
    kind = type(items)
    if kind in _SLICEABLE:
        return True
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        return items.ndim > 0
    array = sys.modules.get("array")
    return array is not None and kind is getattr(array, "array", None)


class Call:
    """A function, and how it is called for one item.

    Args:
        function: the user's.
        star: call `function(*item)` instead of `function(item)`.
        catch: an item's exception is its result.
        retries: how often an item that raised is tried again.
    """

    __slots__ = ("careful", "catch", "function", "retries", "star")

    def __init__(self, function: Callable[..., Any], star: bool, catch: bool = False, retries: int = 0) -> None:
        self.function = function
        self.star = star
        self.catch = catch
        self.retries = retries
        self.careful = catch or retries > 0

    def run(self, items: Iterator[Any]) -> tuple[list[Any] | None, list[tuple[int, BaseException]], Any]:
        """Run these items: (results, caught exceptions by place, what ended it).

        `items` is an iterator with a length hint. The results have None at the places of caught exceptions. What ended
        it is None, or (place, exception); the results are None then, or those before it.
        """
        function = self.function
        if self.careful:
            return self._run_carefully(items)
        before = items.__length_hint__()  # type: ignore[attr-defined]
        try:
            if self.star:
                return list(starmap(function, items)), [], None
            return [function(item) for item in items], [], None
        except BaseException as error:
            return None, [], (before - items.__length_hint__() - 1, error)  # type: ignore[attr-defined]

    def _run_carefully(self, items: Iterator[Any]) -> tuple[list[Any] | None, list[tuple[int, BaseException]], Any]:
        function, star, catch = self.function, self.star, self.catch
        values: list[Any] = []
        caught: list[tuple[int, BaseException]] = []
        for item in items:
            left = self.retries
            while True:
                try:
                    value = function(*item) if star else function(item)
                except Exception as error:
                    if left:
                        left -= 1
                        continue
                    if not catch:
                        return values, caught, (len(values), error)
                    caught.append((len(values), error))
                    value = None
                except BaseException as error:
                    return values, caught, (len(values), error)
                break
            values.append(value)
        return values, caught, None


class Sequence:
    """Items that can be had by their place: given out from both ends."""

    stream = False

    def __init__(self, parts: list[Any], star: bool) -> None:
        """`parts`: one sequence; or several, which are gone through side by side as `zip` does."""
        self.parts = parts
        self.single = len(parts) == 1
        self.total: int = min(map(len, parts))
        self.near = 0
        self.far = self.total
        # A piece of the items that was given out and is to be run by the caller now.
        self.returned: list[tuple[int, int]] = []
        self._iterator: Any = None
        self._reached = 0
        self.star = star

    def batch(self, start: int, stop: int) -> Any:
        """The items at these places."""
        if self.single:
            part = self.parts[0][start:stop]
            # The iterators of these have no length hint.
            return part.tolist() if type(part).__name__ == "array" else part
        return list(zip(*[part[start:stop] for part in self.parts]))  # noqa: B905

    def item(self, index: int) -> Any:
        """One of them, as the function's argument."""
        if self.single:
            return self.parts[0][index]
        return tuple(part[index] for part in self.parts)

    def left(self) -> int:
        """How many have not been given out."""
        return self.far - self.near + sum(stop - start for start, stop in self.returned)

    def take_near(self, count: int) -> tuple[int, int, Any]:
        """(place, number, iterator) of the next items for the caller."""
        if self.returned:
            start, stop = self.returned.pop()
            if stop - start > count:
                self.returned.append((start + count, stop))
                stop = start + count
            return start, stop - start, iter(self.batch(start, stop))
        start = self.near
        stop = min(start + count, self.far)
        self.near = stop
        if self.single and stop == self.total:
            # All that is left: without a copy of it.
            kind = type(self.parts[0])
            if kind is list or kind is tuple:
                iterator: Any = iter(self.parts[0])
                iterator.__setstate__(start)
                return start, stop - start, iterator
        return start, stop - start, iter(self.batch(start, stop))

    def take_far(self, count: int) -> tuple[int, int]:
        """(start, stop) of the last items that have not been given out."""
        stop = self.far
        start = max(self.near, stop - count)
        self.far = start
        return start, stop

    def give_back(self, start: int, stop: int) -> None:
        """These shall be run by the caller next."""
        self.returned.append((start, stop))


class Stream:
    """Items that come one after the other, from any iterable."""

    stream = True

    def __init__(self, parts: list[Any], star: bool) -> None:
        self.single = len(parts) == 1
        self.star = star
        self.total: int | None = None
        if self.single and hasattr(type(parts[0]), "__len__"):
            self.total = len(parts[0])
        self._source: Iterator[Any] = iter(parts[0]) if self.single else zip(*parts)  # noqa: B905
        self.near = 0
        self.ended = False
        self.error: BaseException | None = None  # what the input has raised
        self.current: tuple[int, Any] = (0, ())  # the items that are just being dealt with, and the place of the first
        self.returned: list[tuple[int, list[Any]]] = []

    def take(self, count: int) -> tuple[int, list[Any]]:
        """(place, items) of the next so many; fewer if the input has ended."""
        start = self.near
        items: list[Any] = []
        if not self.ended:
            try:
                items.extend(islice(self._source, count))
            except BaseException as error:
                self.error = error
                self.ended = True
            if len(items) < count:
                self.ended = True
        self.near = start + len(items)
        return start, items

    def take_near(self, count: int) -> tuple[int, int, Any]:
        """(place, number, iterator) of the next items for the caller."""
        if self.returned:
            start, items = self.returned.pop()
            if len(items) > count:
                self.returned.append((start + count, items[count:]))
                items = items[:count]
        else:
            start, items = self.take(count)
        self.current = start, items
        return start, len(items), iter(items)

    def item(self, index: int) -> Any:
        """One of those that are just being dealt with."""
        start, items = self.current
        return items[index - start]

    def give_back(self, start: int, items: list[Any]) -> None:
        """These shall be run by the caller next."""
        self.returned.append((start, items))


def source_of(iterables: tuple[Iterable[Any], ...], star: bool) -> Any:
    """The items of a map: a `Sequence` if they can be had by their places, else a `Stream`."""
    parts: list[Any] = [list(part) if type(part) in _UNORDERED else part for part in iterables]
    if all(map(_sliceable, parts)):
        return Sequence(parts, star)
    return Stream(parts, star)

"""Runs a map: does what the planner says, and tells it what was measured.

The caller of the map drives, in its own thread; there is no other of ours in the background. docs/design/map.md has the
planner's commands and events, and who runs what.
"""

from __future__ import annotations

import sys
import time
from multiprocessing import TimeoutError

from . import _map_threads
from . import _pool_errors as errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._map_work import Call

# How long to wait for one kind of helpers, when there are two.
TURN = 0.001
# So many helpers in a row may die while they start.
STARTS = 3
# How often to look whether helpers still live, when they send nothing.
LOOK = 0.1
# So often in a row a map may look in vain while nobody has anything of it.
VAIN = 50


class Failed(Exception):
    """Internal: an item has raised, and everything before it has run. Arguments: index, exception."""


def note(error: BaseException, source: Any, index: int, item: Any = None) -> None:
    """Say in an exception which item it is about."""
    try:
        if item is None:
            item = source.item(index)
        text = errors._text(item, 200)
    except Exception:
        text = "not kept"
    line = f"breakeven.map: raised for item {index}: {text}"
    try:
        if sys.version_info >= (3, 11):
            error.add_note(line)
        else:
            error.__notes__ = [*getattr(error, "__notes__", ()), line]  # type: ignore[attr-defined]
    except Exception:
        pass  # an exception without a dict


def size_of(value: Any, depth: int = 2) -> float | None:
    """The bytes that sending this value takes, about; None where one cannot see that without pickling it."""
    kind = type(value)
    if kind in (bytes, bytearray, str, memoryview):
        return len(value)
    if kind in (int, float, bool, type(None)):
        return 9.0
    if kind in (list, tuple) and depth:
        if not value:
            return 9.0
        each = size_of(value[0], depth - 1)
        return None if each is None else 9.0 + each * len(value)
    nbytes = getattr(value, "nbytes", None)
    return nbytes if type(nbytes) is int else None


def _finished(planner: Any, elapsed: float, items: int | None, helped: bool) -> None:
    """Keep what there is to be known of a map, for `breakeven.last()` and the next one."""
    try:
        from . import _charges, _plan  # type: ignore[attr-defined]
    except ImportError:
        return
    _plan.remember(planner, elapsed, items)
    if helped:
        _charges.learn(planner)


def _ends_the_map(error: BaseException) -> BaseException:
    """What to raise for such an exception from a helper."""
    if isinstance(error, KeyboardInterrupt):
        # Ctrl-C goes to helpers too, and one traceback is enough.
        error.__cause__ = None
        error.__suppress_context__ = True
    return error


class Run:
    """One map.

    Args:
        call: the function and how to call it.
        source: the items.
        planner: tells what to do.
        make_team: called as `make_team(kind)` when the first helpers of a kind are to be started; returns a team, or
            None if there can be none.
        deadline: `time.perf_counter()` at which the map is broken off; None for never.
        progress: called with the number of items that are done, after each batch and chunk.
        alone: helpers run everything.
    """

    # The most items that run, or are sent, at a stretch.
    most = 1 << 62

    def __init__(
        self,
        call: Call,
        source: Any,
        planner: Any,
        make_team: Callable[[str], Any],
        deadline: float | None = None,
        progress: Callable[[int], object] | None = None,
        alone: bool = False,
    ) -> None:
        self.alone = alone
        self._unsendable: set[int] = set()  # pieces that helpers cannot be sent, by their place
        self.call = call
        self.source = source
        self.planner = planner
        self._make_team = make_team
        self._deadline = deadline
        self._timeout = 0.0
        self._progress = progress
        self._retries = call.retries
        self.teams: dict[str, Any] = {}
        self.given: dict[int, tuple[int, Any]] = {}  # chunks that helpers have: place -> (number, items)
        self.results: list[Any] = []  # of the first items, as far as they are without a gap
        self.pieces: dict[int, list[Any]] = {}  # of others, by place
        self.failure: tuple[int, BaseException, Any] | None = None  # the first item that raised: index, error, item
        self._next_look = 0.0
        self._failed_starts = 0  # helpers in a row that have died before they were ready
        self._start_error: Any = None
        self._sharing = 0
        self._helped = False  # have any helpers been started?
        self._sized = False  # has the planner been told how large items and results are?
        self._vain = 0  # waits in a row that nothing could have ended

    # --- the loop ---

    def to_the_end(self) -> list[Any]:
        """Run everything; returns the results in order, or raises what the first item that raised has raised."""
        began = time.perf_counter()
        try:
            while self.step():
                pass
            for team in self.teams.values():
                team.finish()
            self.teams.clear()
        except BaseException:
            self.abort()
            raise
        finally:
            self.close()
        _finished(self.planner, time.perf_counter() - began, None, self._helped)
        results, pieces = self.results, self.pieces
        for start in sorted(pieces):
            results += pieces[start]
        pieces.clear()
        return results

    def step(self) -> bool:
        """Do one command; False when there are no more."""
        command = self.planner.next(time.perf_counter())
        what = command[0]
        if what == "here":
            self.here(command[1])
        elif what == "send":
            self._send(command[1], command[2])
        elif what == "wait":
            self._wait(command[1])
        elif what == "done":
            return False
        elif what == "take":
            self._take(command[1])
        elif what == "start":
            self._start(command[1], command[2])
        elif what == "probe":
            import _thread

            _thread.start_new_thread(self.planner.probe, ())
        if self.teams:
            for kind, team in self.teams.items():
                for event in team.poll(0):
                    self._happened(kind, event)
            self._look()
        if self.failure is not None:
            self._finish_before_failure()
        if self._deadline is not None:
            self._check_time()
        return True

    def _check_time(self) -> None:
        if self._deadline is not None and time.perf_counter() > self._deadline:
            raise TimeoutError(f"the map has not finished within {self._timeout:g} s")

    def limit_time(self, seconds: float) -> None:
        """Break the map off after so many seconds."""
        self._timeout = seconds
        self._deadline = time.perf_counter() + seconds

    def close(self) -> None:
        """To be called in any case."""
        self.planner.close()
        if self._sharing:
            _map_threads.local.sharing = self._sharing - 1
            self._sharing = 0

    def abort(self) -> None:
        """Break everything off."""
        teams = list(self.teams.values())
        self.teams.clear()
        for team in teams:
            team.abort()

    # --- commands ---

    def here(self, count: int) -> None:
        """Run the next so many items in this thread."""
        source = self.source
        start, count, items = source.take_near(min(count, self.most))
        clock, used = time.perf_counter, time.thread_time
        if source.stream and not count:
            self._input_ended()
            return
        scout = self._scout() if start == 0 and not source.stream else None
        cpu, began = used(), clock()
        try:
            values, caught, ended = self.call.run(items)
        finally:
            wall, cpu = clock() - began, used() - cpu
            if scout is not None:
                scout.dismiss()
                if self._sharing:
                    size = sum(team.size() for team in self.teams.values())
                    _map_threads.local.sharing = max(self._sharing - 1, 1) * (size + 1)
        if not self._sized:
            self._sized = True
            self._look_at_sizes(start, values)
        ran = count if ended is None else ended[0] + 1
        self.planner.ran_here(ran, wall, cpu)
        if ended is not None:
            index, error = ended
            if not isinstance(error, Exception):
                raise error
            self._failed(start + index, error, None, start)
        else:
            self._came(start, count, values, caught)
        if source.stream and source.ended:
            self._input_ended()

    def _scout(self) -> Any:
        """Somebody who looks after the first batch, if the planner wants that."""
        if not self.planner.watch():
            return None
        from ._map_scout import Scout

        return Scout(self)

    def _look_at_sizes(self, start: int, values: Any) -> None:
        """Tell the planner how large the first item and its result are, where one can see that."""
        try:
            item = size_of(self.source.item(start))
        except Exception:
            item = None
        result = size_of(values[0]) if values else None
        if item is not None or result is not None:
            self.planner.sampled(item, result)

    def _input_ended(self) -> None:
        source = self.source
        if source.error is not None:
            error, source.error = source.error, None
            raise error
        if not getattr(source, "told", False):
            source.told = True
            self.planner.exhausted()

    def _send(self, kind: str, count: int) -> None:
        team = self.teams.get(kind)
        source = self.source
        began = time.perf_counter()
        items = None
        if source.returned and (self.alone or (source.ended if source.stream else source.near == source.far)):
            if source.returned[-1][0] in self._unsendable:
                self.here(count)
                return
            start, count, taken = source.take_near(count)
            if source.stream:
                items = list(taken)
        elif source.stream:
            start, items = source.take(min(count, self.most))
            count = len(items)
            if not count:
                self.planner.sent(kind, 0, 0, time.perf_counter() - began)
                self._input_ended()
                return
        else:
            start, stop = source.take_far(count)
            count = stop - start
        self._hand_over(team, start, count, items, began)
        if source.stream and source.ended:
            self._input_ended()

    def _hand_over(self, team: Any, start: int, count: int, items: Any, began: float | None = None) -> None:
        """Give a chunk to helpers. With `began` (a time) the planner is told."""
        kind = team.kind
        payload = items
        if payload is None:
            payload = (
                count if kind == "threads" else None if kind == "fork" else self.source.batch(start, start + count)
            )
        try:
            nbytes = team.send(start, payload, count)
        except Exception as error:
            if errors.may_be_the_users(error):
                raise
            if began is not None:
                self.planner.sent(kind, count, 0, time.perf_counter() - began)
                self.planner.gave_back(kind, count)
            self._unreadable(start, count, items, error)
        else:
            self.given[start] = (count, items)
            if began is not None:
                self.planner.sent(kind, count, nbytes, time.perf_counter() - began)

    def _run_again(self, kind: str, start: int, count: int, items: Any) -> None:
        self.planner.gave_back(kind, count)
        self._give_back(start, count, items)

    def _give_back(self, start: int, count: int, items: Any) -> None:
        if self.source.stream:
            self.source.give_back(start, items)
        else:
            self.source.give_back(start, start + count)

    def _take(self, kind: str) -> None:
        team = self.teams.get(kind)
        taken = team.take() if team is not None else None
        if taken is None:
            self.planner.took_back(kind, 0)
            return
        start = taken[0]
        count, items = self.given.pop(start)
        self._give_back(start, count, items)
        self.planner.took_back(kind, count)

    def _start(self, kind: str, count: int) -> None:
        team = self.teams.get(kind)
        if team is None:
            team = self._make_team(kind)
            if team is None:
                for _ in range(count):
                    self.planner.helper_gone(kind)
                return
            self.teams[kind] = team
            self._helped = True
            if not self._sharing:
                # Maps in the items that run here have only a part of the cores.
                local = _map_threads.local
                before = getattr(local, "sharing", 0)
                self._sharing = before + 1
                local.sharing = max(before, 1) * (count + 1)
        started = team.start(count)
        if started < count:
            for _ in range(count - started):
                self.planner.helper_gone(kind)
            # Whatever the planner makes of that, the map goes on with those that there are.
            if not self.alone:
                self.here(1)
            elif team.size():
                self._send(kind, 1)

    def _wait(self, seconds: float | None) -> None:
        patience = LOOK if seconds is None else min(seconds, LOOK)
        if self._deadline is not None:
            patience = max(0.0, min(patience, self._deadline - time.perf_counter()))
        if self.alone and not any(team.size() for team in self.teams.values()):
            self._replace()
        busy = [kind for kind, team in self.teams.items() if team.outstanding] or list(self.teams)
        if not busy:
            time.sleep(min(patience, 0.001))
            self._check_vain()
            return
        if len(busy) > 1:
            patience = min(patience, TURN)
        for kind in busy:
            happened = self.teams[kind].poll(patience)
            for event in happened:
                self._happened(kind, event)
            if happened:
                self._vain = 0
                return
        self._check_vain()

    def _check_vain(self) -> None:
        """No wait without a way out: where nobody has a chunk or is about to be ready, nothing will ever happen."""
        if self.given or any(team.awaited() for team in self.teams.values()):
            self._vain = 0
            return
        self._vain += 1
        if self._vain >= VAIN:
            raise errors.TaskError(
                "the map waits, though no helper has any of its items; this is a fault of breakeven's, please report "
                f"it with this: helpers {[(kind, team.size()) for kind, team in self.teams.items()]}, "
                f"{len(self.results)} results and {len(self.pieces)} pieces"
            )

    def _replace(self) -> None:
        """All helpers have died, and nobody else is to run the items: start another."""
        if self._failed_starts >= STARTS:
            raise self._start_error
        for team in self.teams.values():
            if team.start(1):
                return
        raise errors.TaskError("no helper for this map can be started")

    def _look(self) -> None:
        """Whether helpers have died that nobody waits for."""
        now = time.perf_counter()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        for kind, team in self.teams.items():
            if kind != "threads":
                for event in team.look():
                    self._happened(kind, event)

    # --- what happens ---

    def _happened(self, kind: str, event: tuple[Any, ...]) -> None:
        what = event[0]
        planner = self.planner
        if what == "ran":
            _, start, values, caught, ended, wall, cpu, nbytes = event
            count, items = self.given.pop(start)
            if self.source.stream:
                self.source.current = start, items
            planner.ran(kind, count, wall, cpu, nbytes, 0.0)
            if ended is not None:
                index, error = ended
                if not isinstance(error, Exception):
                    raise _ends_the_map(error)
                self._failed(start + index, error, items if self.source.stream else None, start)
            else:
                self._came(start, count, values, caught)
        elif what == "up":
            self._failed_starts = 0
            planner.helper_up(kind, time.perf_counter())
        elif what == "gone":
            planner.helper_gone(kind)
            self._gone(event)
        elif what == "unbegun":
            _, start = event
            count, items = self.given.pop(start)
            self._run_again(kind, start, count, items)
        elif what == "lost":
            _, start, begun, death = event
            count, items = self.given.pop(start)
            if self._retries:
                self._retries -= 1
                self._run_again(kind, start, count, items)
                return
            planner.gave_back(kind, count)
            planner.ran_here(begun, 0.0, 0.0)
            self._died(start, count, items, begun, death)
        elif what == "unread":
            _, start, error = event
            count, items = self.given.pop(start)
            planner.gave_back(kind, count)
            self._unreadable(start, count, items, error)
        elif what == "unfit":
            raise event[1]

    def _gone(self, event: tuple[Any, ...]) -> None:
        _, ready, death = event
        if not ready:
            self._failed_starts += 1
            self._start_error = death(None, "starting (is the main module guarded by __name__ == '__main__'?)")

    def _died(self, start: int, count: int, items: Any, begun: int, death: Callable[[int], BaseException]) -> None:
        """A helper has died over an item of a chunk: the results of those before are lost, the others are not begun."""
        if self.source.stream:
            self.source.current = start, items
        if begun < count:
            behind = None if items is None else items[begun:]
            self._give_back(start + begun, count - begun, behind)
        if self.call.catch:
            self._came(start, begun, [None] * begun, [(index, death(start + index)) for index in range(begun)])
        else:
            self._failed(start + begun - 1, death(start + begun - 1), items if self.source.stream else None, start)

    def _unreadable(self, start: int, count: int, items: Any, error: BaseException) -> None:
        """These items cannot be sent: run them here; or, where nothing runs here, find out which of them it is."""
        if not self.alone:
            self._unsendable.add(start)
            self._give_back(start, count, items)
        elif count > 1:
            for index in reversed(range(count)):
                self._give_back(start + index, 1, items[index : index + 1] if self.source.stream else None)
        else:
            if not isinstance(error, Exception):
                raise error
            if self.call.catch:
                self.planner.ran_here(1, 0.0, 0.0)
                self._came(start, 1, [None], [(0, error)])
            else:
                self._failed(start, error, items if self.source.stream else None, start)

    def _came(self, start: int, count: int, values: Any, caught: Any) -> None:
        for index, error in caught:
            note(error, self.source, start + index)
            values[index] = error
        results = self.results
        if start == len(results):
            if len(values) > len(results):
                # The long one keeps its place: its references are not counted again.
                if results:
                    values[0:0] = results
                self.results = values
            else:
                results += values
        else:
            self.pieces[start] = values
        if self._progress is not None:
            self._progress(count)

    def _failed(self, index: int, error: BaseException, items: Any, start: int) -> None:
        if self.failure is None or index < self.failure[0]:
            item = None
            try:
                item = self.source.item(index) if items is None else items[index - start]
            except Exception:
                pass
            self.failure = (index, error, item)

    def _finish_before_failure(self) -> None:
        """The loop would have raised what the first item in order raises: run all before it, and raise that."""
        source = self.source
        size = 1
        while True:
            assert self.failure is not None
            limit = self.failure[0]
            for kind, team in self.teams.items():
                for event in team.poll(0):
                    self._late(kind, event)
            limit = self.failure[0]
            self._forget_behind(limit)
            if self._any_before(limit):
                if not self.alone:
                    self._run_before(limit, size)
                    size = min(2 * size, 1024)
                elif not self._send_before(limit):
                    self._wait_late()
            elif any(start < limit for start in self.given):
                self._wait_late()
            else:
                break
            self._check_time()
        index, error, item = self.failure
        note(error, source, index, item)
        raise error

    def _forget_behind(self, limit: int) -> None:
        """Chunks in the channels and pieces that were given back are not wanted if they are behind the failure."""
        source = self.source
        for team in self.teams.values():
            # In order, so that what is in front comes back as well: the caller has time for it now.
            if self.alone and not any(start >= limit for start in self.given):
                continue
            while (taken := team.take()) is not None:
                self._give_back(taken[0], *self.given.pop(taken[0]))
        source.returned[:] = [piece for piece in source.returned if piece[0] < limit]

    def _any_before(self, limit: int) -> bool:
        source = self.source
        return bool(source.returned) or (not source.stream and source.near < min(limit, source.far))

    def _run_before(self, limit: int, size: int) -> None:
        source = self.source
        start = source.returned[-1][0] if source.returned else source.near
        start, _, items = source.take_near(max(1, min(size, limit - start)))
        batch = list(items)
        if start + len(batch) == source.total:
            del batch[limit - start :]
        values, _, ended = self.call.run(iter(batch))
        if ended is not None:
            if not isinstance(ended[1], Exception):
                raise ended[1]
            self._failed(start + ended[0], ended[1], batch, start)
        del values

    def _send_before(self, limit: int) -> bool:
        """Give helpers a chunk of what is before the failure; False if they have enough, or there are none."""
        source = self.source
        for kind, team in self.teams.items():
            if kind == "threads" and len(self.teams) > 1:
                continue
            if team.outstanding >= 2 * max(1, team.size()):
                return False
            if not team.size():
                self._replace()
            if source.returned:
                start, count, items = source.take_near(64)
                if not source.stream:
                    items = None
            else:
                source.far = min(limit, source.far)
                start, stop = source.take_far(max(1, min(64, (source.far - source.near) // (4 * team.size()))))
                count, items = stop - start, None
            self._hand_over(team, start, count, list(items) if items is not None else None)
            return True
        return False

    def _wait_late(self) -> None:
        for kind, team in list(self.teams.items()):
            if team.outstanding:
                for event in team.poll(TURN if len(self.teams) > 1 else LOOK):
                    self._late(kind, event)

    def _late(self, kind: str, event: tuple[Any, ...]) -> None:
        """What happens after an item has raised: only what comes before it counts."""
        what = event[0]
        if what == "ran":
            _, start, _, _, ended, _, _, _ = event
            _, items = self.given.pop(start)
            if ended is not None:
                if not isinstance(ended[1], Exception):
                    raise _ends_the_map(ended[1])
                self._failed(start + ended[0], ended[1], items if self.source.stream else None, start)
        elif what == "unbegun":
            self._give_back(event[1], *self.given.pop(event[1]))
        elif what == "lost":
            _, start, begun, death = event
            count, items = self.given.pop(start)
            self._died(start, count, items, begun, death)
        elif what == "gone":
            self._gone(event)
        elif what == "unread":
            _, start, error = event
            count, items = self.given.pop(start)
            self._unreadable(start, count, items, error)


class Flow(Run):
    """A map whose results are taken one after the other: `imap` and `imap_unordered`.

    Its call catches exceptions; they are raised when it is their turn.
    """

    # So many items may have been given out and not taken, besides what goes with the size of chunks.
    AHEAD = 64
    most = 4096

    def prepare(self, ordered: bool, raising: bool) -> None:
        """To be called first. `raising`: exceptions of items are raised, not given as results."""
        self._ordered = ordered
        self._raising = raising
        self._raised: dict[int, BaseException] = {}
        self._arrived: list[int] = []  # places of pieces, in the order in which they came
        self._largest = 1
        self._taken = 0  # items whose results have been taken

    def values(self) -> Any:
        """The results, as a generator; closing it breaks the map off."""
        pieces, raised = self.pieces, self._raised
        ended = False
        turn = 0
        began = time.perf_counter()
        try:
            while True:
                while self._arrived if not self._ordered else turn in pieces:
                    start = turn if self._ordered else self._arrived.pop(0)
                    piece = pieces.pop(start)
                    if raised:
                        for index, value in enumerate(piece, start):
                            if self._raising and index in raised:
                                raise raised[index]
                            yield value
                    else:
                        yield from piece
                    self._taken += len(piece)
                    turn += len(piece)
                if ended:
                    return
                if self.source.near - self._taken > self.AHEAD + 4 * self._largest * self._parties() and self.given:
                    self._wait(None)
                    self._look()
                else:
                    ended = not self.step()
                    if ended:
                        for team in self.teams.values():
                            team.finish()
                        self.teams.clear()
                        _finished(self.planner, time.perf_counter() - began, self.source.near, self._helped)
        finally:
            self.abort()
            self.close()

    def _parties(self) -> int:
        return 1 + sum(team.size() for team in self.teams.values())

    def _came(self, start: int, count: int, values: Any, caught: Any) -> None:
        for index, error in caught:
            self._raised[start + index] = error
            if not self._raising:
                note(error, self.source, start + index)
                values[index] = error
            else:
                note(error, self.source, start + index)
        self._largest = max(self._largest, count)
        if values:
            self.pieces[start] = values
            if not self._ordered:
                self._arrived.append(start)
        if self._progress is not None:
            self._progress(count)

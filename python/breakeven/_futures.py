"""The futures of `ProcessPoolExecutor`: `concurrent.futures.Future` objects that cost little while nobody waits.

A standard future has a condition of its own, which is the better part of what a short call costs. Here it is made when
somebody needs it: `concurrent.futures.wait`, `as_completed`, or a thread that waits while others do the same.

Who may change what: from PENDING to RUNNING or CANCELLED a future goes under the engine's lock. What ends it is written
under its condition if it has one, as `wait` and `as_completed` expect, and else under the engine's lock. Which of the
two is settled once, by `_claim`: it becomes the condition or the mark that there will be none, whichever is first. A
condition is never awaited under the engine's lock.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future, TimeoutError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
    InvalidStateError,
)

__all__ = ["CallFuture", "settle"]

# Stands in the place of a future's condition once it is ended without one.
_SETTLED = object()

_DONE = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})

# So many threads may wait for the engine's news; more would only wake each other, and wait for their own future's.
_WAITERS = 4


class CallFuture(Future):
    """The outcome of a call that was submitted to a `ProcessPoolExecutor`."""

    # What a future is before anything has happened to it; so making one need not set any of it.
    _state = PENDING
    _result = None
    _exception = None

    _heard = False  # it has callbacks
    limit = None  # seconds that the call may take
    kills = False  # what cancel() does by default with a running call

    # Until it is done, it holds the engine, the published function and its arguments.
    def __init__(self, engine, handle, args, keywords):
        self._engine = engine
        self.handle = handle
        self.args = args
        self.keywords = keywords

    def __getattr__(self, name):
        names = self.__dict__
        if name == "_condition":
            made = threading.Condition()
            if names.setdefault("_claim", made) is _SETTLED:
                # Its outcome is being written, without a condition: only a few instructions.
                while self._state not in _DONE:
                    time.sleep(0)
                return names.setdefault(name, made)
            return names.setdefault(name, names["_claim"])
        if name == "_waiters" or name == "_done_callbacks":
            return names.setdefault(name, [])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _shared(self):
        """Has it a condition, that it must be ended under? If not, it will have none before it is done."""
        return self.__dict__.setdefault("_claim", _SETTLED) is not _SETTLED

    # What the engine needs to know of a call.

    def begin(self):
        """It is sent now; False if it was cancelled. Under the engine's lock."""
        if self._state != PENDING:
            return False
        self._state = RUNNING
        return True

    def unwanted(self):
        """Is its worker to be stopped, because it was cancelled while running?"""
        # Not when it has finished: its worker may be about to begin another call, which nobody has cancelled.
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def describe(self):
        """The call as text, for errors."""
        from ._pool_errors import _text

        handle = self.handle
        if handle is None:
            return "a call"
        name = getattr(handle.function, "__qualname__", None) or _text(handle.function, 60)
        parts = [_text(value, 40) for value in self.args[:4]]
        parts.extend(f"{key}={_text(value, 40)}" for key, value in list(self.keywords.items())[:4])
        if len(self.args) > 4 or len(self.keywords) > 4:
            parts.append("...")
        return f"{name}({', '.join(parts)})"

    def _let_go(self):
        """Nothing of a call that is done is kept alive by its future."""
        self._engine = self.handle = self.args = self.keywords = None

    # --- the contract of Future ---

    def cancel(self, *, running=None):
        """Cancel the call if it has not begun; True if it will not run (or is cancelled already).

        Args:
            running: True stops it even if it has begun: its worker is killed and replaced, other calls are not
                touched, and the future is cancelled at once. By default what the executor's options say
                (`ProcessPoolExecutor.with_options`), which is not to.
        """
        engine = self._engine
        if engine is None:
            return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)
        if running is None:
            running = self.kills
        with engine.lock:
            state = self._state
            if state in _DONE:
                return state != FINISHED
            if state == RUNNING and not running:
                return False
            shared = self._shared()
            self._state = CANCELLED if shared else CANCELLED_AND_NOTIFIED
        if state == RUNNING:
            engine.stop_call(self)
        else:
            self._let_go()
        if shared:
            with self._condition:
                self._state = CANCELLED_AND_NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
                self._condition.notify_all()
        engine.tell_waiting()
        self._invoke_callbacks()
        return True

    def cancelled(self):
        """Was it cancelled?"""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self):
        """Is it on its way to a worker, or in one?"""
        return self._state == RUNNING

    def done(self):
        """Was it cancelled, or has it finished?"""
        return self._state in _DONE

    def add_done_callback(self, fn):
        """Call `fn(future)` when it is done, or now if it is; what that raises is logged, and the next one called."""
        engine = self._engine
        if engine is not None:
            with engine.lock:
                self._heard = True
                if "_claim" not in self.__dict__ and self._state not in _DONE:
                    self._done_callbacks.append(fn)
                    return
        Future.add_done_callback(self, fn)

    def _invoke_callbacks(self):
        if not self._heard:
            return
        interrupt = None
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException as error:
                # In the standard executor one that is not an Exception ends the thread that handles results.
                LOGGER.exception("exception calling callback for %r", self)
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    interrupt = error  # Ctrl-C
        if interrupt is not None:
            raise interrupt

    def result(self, timeout=None):
        """The call's result; raises its exception, CancelledError, or TimeoutError after so many seconds."""
        try:
            if self._state != FINISHED:
                self._wait(timeout)
            if self._exception is None:
                return self._result
            raise self._exception
        finally:
            del self  # the traceback must not hold the future that holds the exception

    def exception(self, timeout=None):
        """The exception that the call raised, or None; raises CancelledError, or TimeoutError."""
        if self._state != FINISHED:
            self._wait(timeout)
        return self._exception

    def _wait(self, timeout):
        deadline = None if timeout is None else time.monotonic() + timeout
        engine = self._engine
        if engine is not None and not self.done() and engine.may_wait(_WAITERS):
            engine.wait(self.done, timeout)
        if not self.done():
            with self._condition:
                while not self.done():
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise TimeoutError()
                    self._condition.wait(left)
        if self._state != FINISHED:
            raise CancelledError()

    def set_running_or_notify_cancel(self):
        """For executors."""
        engine = self._engine
        if engine is not None:
            with engine.lock:
                if self._state == PENDING:
                    self._state = RUNNING
                    return True
        if self._state == CANCELLED_AND_NOTIFIED:
            return False
        return Future.set_running_or_notify_cancel(self)

    def set_result(self, result):
        """For executors."""
        Future.set_result(self, result)
        self._let_go()

    def set_exception(self, exception):
        """For executors."""
        Future.set_exception(self, exception)
        self._let_go()


def settle(engine, calls, values, errors):
    """Tell futures their outcomes: `values` in order, but for those whose index is in the dict `errors`.

    Runs callbacks, so not under the engine's lock. Doing it twice does no harm.
    """
    told = []  # futures with callbacks
    slow = []  # futures that somebody may be waiting for
    with engine.lock:
        if errors:
            for index, call in enumerate(calls):
                if call._state != RUNNING:
                    call._let_go()  # it was cancelled while it ran
                    continue
                error = errors.get(index)
                if call._shared():
                    slow.append((call, None if error is not None else values[index], error))
                    continue
                if error is None:
                    call._result = values[index]
                else:
                    call._exception = error
                call._state = FINISHED
                call._let_go()
                if call._heard:
                    told.append(call)
        else:
            for call, value in zip(calls, values, strict=True):
                if call._state != RUNNING:
                    call._let_go()
                    continue
                if call.__dict__.setdefault("_claim", _SETTLED) is not _SETTLED:
                    slow.append((call, value, None))
                    continue
                call._result = value
                call._state = FINISHED
                call._engine = call.handle = call.args = call.keywords = None
                if call._heard:
                    told.append(call)
    for call, value, error in slow:
        try:
            if error is None:
                call.set_result(value)
            else:
                call.set_exception(error)
        except InvalidStateError:
            pass  # it was cancelled meanwhile
    for call in told:
        call._invoke_callbacks()

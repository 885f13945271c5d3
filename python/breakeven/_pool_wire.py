"""What travels between a pool and its workers: message forms, functions, repeated arguments, guarded pickles.

Task messages (parent to worker) are tuples that begin with one int, the *head*, and the key of the function:

    CALL    (head, *key, *args)            one call
    CALLX   (head, *key, args, keywords)   one call with keywords
    CHUNK   (head, *key, items)            one chunk; its results come back as one list, or its first exception
    BATCH   (head, *key, items)            several chunks of `size` items each; each has an outcome of its own

    head = kind | stateless << 3 | star << 4 | sealed << 6 | len(key) << 7 | size << 11

`star` says how an item becomes arguments: 0 `f(item)`, 1 `f(*item)`, 2 `f(*item[0], **item[1])`. With `sealed`, the
items of a batch are pickles, one a chunk: chunks must not share objects with each other, and one that does not unpickle
must not take the others with it. A message is named by its sequence number in the task channel, which the worker learns
from its claim; so even a message that cannot be decoded has a name.

Result messages (worker to parent) are tuples that begin with their kind; see `read_result`.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from itertools import chain

from . import _pickling
from . import _pool_errors as errors

CALL, CALLX, CHUNK, BATCH = range(4)
ONE, SEALED, FAILED, PART, READY, UNFIT, BYE, DAMAGED, DIED = range(9)

# What cannot change and cannot fail to decode: may share a message with anything.
ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex})
_atoms = ATOMS.issuperset

# Above this size a buffer travels beside the pickle, and an argument that occurs several times is sent once.
BIG_BUFFER = 4096
BIG_ARGUMENT = 64 * 1024

# A chunk with a pickle above this is sent in a message of its own, where its buffers need no copy into the pickle.
LARGE_SEALED = 64 * 1024


def head(kind, stateless, star=0, sealed=0, keys=0, size=0):
    """The first int of a task message."""
    return kind | stateless << 3 | star << 4 | sealed << 6 | keys << 7 | size << 11


def plain(items):
    """Are these all atoms, or tuples of atoms: values that no receiver can change?"""
    kinds = set(map(type, items))
    if kinds <= ATOMS:
        return True
    kinds.discard(tuple)
    return kinds <= ATOMS and _atoms(map(type, chain.from_iterable(item for item in items if type(item) is tuple)))


# --- pickles --------------------------------------------------------------------------------------------------------


def dumps(value, buffers=None):
    """Pickle by name, with multiprocessing's reducers; large buffers go into the list `buffers` if one is given."""
    if buffers is None:
        callback = None
    else:

        def callback(buffer):
            with buffer.raw() as view:
                if view.nbytes < BIG_BUFFER:
                    return True
            buffers.append(buffer)
            return False

    target = io.BytesIO()
    try:
        _pickling.pickler_by_name(target, callback).dump(value)
    except Exception as error:
        if errors.may_be_the_users(error):
            raise
        from . import _diagnose

        raise _diagnose.explain(value, error) from None
    return target.getvalue()


def loads(data, buffers=(), family=errors.POOL, again=False):
    """The inverse of `dumps`; whatever goes wrong comes out as one `UnreadableError`.

    But for the first KeyboardInterrupt in the main thread, and what a signal's handler raises, unless `again`: that is
    most likely the user's. It is raised, and whoever reads this again has the object.
    """
    try:
        return pickle.loads(data, buffers=buffers)
    except BaseException as error:
        if errors.breaks_off(error, data, again):
            raise
        raise family.unreadable(f"a result arrived that cannot be unpickled here: {errors._text(error)}") from error


# --- functions ------------------------------------------------------------------------------------------------------


class Handle:
    """A function that has been published to the workers."""

    __slots__ = ("blob", "call", "function", "key", "stateless")

    def __init__(self, function, blob, key, stateless):
        self.function = function
        self.blob = blob
        self.key = key
        self.stateless = stateless
        self.call = head(CALL, stateless, 0, 0, len(key))


def _by_reference(function):
    """Will pickle send no more than this function's name?"""
    if type(function) is types.FunctionType or isinstance(function, type):
        name, module = function.__qualname__, function.__module__
    elif type(function) is types.BuiltinFunctionType:
        owner = function.__self__
        if owner is not None and not isinstance(owner, types.ModuleType):
            return False
        name, module = function.__qualname__, function.__module__
    else:
        return False
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


class Functions:
    """The functions that a pool has published, each once.

    Only functions that travel as a name are remembered from call to call. All others are published anew for each call
    of the API, because their state may have changed in between; within one call the bytes are sent once as well.
    """

    def __init__(self, publish, limit=128):
        self._publish = publish
        self._limit = limit
        self._known = OrderedDict()

    def handle(self, function):
        """The handle of a function; raises what pickling it raises."""
        known = self._known.get(id(function))
        if known is not None:
            return known  # holds the function, so the id cannot be another's
        stateless = type(function) is types.FunctionType or _by_reference(function)
        blob = self._publish(function)
        made = Handle(function, blob, tuple(blob.key), stateless)
        if stateless and _by_reference(function):
            self._known[id(function)] = made
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        return made

    def clear(self):
        self._known.clear()


class LocalFunctions:
    """The same for workers that are threads: a function is its own key."""

    def handle(self, function):
        return Handle(function, None, (function,), 1)

    def clear(self):
        pass


# --- repeated arguments ---------------------------------------------------------------------------------------------


class Shared:
    """Stands for a published argument inside a message; unpickling it gives the argument."""

    __slots__ = ("blob", "fetch")

    def __init__(self, blob, fetch):
        self.blob = blob
        self.fetch = fetch

    def __reduce__(self):
        return self.fetch, (tuple(self.blob.key),)


def _is_big(value):
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return len(value) >= BIG_ARGUMENT
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        return value.nbytes >= BIG_ARGUMENT and not value.dtype.hasobject
    return False


def _bigs(items):
    for item in items:
        kind = type(item)
        if kind is tuple or kind is list:
            for part in item:
                if _is_big(part):
                    yield part
        elif _is_big(item):
            yield item


def repeated(items):
    """The big arguments that occur more than once among these items, as a dict by id.

    Looks through all of them only if there is one among the first few.
    """
    if type(items) is range or next(_bigs(items[:16]), None) is None:
        return {}
    seen, twice = set(), {}
    for value in _bigs(items):
        if id(value) in seen:
            twice[id(value)] = value
        seen.add(id(value))
    return twice


def substitute(items, shared):
    """The items with each repeated argument replaced by what stands for it."""

    def replace(item):
        kind = type(item)
        if kind is tuple or kind is list:
            if any(id(part) in shared for part in item):
                return kind([shared.get(id(part), part) for part in item])
            return item
        return shared.get(id(item), item)

    return [replace(item) for item in items]


class Spec:
    """How the items of a job become messages."""

    __slots__ = ("handle", "shared", "star")

    def __init__(self, handle, star, shared):
        self.handle = handle
        self.star = star
        self.shared = shared


# --- parcels --------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """A chunk of a parcel cannot be pickled. `chunk`: which one; `error`: why."""

    def __init__(self, chunk, error):
        self.chunk = chunk
        self.error = error


def encode_parcel(parcel, local):
    """The task message for a parcel.

    Returns (message, inert, chunks in it): fewer chunks than the parcel has if one of them is too large for company.
    Raises Refused.
    """
    job = parcel.job
    spec = job.handle
    items = parcel.items
    if spec is None:
        return _encode_calls(items, local)
    handle, star = spec.handle, spec.star
    if job.pacer is None:
        if spec.shared:
            items = substitute(items, spec.shared)
        start = head(CHUNK, handle.stateless, star, 0, len(handle.key))
        return (start, *handle.key, items), type(items) is range, 1
    chunk = job.chunk
    if local or parcel.count == 1 or type(items) is range or plain(items):
        inert = local or parcel.count > 1 or type(items) is range
        if spec.shared:
            items = substitute(items, spec.shared)
        start = head(BATCH, handle.stateless, star, 0, len(handle.key), chunk)
        return (start, *handle.key, items), inert, parcel.count
    if spec.shared:
        items = substitute(items, spec.shared)
    chunks = [list(items[i : i + chunk]) for i in range(0, len(items), chunk)]
    return _sealed(handle, star, chunk, chunks)


def _encode_calls(calls, local):
    handle = calls[0].handle
    if any(call.keywords for call in calls):
        star, items = 2, [(call.args, call.keywords) for call in calls]
    else:
        star, items = 1, [call.args for call in calls]
    if local or len(calls) == 1 or (star == 1 and plain(items)):
        inert = local or len(calls) > 1
        return (head(BATCH, handle.stateless, star, 0, len(handle.key), 1), *handle.key, items), inert, len(calls)
    return _sealed(handle, star, 1, [[item] for item in items])


def _sealed(handle, star, chunk, chunks):
    pickles = []
    for index, content in enumerate(chunks):
        try:
            data = dumps(content)
        except BaseException as error:
            raise Refused(index, error) from error
        if len(data) > LARGE_SEALED:
            if index == 0:
                inert = False
                message = (head(BATCH, handle.stateless, star, 0, len(handle.key), chunk), *handle.key, content)
                return message, inert, 1
            break
        pickles.append(data)
    start = head(BATCH, handle.stateless, star, 1, len(handle.key), chunk)
    return (start, *handle.key, pickles), True, len(pickles)


# --- results --------------------------------------------------------------------------------------------------------


def read_result(message, family=errors.POOL):
    """Decode what a worker sent; runs user code (unpickling), so not under a lock. Returns a tuple:

    (ONE, seq, value) · (FAILED, seq, exception) · (PART, seq, start, stop, seconds, values, errors, more) ·
    (READY, slot, pid) · (UNFIT, slot, exception) · (BYE, slot)
    """
    kind = message[0]
    if kind == ONE:
        return message
    if kind == SEALED:
        _, seq, data, buffers = message
        try:
            return (ONE, seq, loads(data, buffers or (), family))
        except errors.UnreadableError as error:
            return (FAILED, seq, error)
    if kind == PART:
        _, seq, start, stop, seconds, sealed, values, failed, more = message
        if failed:
            failed = [(index, errors.unpack_error(packed, family)) for index, packed in failed]
        if sealed:
            # One pickle a chunk, each holding the list of its results; None where the chunk failed.
            opened = []
            for index, (data, length) in enumerate(values, start):
                if data is None:
                    opened.extend([None] * length)
                    continue
                try:
                    opened.extend(loads(data, (), family))
                except errors.UnreadableError as error:
                    opened.extend([None] * length)
                    failed = sorted([*(failed or ()), (index, error)], key=lambda pair: pair[0])
            values = opened
        return (PART, seq, start, stop, seconds, values, failed, more)
    if kind in (FAILED, UNFIT):
        return (kind, message[1], errors.unpack_error(message[2], family))
    return message


def read_outcome(record, family=errors.POOL):
    """(values, error) of one chunk from a record of a dead worker's journal; one of the two is None."""
    value, form = record
    if form is None:
        return None, errors.unpack_error(value, family, again=True)
    if form:
        try:
            return loads(value[0], (), family, again=True), None
        except errors.UnreadableError as error:
            return None, error
    return (value if type(value) is list else [value]), None

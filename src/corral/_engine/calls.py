"""Calls whose outcome is one value: a single task, and a map that collects a list.

Role in the flow: faces make them, the engine settles them, callers wait on them through `Engine.wait_for`.
"""

from __future__ import annotations

import threading
from _pickle import dumps

from corral._channel import wire
from corral._codec import define, encode
from corral._engine import watching
from corral._engine.chunking import Chunker
from corral._engine.gate import Gate
from corral._engine.interrupts import shielded
from corral._engine.ledger import Task
from corral._engine.outcome import call_outcome, chunk_outcome
from corral._native import pickle_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral._codec import Group, Snapshot
    from corral._engine.engine import Engine


_FEW = 32


def call_task(snapshot: Snapshot, function: Any, args: Any, kwargs: Any, sink: Any) -> Task:
    """Encode a single call.

    Raises:
        EncodeError: the function or an argument cannot be pickled.
    """
    group = define(function, snapshot)
    if kwargs:
        payload, buffers, needs = encode((args, kwargs), snapshot)
        kind = wire.CALL_KW
    else:
        kind = wire.CALL
        plain = pickle_plain(args)
        if plain is not None:
            return Task(kind, function, group.number, (group,), plain, None, sink)
        payload, buffers, needs = encode(args, snapshot)
    return Task(kind, function, group.number, (group, *needs) if needs else (group,), payload, buffers, sink)


def encode_items(items: Sequence[Any], snapshot: Snapshot) -> tuple[bytes, Any, tuple[Group, ...]]:
    """Encode the items of a chunk; the worker needs no more of their container than its order.

    Raises:
        EncodeError: an item cannot be pickled.
    """
    if len(items) <= _FEW:
        plain = pickle_plain(tuple(items))
        if plain is not None:
            return plain, None, ()
    if type(items) is range:
        return dumps(items, 5), None, ()
    return encode(items, snapshot)


class Call(Gate):
    """One task's outcome, to be waited for."""

    __slots__ = ("_engine", "error", "task", "value")

    def __init__(self, engine: Engine) -> None:
        """Begin unsettled."""
        self.done = False
        self._event = None
        self._engine = engine
        self.value: Any = None
        self.error: BaseException | None = None
        self.task: Task | None = None

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take the worker's answer."""
        self.value, self.error = call_outcome(kind, body)
        self.open()

    def failed(self, task: Task | None, error: BaseException) -> None:
        """Take the news that there will be no answer."""
        self.error = error
        self.open()

    def cancel(self) -> bool:
        """Not offered for a pool's calls (`Sink`)."""
        return False


class MapCall(Gate):
    """A map over a sequence, collected into a list; source of its chunks and sink of their outcomes.

    As the standard library's: every item is run even if one failed; the first failure to arrive is the error.
    """

    __slots__ = (
        "_chunker", "_cut", "_each", "_engine", "_function", "_group", "_items", "_left", "_lock", "_next",
        "_star", "depth", "error", "value",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        function: Any,
        items: Sequence[Any],
        *,
        star: bool,
        chunksize: int | None,
    ) -> None:
        """Begin unsettled; `start` starts it."""
        self.done = False
        self._event = None
        self._engine = engine
        self._group: Group | None = None
        self._function = function
        self._items = items
        self._star = star
        self._next = 0
        self._cut: tuple[int, int] | None = None
        self._left = len(items)
        self._lock = threading.Lock()
        self._chunker = Chunker(engine.workers, chunksize)
        # Chunks that follow the duration of their items need no more than one to run and one to wait.
        self.depth = 2 if chunksize is None else None
        self.value: list[Any] = [None] * len(items)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Have the engine ask for chunks; a function that cannot be pickled is the call's error."""
        if not len(self._items):
            self.open()
            return
        try:
            self._group = define(self._function, self._engine.snapshot)
        except Exception as error:
            self.abandon(error)
        else:
            watching.begin(self)
            self._engine.add_source(self)

    def progress(self) -> tuple[int, int]:
        """Return how many items have an outcome, and how many there are (`Watched`)."""
        total = len(self.value)
        return total - self._left, total

    @property
    def over(self) -> bool:
        """Whether every item has one (`Watched`)."""
        return self._left == 0

    def next_task(self) -> Task | None:
        """Encode the next chunk; items that cannot be encoded fail, and the next chunk is tried."""
        while True:
            with self._lock:
                if self._cut is None:  # else an interruption came before that chunk became a task
                    first = self._next
                    total = len(self._items)
                    if first >= total:
                        return None
                    end = min(total, first + self._chunker.next_size(total - first))
                    self._cut = first, end
                    self._next = end
                first, end = self._cut
            items = self._items[first:end]
            try:
                payload, buffers, needs = shielded(encode_items, items, self._engine.snapshot)
            except BaseException as error:
                self._cut = None
                self._account(end - first, error)
                continue
            group = self._group
            assert group is not None, "a source is asked for tasks only once it was started"
            kind = wire.CHUNK_STAR if self._star else wire.CHUNK
            needed = (group, *needs) if needs else (group,)
            task = Task(kind, self._function, group.number, needed, payload, buffers, self, (first, end))
            self._cut = None
            return task

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take a chunk's answer."""
        if task.span is None:
            return self._account(0, None, 0, task)
        first, end = task.span
        values, failures = chunk_outcome(kind, body, end - first)
        if failures:
            return self._account(end - first, failures[0][1], elapsed_ns, task)
        self.value[first:end] = values
        return self._account(end - first, None, elapsed_ns, task)

    def failed(self, task: Task, error: BaseException) -> None:
        """Take the news that a chunk will have no answer."""
        if task.span is not None:
            first, end = task.span
            self._account(end - first, error, 0, task)

    def abandon(self, error: BaseException) -> None:
        """What was not yet sent will never be."""
        with self._lock:
            left = len(self._items) - self._next
            self._next = len(self._items)
        self._account(left, error)

    def cancel(self) -> bool:
        """Not offered for a pool's calls (`Sink`)."""
        return False

    def _account(
        self, count: int, error: BaseException | None, elapsed_ns: int = 0, task: Task | None = None
    ) -> None:
        with self._lock:
            if elapsed_ns:
                self._chunker.measured(count, elapsed_ns)
            if task is None or task.span is not None:  # else an interruption came between this and `open`
                self._left -= count
                if task is not None:
                    task.span = None
            if error is not None and self.error is None:
                self.error = error
            finished = self._left == 0 and not self.done
        if finished:
            self._items = ()
            self.open()

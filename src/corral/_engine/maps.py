"""A map over a sequence whose results are collected into a list.

Role in the flow: faces make it, the engine takes its chunks and gives it their outcomes, callers wait on it
through `Engine.wait_for`.
"""

from __future__ import annotations

import threading

from corral._channel import wire
from corral._codec import define
from corral._engine import watching
from corral._engine.chunked import Chunked
from corral._engine.chunking import Chunker
from corral._engine.gate import Gate
from corral._engine.outcome import chunk_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral._codec import Group
    from corral._engine.engine import Engine
    from corral._engine.ledger import ChunkTask, Task
    from corral._engine.retry import Tries
    from corral._engine.terms import Terms


_PENDING = object()
"""Stands for the value of an item that has none yet."""


class MapCall(Gate, Chunked):
    """A map over a sequence, collected into a list; source of its chunks and sink of their outcomes.

    As the standard library's: a failure ends its chunk, the other chunks are run; the first failure to
    arrive is the error. Under terms, or if the failures are collected, every item is run.
    """

    __slots__ = (
        "_chunker", "_collected", "_cut", "_engine", "_function", "_group", "_items", "_kind", "_left",
        "_lock", "_next", "_terms", "_tries", "depth", "error", "value",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        function: Any,
        items: Sequence[Any],
        *,
        star: bool,
        chunksize: int | None,
        terms: Terms | None = None,
        collect: bool = False,
    ) -> None:
        """Begin unsettled; `start` starts it. With `collect` all failures together are the error."""
        self.done = False
        self._event = None
        self._engine = engine
        self._group: Group | None = None
        self._function = function
        self._items = items
        if terms is None and not collect:
            self._kind = wire.CHUNK_STAR if star else wire.CHUNK
        else:
            self._kind = wire.CHUNK_STAR_EACH if star else wire.CHUNK_EACH
        self._terms = terms
        self._tries: dict[int, Tries] = {}
        self._collected: dict[int, BaseException] | None = {} if collect else None
        self._next = 0
        self._cut: tuple[int, int] | None = None
        self._left = len(items)
        self._lock = threading.Lock()
        self._chunker = Chunker(engine.workers, chunksize)
        # Chunks that follow the duration of their items need no more than one to run and one to wait.
        self.depth = 2 if chunksize is None else None
        self.value: list[Any] = [_PENDING] * len(items)
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
        return total - max(0, self._left), total

    def so_far(self) -> dict[int, Any]:
        """Return the values that have arrived, by the item's index."""
        return {index: value for index, value in enumerate(self.value) if value is not _PENDING}

    @property
    def over(self) -> bool:
        """Whether every item has one (`Watched`), or nobody wants it any more."""
        return self._left <= 0

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
            try:
                task = self._make(first, self._items[first:end])
            except KeyboardInterrupt:
                # Not the items' fault: the chunk is made again, should somebody still want it.
                raise
            except BaseException as error:
                self._cut = None
                self._unsent(first, end, error)
                continue
            self._cut = None
            return task

    def _unsent(self, first: int, end: int, error: BaseException) -> None:
        """Items cannot be encoded: one of them at least."""
        if self._collected is None or end - first == 1:
            self._note([(index, error) for index in range(first, end)])
            self._account(end - first)
            return
        # Which: each on its own, by way of the queue for single tasks.
        for index in range(first, end):
            try:
                task = self._make(index, self._items[index : index + 1])
            except Exception as own:
                self._note([(index, own)])
                self._account(1)
            else:
                self._engine.submit_or_fail(task)

    def settled(self, task: ChunkTask, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take a chunk's answer, or a part of it."""
        if task.span is None:
            return self._account(0, task)
        first, end = task.span
        at, count = wire.part_of(elapsed_ns) if kind == wire.PARTIAL else (task.heard, 0)
        if at < task.reported or self._is_early(task, at, (kind, elapsed_ns, body)):
            return None  # else an interruption came after it was taken note of
        if kind != wire.PARTIAL:
            count = end - first - at
        values, failures = chunk_outcome(kind, body, at, count)
        if values:
            self.value[first + at : first + at + len(values)] = values
        again: list[int] = []
        if failures:
            final, again = self._screen([(first + index, error) for index, error in failures], task)
            self._note(final)
        if kind == wire.PARTIAL:
            self._account(count - len(again), task, at + count)
            return self._catch_up(task)
        return self._account(count - len(again), task, None, elapsed_ns)

    def _failures(self, failures: Sequence[tuple[int, BaseException]], task: ChunkTask) -> None:
        final, _ = self._screen(failures, task)
        self._note(final)
        self._account(len(final), task)

    def _note(self, failures: Sequence[tuple[int, BaseException]]) -> None:
        with self._lock:
            if failures and self.error is None:
                self.error = failures[0][1]
            if self._collected is not None:
                self._collected.update(failures)

    def abandon(self, error: BaseException) -> None:
        """What was not yet sent will never be."""
        with self._lock:
            first = self._next
            self._next = len(self._items)
        self._note([(index, error) for index in range(first, len(self._items))])
        self._account(len(self._items) - first)

    def cancel(self) -> bool:
        """Not offered for a pool's calls (`Sink`)."""
        return False

    def _account(
        self, count: int, task: ChunkTask | None = None, reported: int | None = None, elapsed_ns: int = 0
    ) -> None:
        """Take note that `count` items have their outcome; of `task` the first `reported`, or all."""
        with self._lock:
            if elapsed_ns and task is not None:
                self._chunker.measured(len(task.items), elapsed_ns)
            if task is None or task.span is not None:  # else an interruption came between this and `open`
                self._left -= count
                if task is not None:
                    if reported is None:
                        task.span = None
                    else:
                        task.reported = reported
            finished = self._left == 0 and not self.done
        if finished:
            if self._collected:
                self._gather()
            self._items = ()
            self.open()

    def _gather(self) -> None:
        """Make the failures that were collected one error."""
        from corral._engine.collecting import map_errors

        assert self._collected is not None, "failures are collected"
        self.error = map_errors(self._collected, self._items, self.value)

    def stop(self, *, running: bool) -> bool:
        """Send nothing more, withdraw what was not taken, with `running` stop the rest; False if done."""
        from concurrent.futures import CancelledError

        with self._lock:
            if self.done or self._left <= 0:
                return False
            self._next = len(self._items)
            self._left = -1  # nothing that comes now makes it done once more
            self.error = CancelledError()
        self._engine.withdraw(self, running=running)
        self._items = ()
        self.open()
        return True

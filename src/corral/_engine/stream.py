"""A map whose results are taken one by one, and whose input is pulled no faster than they are.

Role in the flow: the faces behind `imap`, `imap_unordered` and `Executor.map` iterate over a `Stream`;
the engine takes its chunks and gives it their outcomes. Input that cannot block (a sequence) is cut
where it lies; any other iterable is pulled by a thread of its own (`Puller`), since it may wait for
anything, even for our results.

Invariants:
    INV-STREAM-1: items pulled and not yet handed out never exceed the window (unless it was lifted).
    INV-STREAM-2: `_listed` is true if and only if the engine has the stream among its sources, or is
        about to.
    INV-STREAM-3: every item pulled is handed out once, as its value or its error, in order if ordered.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice, repeat, starmap

from corral._channel import wire
from corral._codec import define
from corral._engine import callbacks, watching
from corral._engine.chunked import Chunked
from corral._engine.chunking import Chunker
from corral._engine.outcome import chunk_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Final

    from corral._engine.engine import Engine
    from corral._engine.ledger import ChunkTask, Task
    from corral._engine.retry import Tries
    from corral._engine.terms import Terms

WINDOW_PER_WORKER: Final = 32
CHUNKS_PER_WORKER: Final = 3  # of a size that the caller chose: one to run, one to wait, one to hand out
MAX_WINDOW_PER_WORKER: Final = 4096
WINDOW_NS: Final = 40_000_000  # a window of quick items grows until it holds this much work per worker
_PROMPT = (list, tuple, range, str, bytes, bytearray)
END: Final = object()


class ItemFailure:
    """Stands for an item that failed, among the values of its chunk."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Flawed(list[object]):
    """The values of a chunk with failures among them."""


class Stream(Chunked):
    """The items of one lazy map on their way out and back. Thread-safe; one consumer at a time."""

    def __init__(
        self,
        engine: Engine,
        function: Any,
        items: Iterable[Any],
        *,
        ordered: bool,
        star: bool,
        chunksize: int | None,
        window: int | None,
        eager: bool = False,
        terms: Terms | None = None,
    ) -> None:
        """Describe the map; `start` begins it.

        Args:
            window: Bound on items pulled and not yet handed out; None for the default.
            eager: No bound at all; `items` must be a sequence.
        """
        self._engine = engine
        self._group = define(function, engine.snapshot)
        self._function = function
        self._ordered = ordered
        self._kind = wire.CHUNK_STAR_EACH if star else wire.CHUNK_EACH
        self._terms = terms
        self._tries: dict[int, Tries] = {}
        self._chunker = Chunker(engine.workers, chunksize)
        self.depth = 2 if chunksize is None else None
        self._fixed_window = window
        self._lifted = eager
        # Entered by itself: a signal's handler that raises in the condition's own would leave it held.
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._pulled: deque[Any] = deque()
        self._source: Sequence[Any] | None = items if isinstance(items, _PROMPT) else None
        self._puller = None if self._source is not None else Puller(self, items)
        self._next = 0  # index of the next item to send
        self._taken = 0  # items pulled from the input
        self._handed = 0  # items handed out to the consumer
        self._outstanding = 0  # items sent and not settled
        self._ready: dict[int, Sequence[Any]] = {}  # first index -> outcomes
        self._chunk: Any = ()  # on its way to become a task
        self._chunk_first = -1
        self._listed = False
        self._input_over = False
        self._input_error_at = -1  # where among the ready ones the input's own error is
        self.values: Iterator[Any] = iter(())
        self.flawed = False  # whether there are failures among them

    # The consumer's side.

    def start(self) -> None:
        """Begin to run items, as far as the window goes."""
        watching.begin(self)
        self._engine.hold(self)
        if self._puller is not None:
            self._puller.start()
        else:
            self._list()

    def next(self, timeout_s: float | None = None) -> Any:
        """Return the next result.

        Raises:
            StopIteration: there are no more.
            TimeoutError: it was not ready in time; the stream goes on.
            Exception: the item's own error, or the input's; the stream goes on with the next item.
        """
        value = next(self.values, END)
        if value is END:
            value = self.advance(timeout_s)
        if type(value) is ItemFailure:
            raise value.error
        return value

    def advance(self, timeout_s: float | None = None) -> Any:
        """As `next`, when the chunk at hand is used up; a failure is returned, not raised."""
        self.fetch(timeout_s)
        return next(self.values)

    def fetch(self, timeout_s: float | None = None) -> None:
        """Have the next chunk at hand, when that before it is used up; raises as `next` does."""
        while not self._take():
            self._list()  # again, should an interruption have come before it was done
            if not self._engine.wait_for(self, timeout_s):
                raise TimeoutError
        self._list()

    def _take(self) -> bool:
        """Make the next chunk the one at hand, if it is there.

        Raises:
            StopIteration: there are no more.
        """
        ready = self._ready
        with self._lock:
            first = self._handed if self._ordered else self._any_ready()
            if first not in ready:
                if self._over():
                    raise StopIteration
                self._condition.notify_all()
                return False
            chunk = ready[first]
            size = len(chunk)
            # Not an iterator over the chunk, which would keep what it has handed out.
            values = starmap(deque(chunk).popleft, repeat((), size))
            flawed = type(chunk) is _Flawed
            # No call in between, where a signal's handler might raise.
            del ready[first]
            self._handed += size
            self.values = values
            self.flawed = flawed
            self._condition.notify_all()
        return True

    def _any_ready(self) -> int:
        """The index of a chunk that is ready, or -1; the input's error comes after all before it."""
        if self._input_error_at < 0:
            return next(iter(self._ready), -1)
        for first in self._ready:
            if first != self._input_error_at:
                return first
        return self._input_error_at if not self._outstanding and self.exhausted else -1

    def _over(self) -> bool:
        return not (self._outstanding or self._ready) and self.exhausted

    @property
    def batch(self) -> int:
        """How many items are pulled from an input that may block before any is sent."""
        return min(self._chunker.next_size(None), self._window()) if self._chunker.is_fixed else 1

    @property
    def exhausted(self) -> bool:
        """Whether every item has been sent."""
        if self._source is not None:
            return self._next >= len(self._source)
        return self._input_over and not self._pulled

    @property
    def done(self) -> bool:
        """Whether the next result is there, or there will be none (`Waitable`)."""
        if self._ordered:
            return self._handed in self._ready or self._over()
        return (bool(self._ready) and self._any_ready() >= 0) or self._over()

    def park(self, timeout_s: float | None) -> None:
        """Sleep until `done` or the time is up (`Waitable`)."""
        with self._lock:
            self._condition.wait_for(lambda: self.done, timeout_s)

    def lift(self) -> None:
        """Let everything run without waiting for the consumer: the pool is closing."""
        with self._lock:
            self._lifted = True
            self._condition.notify_all()
        self._list()

    def drop(self) -> None:
        """The consumer is gone: pull and send nothing more."""
        with self._lock:
            self._empty_input()
            self._condition.notify_all()
        self._engine.look_again()

    def _empty_input(self) -> None:
        self._pulled.clear()
        if self._source is not None:
            self._source = ()
        self._input_over = True

    def cancel(self) -> bool:
        """A chunk under way stays under way (`Sink`)."""
        return False

    def drop_soon(self) -> None:
        """As `drop`, but safe in a finalizer, which may run while any lock is held."""
        callbacks.defer(self.drop)

    # The engine's side.

    def _room(self) -> int:
        if self._lifted:
            return 1 << 40
        return self._window() - (self._taken - self._handed)

    def _window(self) -> int:
        if self._fixed_window is not None:
            return self._fixed_window
        workers = self._engine.workers
        least = WINDOW_PER_WORKER * workers
        if self._chunker.is_fixed:
            # Else a chunk as large as the window would leave all workers but one without work.
            return max(least, CHUNKS_PER_WORKER * workers * self._chunker.next_size(None))
        item_ns = self._chunker.item_ns
        if item_ns is None:
            return least
        quick = int(WINDOW_NS / item_ns) * workers
        return max(least, min(quick, MAX_WINDOW_PER_WORKER * workers, self._handed))

    def _list(self) -> None:
        """Have the engine ask for tasks, if there is something to send."""
        with self._lock:
            if self._listed:
                return
            if self._source is not None:
                room = self._room()
                # While something is under way, wait for room for a few: a new start costs as much as an item.
                if self._next >= len(self._source) or room <= (
                    self._window() // 4 if self._outstanding else 0
                ):
                    return
            elif not self._pulled:
                return
            self._listed = True
        try:
            self._engine.add_source(self)
        except BaseException:
            self._listed = self._engine.feeds(self)
            raise

    def next_task(self) -> Task | None:
        """Encode the next chunk (`Source`); items that cannot be encoded fail in their place."""
        # The chunk being cut is an attribute, and counted without a call in between: should a signal's
        # handler raise anywhere in here, the next call goes on with it.
        while True:
            with self._lock:
                if not self._chunk:
                    self._cut()
                size = len(self._chunk)
                if not size:
                    self._listed = False
                    self._condition.notify_all()
                    return None
                if self._chunk_first < 0:
                    self._chunk_first = self._next
                    self._next += size
                    self._outstanding += size
                    if self._source is not None:
                        self._taken += size
            task = self._encoded(self._chunk_first, self._chunk)
            self._chunk = []
            self._chunk_first = -1
            if task is not None:
                return task

    def _cut(self) -> None:
        """Take the items of the next chunk from the input; none if there is nothing, or no room."""
        if self._source is not None:
            first = self._next
            left = len(self._source) - first
            size = max(0, min(self._size(left), left, self._room()))
            self._chunk = self._source[first : first + size]
        else:
            size = min(self._size(None), len(self._pulled))
            self._chunk = []
            # One call: popped and kept, or neither.
            self._chunk.extend(starmap(self._pulled.popleft, repeat((), size)))

    def _size(self, left: int | None) -> int:
        size = self._chunker.next_size(left)
        if self._lifted or self._chunker.is_fixed:
            return size
        return max(1, min(size, self._window() // (4 * self._engine.workers)))

    def _encoded(self, first: int, items: Sequence[Any]) -> Task | None:
        try:
            task = self._make(first, items)
        except KeyboardInterrupt:
            # Not the items' fault: they are tried again, should somebody still want them.
            raise
        except BaseException as error:
            if len(items) == 1:
                self._arrived([(first, _Flawed([ItemFailure(error)]))])
                return None
            # Find out which: each on its own, the good ones by way of the queue for single tasks.
            for offset, item in enumerate(items):
                single = self._encoded(first + offset, [item])
                if single is not None:
                    self._engine.submit_or_fail(single)
            return None
        return task

    def settled(self, task: ChunkTask, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take a chunk's answer, or a part of it (`Sink`)."""
        if task.span is None:
            return self._arrived((), task)
        first, end = task.span
        at, count = wire.part_of(elapsed_ns) if kind == wire.PARTIAL else (task.heard, 0)
        if at < task.reported or self._is_early(task, at, (kind, elapsed_ns, body)):
            return None  # else an interruption came after it was taken note of
        if kind != wire.PARTIAL:
            count = end - first - at
        values, failures = chunk_outcome(kind, body, at, count)
        pieces: list[tuple[int, Sequence[Any]]] = [(first + at, values)]
        if failures:
            pieces = self._pieces(first + at, list(values), [(first + i, e) for i, e in failures], task)
        if kind == wire.PARTIAL:
            self._arrived(pieces, task, at + count)
            return self._catch_up(task)
        self._chunker.measured(end - first, elapsed_ns)
        return self._arrived(pieces, task)

    def _pieces(
        self, first: int, values: list[Any], failures: Sequence[tuple[int, BaseException]], task: ChunkTask
    ) -> list[tuple[int, Sequence[Any]]]:
        """What can be handed out of items from index `first`: all but those that are tried again."""
        final, again = self._screen(failures, task)
        for index, error in final:
            values[index - first] = ItemFailure(error)
        pieces: list[tuple[int, Sequence[Any]]] = []
        start = first
        for index in [*again, first + len(values)]:
            if index > start:
                pieces.append((start, _Flawed(values[start - first : index - first])))
            start = index + 1
        return pieces

    def _failures(self, failures: Sequence[tuple[int, BaseException]], task: ChunkTask) -> None:
        pieces = self._pieces(failures[0][0], [None] * len(failures), failures, task) if failures else []
        self._arrived(pieces, task)

    def abandon(self, error: BaseException) -> None:
        """The pool ended before all was sent (`Source`): the consumer hears of it once, in place."""
        with self._lock:
            self._listed = False
            if self.exhausted:
                return
            self._empty_input()
            self._ready[self._next] = _Flawed([ItemFailure(error)])
            self._condition.notify_all()

    def _arrived(
        self,
        pieces: Iterable[tuple[int, Sequence[Any]]],
        task: ChunkTask | None = None,
        reported: int | None = None,
    ) -> None:
        """Hand `pieces` out; of `task` the first `reported` items are accounted for by that, or all."""
        ready = dict(pieces)
        count = sum(map(len, ready.values()))
        with self._lock:
            if task is None or task.span is not None:  # else an interruption came between this and its end
                # No call in between, where a signal's handler might raise.
                self._ready |= ready
                self._outstanding -= count
                if task is not None:
                    if reported is None:
                        task.span = None
                    else:
                        task.reported = reported
            self._condition.notify_all()

    def progress(self) -> tuple[int, int | None]:
        """Return how many items have an outcome, and how many there are, once that is known (`Watched`)."""
        with self._lock:
            total = self._taken if self._source is None else len(self._source)
            known = self._source is not None or self._input_over
            settled = self._next - self._outstanding
            return settled, max(settled, total) if known else None

    @property
    def over(self) -> bool:
        """Whether every item has an outcome, or nobody wants it any more (`Watched`)."""
        return not self._outstanding and self.exhausted

    # The puller's side.

    def pulled(self, item: Any) -> bool:
        """Take one item of the input; block while the window is full. False: stop pulling."""
        with self._lock:
            if self._input_over:
                return False
            self._pulled.append(item)
            self._taken += 1
            listed = self._listed
        if not listed:
            self._list()
        with self._lock:
            while self._room() <= 0 and not self._input_over:
                self._condition.wait()
            return not self._input_over

    def input_over(self, error: BaseException | None) -> None:
        """The input has ended, by itself or with an error, which the consumer gets in its place."""
        with self._lock:
            if self._input_over:
                return
            self._input_over = True
            if error is not None:
                self._input_error_at = self._next + len(self._pulled)
                self._ready[self._input_error_at] = _Flawed([ItemFailure(error)])
            self._condition.notify_all()
        self._engine.look_again()


class Puller:
    """The thread that pulls an input that may block."""

    def __init__(self, stream: Stream, items: Iterable[Any]) -> None:
        self._stream = stream
        self._iterator = iter(items)

    def start(self) -> None:
        """Begin to pull."""
        threading.Thread(target=self._pull, name="corral-input", daemon=True).start()

    def _pull(self) -> None:
        stream = self._stream
        try:
            # A chunk of the caller's size is pulled as a whole: what raises in the midst of it costs all.
            while batch := list(islice(self._iterator, stream.batch)):
                if not all(map(stream.pulled, batch)):
                    break
        except BaseException as error:
            stream.input_over(error)
        else:
            stream.input_over(None)

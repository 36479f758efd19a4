"""A chunk of a map, run by a worker.

Role in the flow: the loop makes one of these for each chunk frame.

A chunk is run in slices. Before each slice the worker writes down how far it goes, so that after its death
the parent knows which items cannot have begun; and what is done is reported when it is worth more than its
report costs. So a death costs the item that ran, and its neighbours only if they are very short. Nor does
that cost quick items anything: slices grow until one lasts a tenth of a millisecond.
"""

from __future__ import annotations

from itertools import islice, starmap

from corral._channel import wire
from corral._codec import encode_failure, encode_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Final

    from corral._native import Link
    from corral._worker.running import Running

_FEW: Final = 32
_SHORT_NS: Final = 50_000  # a slice that lasts less than this may grow ...
_LONG_NS: Final = 400_000  # ... and one that lasts more shall shrink ...
_STEP: Final = 4  # ... by this factor
_MOST: Final = 1 << 14
_REPORT_NS: Final = 2_000_000  # work that lasted so long is worth a report


class Pace:
    """How many items make a slice: learned from the slices before, of the same function."""

    __slots__ = ("_function", "items")

    def __init__(self) -> None:
        """Begin with one item at a time."""
        self.items = 1
        self._function: object = None

    def of(self, function: object) -> Pace:
        """Return the pace for `function`."""
        if function is not self._function:
            self._function = function
            self.items = 1
        return self

    def took(self, elapsed_ns: int) -> None:
        """Learn how long a slice took."""
        if elapsed_ns < _SHORT_NS:
            self.items = min(_MOST, self.items * _STEP)
        elif elapsed_ns > _LONG_NS:
            self.items = max(1, self.items // _STEP)


class Chunks:
    """Runs the chunks of one worker, one at a time."""

    __slots__ = (
        "_failures", "_lethal", "_link", "_outcomes", "_pace", "_reported", "_running", "_task_id", "_values",
    )  # fmt: skip

    def __init__(self, running: Running, link: Link, lethal: tuple[type[BaseException], ...]) -> None:
        """Answer on `link`; exceptions that are `lethal` end the worker."""
        self._running = running
        self._link = link
        self._lethal = lethal
        self._pace = Pace()
        self._task_id = 0
        self._outcomes: Iterator[Any] = iter(())
        self._values: list[Any] = []  # of the items that were not reported yet
        self._failures: list[tuple[int, bytes]] = []  # likewise; by the index in the chunk
        self._reported = 0  # how many items were

    def run(self, kind: int, task_id: int, function: Callable[..., Any], items: Sequence[Any]) -> None:
        """Run the items and answer."""
        self._task_id = task_id
        self._values = []
        self._failures = []
        self._reported = 0
        # Both iterators go on with the next item after one has raised.
        self._outcomes = starmap(function, items) if kind in wire.STAR_KINDS else map(function, items)
        self._running.cancelled = False
        try:
            if self._run(len(items), self._pace.of(function), each=kind in wire.EACH_KINDS):
                self._answer()
        finally:
            # What a chunk leaves behind must not live until the next one comes.
            self._outcomes = iter(())
            self._values = []

    def _run(self, total: int, pace: Pace, *, each: bool) -> bool:
        """Run the items; return whether there is something left to answer."""
        link, running = self._link, self._running
        one_by_one = running.terms is not None
        done = 0
        reported_ns = before_ns = link.elapsed_ns()
        while True:
            end = min(total, done + (1 if one_by_one else pace.items))
            self._extend(done, end)
            done = self._reported + len(self._values)
            if running.cancelled:
                link.reply(wire.FAILED, self._task_id, link.elapsed_ns(), running.cancellation())
                return False
            if self._failures and not each:
                self._first_failed()
                return False
            now_ns = link.elapsed_ns()
            pace.took(now_ns - before_ns)
            if done >= total:
                return True
            if now_ns - reported_ns > _REPORT_NS:
                self._report()
                reported_ns = now_ns = link.elapsed_ns()
            before_ns = now_ns

    def _extend(self, index: int, end: int) -> None:
        """Append outcomes, of the items from `index` to before `end`, or until one fails.

        That one is noted, and its place filled with None.
        """
        values, running = self._values, self._running
        want = len(values) + end - index
        some = islice(self._outcomes, end - index)
        try:
            running.now = running.begin(self._task_id, index, end)
            self._link.enter(wire.RUNNING)
            # list.extend appends as it goes, so after a failure len(values) tells which item it was.
            values.extend(some)
            running.now = 0
            if len(values) < want:
                # extend takes a StopIteration out of the function for the end of the items.
                _raise_stop()
        except self._lethal:
            running.now = 0
            raise
        except BaseException as error:
            running.now = 0
            if len(values) == want:  # stopped when the last of them had just returned
                values.pop()
            self._failures.append((self._reported + len(values), encode_failure(error, "running")))
            values.append(None)

    def _first_failed(self) -> None:
        link = self._link
        payload, buffers, _ = encode_reply(self._failures[0])
        link.reply(wire.CHUNK_FAILED, self._task_id, link.elapsed_ns(), payload, buffers)

    def _report(self) -> None:
        """Answer for the items that are done."""
        self._link.enter(wire.ENCODING)
        payload, buffers = self._part()
        count = len(self._values)
        self._link.reply(wire.PARTIAL, self._task_id, wire.part(self._reported, count), payload, buffers)
        self._reported += count
        self._values.clear()
        self._failures.clear()

    def _answer(self) -> None:
        link = self._link
        link.enter(wire.ENCODING)
        if self._reported:
            kind = wire.CHUNK_REST
            payload, buffers = self._part()
        else:
            kind, payload, buffers = self._whole()
        link.reply(kind, self._task_id, link.elapsed_ns(), payload, buffers)

    def _whole(self) -> tuple[int, bytes, Any]:
        values = self._values
        try:
            # Few values go as a tuple, which has a short way; whoever takes them wants only their order.
            payload, buffers, _ = encode_reply(tuple(values) if len(values) <= _FEW else values)
        except self._lethal:
            raise
        except BaseException:  # some value cannot be encoded: find out which
            self._keep_encodable()
            payload, buffers, _ = encode_reply(values)
        if not self._failures:
            return wire.OK, payload, buffers
        payload, buffers, _ = encode_reply((values, self._failures))
        return wire.CHUNK_MIXED, payload, buffers

    def _part(self) -> tuple[bytes, Any]:
        try:
            payload, buffers, _ = encode_reply((self._values, self._failures))
        except self._lethal:
            raise
        except BaseException:
            self._keep_encodable()
            payload, buffers, _ = encode_reply((self._values, self._failures))
        return payload, buffers

    def _keep_encodable(self) -> None:
        """Note a failure for each value that cannot be encoded, and put None in its place."""
        for place, value in enumerate(self._values):
            try:
                encode_reply(value)
            except self._lethal:
                raise
            except BaseException as error:
                self._failures.append((self._reported + place, encode_failure(error, "encoding")))
                self._values[place] = None
        self._failures.sort(key=lambda failure: failure[0])


def _raise_stop() -> None:
    message = "the mapped function raised StopIteration"
    raise StopIteration(message)

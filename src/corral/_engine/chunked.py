"""What the maps have in common: items sent in chunks, each item with a fate of its own.

Role in the flow: base of `MapCall` and `Stream`. A chunk's answer may come in parts; a chunk whose worker
died leaves items that were answered, items that are lost, and items that had not begun, which are sent
again; under terms that allow it, items that failed are sent again one by one.

Invariants:
    INV-CHUNK-1: of the items of a chunk each is accounted for once: by a part, as lost, or by the task it is
    sent
        again with. `task.reported` counts those that parts have answered; `task.span` is None once all are.
"""

from __future__ import annotations

from corral._codec import encode
from corral._engine.interrupts import shielded
from corral._engine.ledger import ChunkTask, TermedTask
from corral._engine.obituary import lost_beside, lost_items
from corral._engine.retry import AGAIN, POISON, Tries
from corral._engine.retrying import is_lost, poisoned, put_off
from corral._native import pickle_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from threading import Lock
    from typing import Any

    from corral._codec import Group, Snapshot
    from corral._engine.engine import Engine
    from corral._engine.terms import Terms

_FEW = 32


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
        from _pickle import dumps

        return dumps(items, 5), None, ()
    return encode(items, snapshot)


class Chunked:
    """A map's chunks: made into tasks, and what is left of them sent again."""

    __slots__ = ()

    _engine: Engine
    _function: Any
    _group: Group | None
    _kind: int
    _lock: Lock
    _terms: Terms | None
    _tries: dict[int, Tries]  # of the items that failed at least once

    def _make(self, first: int, items: Sequence[Any]) -> ChunkTask:
        """Make a task of items, the first of which has index `first`.

        Raises:
            EncodeError: one of them cannot be pickled.
        """
        payload, buffers, needs = shielded(encode_items, items, self._engine.snapshot)
        group = self._group
        assert group is not None, "a source is asked for tasks only once it was started"
        needed = (group, *needs) if needs else (group,)
        span = (first, first + len(items))
        sink: Any = self
        task = ChunkTask(self._kind, self._function, group.number, needed, payload, buffers, sink, span)
        if self._terms is not None:
            task = TermedTask(task, self._terms)
        task.items = items
        return task

    # Two threads may deliver what they have read, one the first part of a chunk, the other the next.

    def _is_early(self, task: ChunkTask, at: int, news: Any) -> bool:
        """Keep what is told of a chunk from its item `at` on, if what precedes that was not told yet."""
        with self._lock:
            if at <= task.reported:
                return False
            task.early = {**(task.early or {}), at: news}
            return True

    def _catch_up(self, task: ChunkTask) -> None:
        """Take what came too early, if it is its turn now."""
        with self._lock:
            news = (task.early or {}).get(task.reported)
        if isinstance(news, tuple):
            self.settled(task, *news)
        elif news is not None:
            self.failed(task, news)

    def settled(self, task: ChunkTask, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take a chunk's answer, or a part of it (`Sink`)."""
        raise NotImplementedError

    def failed(self, task: ChunkTask, error: BaseException) -> None:
        """Take the news that a chunk will have no answer (`Sink`)."""
        if task.span is not None and not self._is_early(task, task.heard, error):
            self._failures(self._after_death(task, error), task)

    def _failures(self, failures: Sequence[tuple[int, BaseException]], task: ChunkTask) -> None:
        """Take the news that items, by index, have failed for good."""
        raise NotImplementedError

    def _screen(
        self, failures: Iterable[tuple[int, BaseException]], task: ChunkTask
    ) -> tuple[list[tuple[int, BaseException]], list[int]]:
        """Have items of `task` that failed tried again; return those that are not, and who is.

        May be called again for the same, should a signal's handler raise in between.
        """
        terms = self._terms
        if terms is None or not terms.retries:
            return list(failures), []
        final: list[tuple[int, BaseException]] = []
        again: list[int] = []
        for index, error in failures:
            tries = self._tries.get(index)
            if tries is None:
                tries = self._tries[index] = Tries(terms.retries)
            if tries.task is None or tries.task is task:
                verdict = tries.failed(lost=is_lost(error), retryable=isinstance(error, terms.retry_on))
                if verdict != AGAIN or not self._make_anew(index, tries, task):
                    final.append((index, poisoned(error, tries.deaths) if verdict == POISON else error))
                    continue
            if self._put_off(tries):
                again.append(index)
            else:
                final.append((index, error))
        return final, again

    def _make_anew(self, index: int, tries: Tries, task: ChunkTask) -> bool:
        assert task.span is not None, "it is not accounted for yet"
        place = index - task.span[0]
        try:
            tries.task = self._make(index, task.items[place : place + 1])
        except Exception:
            return False  # it could be encoded once, and cannot any more
        return True

    def _put_off(self, tries: Tries) -> bool:
        task = tries.task
        assert isinstance(task, TermedTask), "retries are terms"
        return task.id > 0 or put_off(self._engine, task, tries.attempt, task.body, task.buffers)

    def _after_death(self, task: ChunkTask, error: BaseException) -> list[tuple[int, BaseException]]:
        """Send again what had not begun when the chunk's worker died; return the failures of the rest."""
        assert task.span is not None, "it is not accounted for yet"
        first, end = task.span
        at = first + task.reported
        is_late = not is_lost(error) and type(error).__name__ == "TaskTimeout"
        if not is_late and not is_lost(error):
            return [(index, error) for index in range(at, end)]
        lost = lost_items(task)
        begun = end if lost is None else lost.stop
        if begun < end:
            self._send_rest(task, begun, end)
        if not is_late:
            return [(index, error) for index in range(at, begun)]
        # The last that began is the one that was too late; those before it were done, but not yet answered.
        beside = lost_beside(error)
        return [(index, beside) for index in range(at, begun - 1)] + [(begun - 1, error)]

    def _send_rest(self, task: ChunkTask, first: int, end: int) -> None:
        """Send again what had not begun. May be called again for the same, as `_screen`."""
        rest = task.rest
        if rest is None:
            try:
                rest = self._make(first, task.items[first - end :])
            except Exception as error:
                sink: Any = self
                rest = ChunkTask(self._kind, self._function, 0, (), None, None, sink, (first, end))
                task.rest = rest
                self._failures([(index, error) for index in range(first, end)], rest)
                return
            task.rest = rest
        if rest.id == 0 and rest.span is not None:
            self._engine.submit_or_fail(rest)

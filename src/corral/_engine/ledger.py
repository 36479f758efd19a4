"""The book of tasks: what is where, so that each settles exactly once.

Runs in: the parent, under the engine's lock. Pure.

Invariants:
    INV-LEDGER-1: a task is in at most one place: waiting, in flight at one seat, or put off.
    INV-LEDGER-2: a task leaves the book exactly once, by `settle`, `withdraw` or `clear`; who takes it out
        delivers its outcome.
"""

from __future__ import annotations

from collections import deque

from corral._channel.wire import UNDER_TERMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from corral._engine.ports import Sink
    from corral._engine.terms import Terms


class Task:
    """One call, or one chunk of a map, on its way to an outcome."""

    __slots__ = (
        "body", "buffers", "function", "group", "id", "kind", "needs", "position", "seat", "sink", "span",
    )  # fmt: skip

    terms: Terms | None = None  # of the class: a task without pays nothing for it

    def __init__(
        self,
        kind: int,
        function: Any,
        group: int,
        needs: tuple[Any, ...],
        body: Any,
        buffers: Any,
        sink: Sink,
        span: tuple[int, int] | None = None,
    ) -> None:
        """Describe a task; the engine fills in `id`, `seat` and `position`."""
        self.kind = kind
        self.function = function
        self.group = group
        self.needs = needs
        self.body = body
        self.buffers = buffers
        self.sink = sink
        self.span = span
        self.id = 0
        self.seat = -1
        self.position = -1


class ChunkTask(Task):
    """A chunk.

    `reported`: how many of its items were answered; `heard`: of how many the answers were read, of which some
    may still be on their way to the sink; `begun`: how many had begun when its worker died.
    """

    __slots__ = ("begun", "early", "heard", "items", "reported", "rest")

    def __init__(
        self,
        kind: int,
        function: Any,
        group: int,
        needs: tuple[Any, ...],
        body: Any,
        buffers: Any,
        sink: Sink,
        span: tuple[int, int] | None,
    ) -> None:
        """Describe it as a `Task`."""
        # Not by way of `Task`: it is made for every chunk.
        self.kind = kind
        self.function = function
        self.group = group
        self.needs = needs
        self.body = body
        self.buffers = buffers
        self.sink = sink
        self.span = span
        self.id = 0
        self.seat = -1
        self.position = -1
        self.reported = self.heard = 0
        self.early: dict[int, Any] | None = (
            None  # news that came before its turn, by how many items precede it
        )
        self.begun: int | None = None  # None: nobody knows
        self.items: Sequence[Any] = ()  # as long as they may have to be sent again
        self.rest: ChunkTask | None = None  # what was sent again after its worker's death


class TermedTask(ChunkTask):
    """A task under terms, a chunk or not. `origin` names it across its attempts."""

    __slots__ = ("attempt", "origin", "terms")

    terms: Terms

    def __init__(self, plain: Task, terms: Terms, origin: int = 0, attempt: int = 1) -> None:
        """Put a task that was just made under `terms`."""
        super().__init__(
            plain.kind | UNDER_TERMS,
            plain.function,
            plain.group,
            plain.needs,
            plain.body,
            plain.buffers,
            plain.sink,
            plain.span,
        )
        self.terms = terms
        self.origin = origin
        self.attempt = attempt


class Ledger:
    """Waiting tasks in order, those in flight by seat, and those that are to be tried again later."""

    __slots__ = ("flying", "later", "waiting")

    def __init__(self, seats: int) -> None:
        """Begin empty."""
        self.waiting: deque[Task] = deque()
        self.flying: list[dict[int, Task]] = [{} for _ in range(seats)]
        self.later: dict[int, Task] = {}

    def grow(self, seats: int) -> None:
        """Have `seats` seats."""
        self.flying += [{} for _ in range(seats - len(self.flying))]

    def settle(self, seat: int, task_id: int) -> Task | None:
        """Take the task out of the book; None if it is not there (a frame of a task already settled)."""
        return self.flying[seat].pop(task_id, None)

    def withdraw(self, task: Task) -> bool:
        """Take a waiting task out; False if it is not waiting."""
        if self.later.pop(task.id, None) is not None:
            return True
        try:
            self.waiting.remove(task)
        except ValueError:
            return False
        return True

    def again(self, tasks: Iterable[Task]) -> None:
        """Put tasks that never started back, before all others, in their old order."""
        self.waiting.extendleft(reversed(list(tasks)))

    def tasks(self) -> list[Task]:
        """Every task in the book."""
        return [
            *(task for seat in self.flying for task in seat.values()),
            *self.waiting,
            *self.later.values(),
        ]

    def clear(self) -> list[Task]:
        """Take every task out."""
        tasks = self.tasks()
        for seat in self.flying:
            seat.clear()
        self.waiting.clear()
        self.later.clear()
        return tasks

    def __bool__(self) -> bool:
        """Whether any task is unsettled."""
        return bool(self.waiting) or any(self.flying) or bool(self.later)

"""The book of tasks: what is where, so that each settles exactly once.

Runs in: the parent, under the engine's lock. Pure.

Invariants:
    INV-LEDGER-1: a task is in at most one place: waiting, or in flight at one seat.
    INV-LEDGER-2: a task leaves the book exactly once, by `settle`, `withdraw` or `clear`; who takes it out
        delivers its outcome.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from corral._engine.ports import Sink


class Task:
    """One call, or one chunk of a map, on its way to an outcome."""

    __slots__ = (
        "aux", "body", "buffers", "function", "group", "id", "kind", "needs", "position", "seat",
        "sink", "span",
    )  # fmt: skip

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


class Ledger:
    """Waiting tasks in order, and those in flight by seat."""

    __slots__ = ("flying", "waiting")

    def __init__(self, seats: int) -> None:
        """Begin empty."""
        self.waiting: deque[Task] = deque()
        self.flying: list[dict[int, Task]] = [{} for _ in range(seats)]

    def settle(self, seat: int, task_id: int) -> Task | None:
        """Take the task out of the book; None if it is not there (a frame of a task already settled)."""
        return self.flying[seat].pop(task_id, None)

    def withdraw(self, task: Task) -> bool:
        """Take a waiting task out; False if it is not waiting."""
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
        return [*(task for seat in self.flying for task in seat.values()), *self.waiting]

    def clear(self) -> list[Task]:
        """Take every task out."""
        tasks = self.tasks()
        for seat in self.flying:
            seat.clear()
        self.waiting.clear()
        return tasks

    def __bool__(self) -> bool:
        """Whether any task is unsettled."""
        return bool(self.waiting) or any(self.flying)

"""What one step of the engine brought in, collected under its lock and delivered outside of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral._engine.ledger import Task
    from corral._engine.messages import Said


class Arrivals:
    """What one step brought in; delivered outside the lock.

    May be filled and delivered in several attempts, should a signal's handler raise in between.
    """

    __slots__ = ("_called", "_delivered", "_tried", "calls", "outcomes", "said")

    def __init__(self) -> None:
        self.outcomes: dict[int, tuple[Task, int, int, Any]] = {}  # by the task's id
        self.said: Said | None = None
        self.calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._delivered = 0
        self._tried = -1
        self._called = 0

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called at delivery."""
        self.calls.append((function, args))

    def deliver(self) -> None:
        """Show what was said, then tell every sink that was not told yet."""
        if self.said is not None:
            self.said.show()
        outcomes = self.outcomes.values()
        for task, kind, elapsed_ns, body in (
            list(outcomes)[self._delivered :] if self._delivered else outcomes
        ):
            try:
                task.sink.settled(task, kind, elapsed_ns, body)
            except BaseException as error:
                if self._tried != self._delivered:
                    self._tried = self._delivered
                    raise
                # No interruption, since this is the second time: the task must end all the same.
                task.sink.failed(task, error)
            self._delivered += 1
        while self._called < len(self.calls):
            function, args = self.calls[self._called]
            function(*args)
            self._called += 1


class Nobody:
    """The sink of a task whose outcome nobody wants any more."""

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None: ...
    def failed(self, task: Task, error: BaseException) -> None: ...
    def cancel(self) -> bool:
        return False


NOBODY = Nobody()

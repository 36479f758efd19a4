"""What one step of the engine brought in, collected under its lock and delivered outside of it."""

from __future__ import annotations

from corral._engine.interrupts import shielded
from corral._engine.ledger import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral._engine.messages import Said


class Arrivals:
    """What one step brought in; delivered outside the lock, by the thread that made it.

    May be filled and delivered in several attempts, should a signal's handler raise in between.
    """

    __slots__ = ("_called", "_delivered", "_is_telling", "_tried", "calls", "outcomes", "said")

    def __init__(self) -> None:
        self.outcomes: dict[int, tuple[Task, int, int, Any]] = {}  # by the task's id
        self.said: Said | None = None
        self.calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._delivered = 0
        self._is_telling = False
        self._tried = -1
        self._called = 0

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called at delivery."""
        self.calls.append((function, args))

    def deliver(self) -> None:
        """Show what was said, then tell every sink that was not told yet."""
        if self.said is not None:
            self.said.show()
        self._is_telling = True
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

    def deliver_for(self, goal: object) -> None:
        """While one sink is being told: tell those that `goal` waits for, and no others."""
        self._deliver_others(goal)

    def deliver_ahead(self) -> None:
        """While one sink is being told: tell all others."""
        self._deliver_others(None)

    def _deliver_others(self, goal: object) -> None:
        # What was told is replaced, by what tells nobody: `deliver` is in the midst of these.
        keys = list(self.outcomes)
        in_calls = self._delivered >= len(keys)
        for key in keys[self._delivered + self._is_telling :]:
            task, kind, elapsed_ns, body = self.outcomes[key]
            if goal is None or _serves(task.sink, goal):
                self.outcomes[key] = (_TOLD, 0, 0, None)
                try:
                    shielded(task.sink.settled, task, kind, elapsed_ns, body)
                except BaseException as error:
                    task.sink.failed(task, error)
        for place in range(self._called + (in_calls and self._is_telling), len(self.calls)):
            function, args = self.calls[place]
            if goal is None or _serves(getattr(function, "__self__", None), goal):
                self.calls[place] = (_nothing, ())
                shielded(function, *args)


def _serves(sink: object, goal: object) -> bool:
    """Whether what `sink` is told brings `goal` nearer."""
    sink = getattr(sink, "inner", sink)
    return sink is goal or sink is getattr(goal, "future", goal)


def _nothing() -> None: ...


class Nobody:
    """The sink of a task whose outcome nobody wants any more."""

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None: ...
    def failed(self, task: Task, error: BaseException) -> None: ...
    def cancel(self) -> bool:
        return False


NOBODY = Nobody()
_TOLD = Task(0, None, 0, (), None, None, NOBODY)

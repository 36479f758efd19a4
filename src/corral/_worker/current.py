"""`corral.current_task()`: what a task may know of itself.

Runs in: the worker, any thread of the task.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from corral._channel import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral._worker.running import Running


class CurrentTask:
    """The task that the calling process runs.

    Attributes:
        id: A number that no other task of the pool has, and that stays the same when it is tried again.
        attempt: Which attempt this is, from 1.
        deadline: When its time will be up, on the clock of `time.monotonic()`, in seconds; None if it has no
        limit.
    """

    __slots__ = ("attempt", "deadline", "id")

    def __init__(self, id: int, attempt: int = 1, deadline: float | None = None) -> None:  # noqa: A002 - its name
        self.id = id
        self.attempt = attempt
        self.deadline = deadline

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.id} attempt={self.attempt} deadline={self.deadline}>"

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, below 0 if it has passed; None if there is none."""
        return None if self.deadline is None else self.deadline - monotonic()


def current_task() -> CurrentTask | None:
    """Return the task that this process runs; None if it is no pool's worker, or runs none at the moment."""
    running: Running | None = getattr(sys.modules.get("corral._worker.running"), "current", None)
    if running is None or running.pid != os.getpid():
        return None
    terms = running.terms
    if terms is None:
        task_id = running.task_id or running.now
        return CurrentTask(task_id) if 0 < task_id < wire.CANCEL else None
    deadline = None if terms.limit_s is None else running.since_s + terms.limit_s
    return CurrentTask(terms.origin, terms.attempt, deadline)

"""`TaskTimeout`, apart from the other late exceptions: workers need it, and it loads faster.

Role in the flow: `corral.errors` loads this module when the name is first used; nobody else imports it.
"""

from __future__ import annotations

from multiprocessing.context import TimeoutError as MultiprocessingTimeoutError

from corral.errors import TaskError


class TaskTimeout(TaskError, MultiprocessingTimeoutError, TimeoutError):
    """A result was not ready in time (and the task goes on), or the task's own time limit has passed.

    Attributes:
        task: The task's function, by name; empty if only a wait for its result timed out.
        pid: The worker's process id; 0 likewise.
        timeout_s: The limit, in seconds; None likewise.
        attempt: Which attempt at the task this was, from 1.
    """

    __module__ = "corral.errors"

    def __init__(
        self,
        message: str = "",
        *,
        task: str = "",
        pid: int = 0,
        timeout_s: float | None = None,
        attempt: int = 1,
        killed: bool = False,
    ) -> None:
        self.task = task
        self.pid = pid
        self.timeout_s = timeout_s
        self.attempt = attempt
        # The message alone is the argument: unpickling calls with it, then restores the fields.
        super().__init__(message or self._compose(killed))

    def _compose(self, killed: bool) -> str:
        if not self.task:
            return "not ready in time"
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        text = f"{self.task}{again} ran for longer than {self.timeout_s:g} s in worker {self.pid}"
        return f"{text}, which was killed since the task did not stop" if killed else text

"""The exceptions whose bases in the standard library are slow to import.

Role in the flow: `corral.errors` loads this module when one of its names is first used; nobody else
imports it. To the user all of them live in `corral.errors`.
"""

from __future__ import annotations

import queue
from _pickle import UnpicklingError
from concurrent.futures.process import BrokenProcessPool

from corral.errors import ChannelError, PoolError, TaskError, describe_exit


class DecodeError(TaskError, UnpicklingError, BrokenProcessPool):
    """What arrived cannot be rebuilt into an object here.

    The standard library's executor is broken then; ours goes on.
    """

    __module__ = "corral.errors"


class WorkerLost(TaskError, BrokenProcessPool):
    """The worker died while it had this task; the pool replaces it and goes on.

    Attributes:
        task: The task's function, by name.
        pid: The worker's process id.
        incarnation: Which life of the worker slot this was, from 1.
        exitcode: As `Process.exitcode`: a code, or the negative of a signal's number; None if not known.
        phase: What the worker was doing with the task: "decoding", "running" or "encoding".
        attempt: Which attempt at the task this was, from 1.
        items: Of a map, the indices of the items that were lost with it; None for a single call.
        details: What else is known: a likely cause, the last words of the faulthandler.
    """

    __module__ = "corral.errors"

    def __init__(
        self,
        message: str = "",
        *,
        task: str = "",
        pid: int = 0,
        incarnation: int = 1,
        exitcode: int | None = None,
        phase: str = "",
        attempt: int = 1,
        items: range | None = None,
        details: str = "",
    ) -> None:
        self.task = task
        self.pid = pid
        self.incarnation = incarnation
        self.exitcode = exitcode
        self.phase = phase
        self.attempt = attempt
        self.items = items
        self.details = details
        # The message alone is the argument: unpickling calls with it, then restores the fields.
        super().__init__(message or self._compose())

    def _compose(self) -> str:
        doing = f" while {self.phase}" if self.phase else " while it had"
        what = self.task or "a task"
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        text = f"worker {self.pid} {describe_exit(self.exitcode)}{doing} {what}{again}"
        if self.details:
            return f"{text}\n{self.details}"
        return text


class PoisonTask(WorkerLost):
    """The task killed one worker after the other and is not tried again."""

    __module__ = "corral.errors"


class PoolBroken(PoolError, BrokenProcessPool):
    """Workers died faster than the pool may replace them; what was not done is lost."""

    __module__ = "corral.errors"


class ChannelFull(ChannelError, queue.Full):
    """There was no room, and none came in time."""

    __module__ = "corral.errors"


class ChannelEmpty(ChannelError, queue.Empty):
    """There was nothing, and nothing came in time."""

    __module__ = "corral.errors"

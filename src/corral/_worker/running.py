"""What a worker is running, and how it is stopped from outside.

Role in the flow: the loop says what runs by one attribute, `now`, set before users' code is called and
cleared after it. The parent writes into the link what it wants stopped and sends SIGURG; the handler raises
if, and only if, that is what runs.

Runs in: the worker's main thread, where Python runs the handlers of signals.

Invariants:
    INV-RUNNING-1: `now` is not 0 only between two points of one `try` block whose handler makes any exception
        the outcome of the task at hand, and clears `now` before its first call. (Handlers of signals run
        after calls, on entering a function and on going round a loop, nowhere else.) So what is raised here
        never meets corral's own code, nor another task.
    INV-RUNNING-2: it raises once for each thing that is run.

SIGURG, since nobody uses it and its default is to be ignored: a program that a task starts does not mind it.
"""

from __future__ import annotations

import os
from _pickle import loads
from time import monotonic

from corral._channel import wire
from corral._codec import encode_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from corral._native import Link
else:
    import _signal


class Terms:
    """What a task was given besides its arguments."""

    __slots__ = ("attempt", "first", "limit_s", "name", "origin", "task_id")

    def __init__(self, task_id: int, body: bytes | memoryview) -> None:
        """Read the body of a TERMS frame."""
        self.task_id = task_id
        self.origin, self.attempt, self.limit_s, self.name, self.first = loads(body)


class Running:
    """What runs now."""

    __slots__ = ("_given", "_link", "cancelled", "index", "now", "pid", "since_s", "task_id", "terms")

    def __init__(self, link: Link) -> None:
        """Listen for the parent's wishes."""
        self._link = link
        self.now = 0  # a task's id, or an entry's number with `wire.ENTRY`; 0: nothing that may be stopped
        self.task_id = 0  # of a chunk, or of a task under terms; else `now` says it
        self.index = 0  # of the item, in its chunk
        self._given: Terms | None = None  # of the task that comes next
        self.terms: Terms | None = None
        self.cancelled = False  # ... while the task at hand ran
        self.since_s = 0.0  # when a task under terms, or its present item, began
        self.pid = os.getpid()
        _signal.signal(_signal.SIGURG, lambda _signum, _frame: self._asked())

    def agree(self, task_id: int, body: bytes | memoryview) -> None:
        """Take the terms of the task that comes next."""
        self._given = given = Terms(task_id, body)
        if given.limit_s is not None:
            # Now, for what is raised from a signal's handler had better not have to be imported there.
            from corral.errors import TaskTimeout as TaskTimeout

    def enter(self, task_id: int) -> None:
        """The task that was to come has come."""
        given, self._given = self._given, None
        if given is None or given.task_id != task_id:
            from corral.errors import InternalError

            raise InternalError("a task's terms did not precede it")
        self.terms = given

    def begin(self, task_id: int, index: int, end: int) -> int:
        """Write down that a task's parts before `end` begin, at `index`; return what `now` is meanwhile."""
        self.task_id = task_id
        if self.terms is not None:
            self.index = index
            self.since_s = monotonic()
        return wire.ENTRY | self._link.begin(task_id, end)

    def over(self) -> None:
        """The task at hand was answered."""
        self.terms = None
        self.task_id = 0
        self.cancelled = False

    def _asked(self) -> None:
        """Stop what runs if it is what the parent means (`signal`'s handler)."""
        now = self.now
        if not now or os.getpid() != self.pid:
            return
        asked = self._link.asked()
        if asked & wire.CANCEL:
            if asked - wire.CANCEL == (self.task_id or now):
                self.now = 0
                self.cancelled = True
                raise _cancellation()
        elif asked == now:
            self.now = 0
            raise self._timeout()

    def cancellation(self) -> bytes:
        """The answer of a chunk that was cancelled, whatever its function made of that."""
        return encode_failure(_cancellation(), "running")

    def _timeout(self) -> BaseException:
        from corral.errors import TaskTimeout

        terms = self.terms
        assert terms is not None, "only a task under terms has a time limit"
        name = terms.name if terms.first is None else f"{terms.name} (item {terms.first + self.index})"
        return TaskTimeout(task=name, pid=self.pid, timeout_s=terms.limit_s, attempt=terms.attempt)


current: Running | None = None
"""Of this process, if it is a worker."""


def listen(link: Link) -> Running:
    """Begin to say what runs in this worker."""
    global current  # noqa: PLW0603 - one worker per process
    current = Running(link)
    return current


def _cancellation() -> BaseException:
    from corral.errors import TaskCancelled

    return TaskCancelled("the task was cancelled while it ran")

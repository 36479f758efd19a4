"""A call that is tried again when it fails: stands between the engine and the sink that wants its outcome.

Role in the flow: made for a call under terms that allow retries; keeps what was sent, to send it again. What
is worth another try `retry` decides.

Runs in: the parent, whichever thread delivers.
"""

from __future__ import annotations

import sys
from _random import Random

from corral._channel import wire
from corral._engine.ledger import TermedTask
from corral._engine.outcome import failure
from corral._engine.retry import AGAIN, OVER, POISON, Tries, delay_s
from corral.errors import TaskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral._engine.engine import Engine
    from corral._engine.ledger import Task
    from corral._engine.ports import Sink
    from corral._engine.terms import Terms

_dice = Random()


class Retrying:
    """The sink of one call that may be tried again."""

    def __init__(self, engine: Engine, task: TermedTask) -> None:
        """Stand before the sink of `task`, which was not sent yet."""
        self._engine = engine
        self.inner: Sink = task.sink
        self._tries = Tries(task.terms.retries)
        self._body = task.body
        # What the buffers belong to may have changed by the time they are sent again.
        self._buffers = [bytes(buffer) for buffer in task.buffers] if task.buffers else task.buffers

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """The worker answered."""
        if kind != wire.OK:
            if task.seat < 0:
                return  # an interruption came after it was put off
            if self._again(task, failure(body)) == AGAIN:
                return
        self.inner.settled(task, kind, elapsed_ns, body)

    def failed(self, task: Task, error: BaseException) -> None:
        """There will be no answer."""
        if task.seat >= 0 and isinstance(error, TaskError):
            verdict = self._again(task, error)
            if verdict == AGAIN:
                return
            if verdict == POISON:
                error = poisoned(error, self._tries.deaths)
        self.inner.failed(task, error)

    def cancel(self) -> bool:
        """The call is unwanted."""
        return self.inner.cancel()

    def _again(self, task: Task, error: BaseException) -> str:
        assert isinstance(task, TermedTask), "only a task under terms is tried again"
        tries = self._tries
        verdict = tries.failed(lost=is_lost(error), retryable=isinstance(error, task.terms.retry_on))
        if verdict == AGAIN and not put_off(self._engine, task, tries.attempt, self._body, self._buffers):
            return OVER
        return verdict


def put_off(engine: Engine, task: TermedTask, attempt: int, body: Any, buffers: Any) -> bool:
    """Have a task that was answered sent again after its terms' pause; False if the pool takes no more."""
    task.body, task.buffers = body, buffers
    task.origin = task.origin or task.id
    task.attempt = attempt
    task.seat = task.position = -1
    return engine.postpone(task, delay_s(task.terms.backoff_s, attempt, _dice.random()))


def is_lost(error: BaseException) -> bool:
    """Whether the error says that a task's worker died of itself or of the task."""
    # Nobody has one while the class is not there; and at the interpreter's end it cannot be loaded any more.
    late = sys.modules.get("corral._errors_late")
    return late is not None and isinstance(error, late.WorkerLost)


def poisoned(error: BaseException, deaths: int) -> BaseException:
    """The error of a task that seems to cause its workers' deaths; `error` tells of the last."""
    from corral.errors import PoisonTask, WorkerLost

    assert isinstance(error, WorkerLost), "a poison task has killed its worker"
    return PoisonTask(
        f"{error}\n({deaths} workers have died with this task; it is not tried again)",
        task=error.task,
        pid=error.pid,
        exitcode=error.exitcode,
        attempt=error.attempt,
        items=error.items,
        details=error.details,
    )


def under_terms(engine: Engine, plain: Task, terms: Terms) -> Task:
    """Put a task that was just made for one call under `terms`."""
    task = TermedTask(plain, terms)
    if terms.retries:
        task.sink = Retrying(engine, task)
    return task

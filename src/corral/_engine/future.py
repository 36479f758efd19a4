"""The executor's future: a `concurrent.futures.Future` that costs little, waited for by driving the engine.

Role in the flow: made by `ProcessPoolExecutor.submit`, settled by the engine as the task's sink.

A standard future owns a condition, made for each. Ours makes it when somebody first asks (`_condition`,
which is what `concurrent.futures.wait` and `as_completed` do), and settles without any lock while
nobody has.

Invariants:
    INV-FUTURE-1: a future settles once: `_settling` is held by whoever changes `_state` to a final value.
    INV-FUTURE-2: the condition is made under `_settling`, so a settler either finds it or has finished
        before it was made, and then its maker finds the final state.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
    InvalidStateError,
)

from corral._engine import callbacks
from corral._engine.outcome import call_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral._engine.engine import Engine
    from corral._engine.ledger import Task

    _AnyFuture = Future[Any]
else:
    _AnyFuture = Future

# Reentrant: a finalizer may settle or wait on another future while this thread holds it.
_settling = threading.RLock()
_FINAL = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})


class TaskFuture(_AnyFuture):
    """The future of one task of an engine."""

    def __init__(self, engine: Engine) -> None:
        """Begin pending; the executor makes these, nobody else."""
        # Not Future.__init__: it would make the condition.
        self._engine = engine
        self._task: Task | None = None
        self._lazy_condition: threading.Condition | None = None
        self._state = PENDING
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[Any]], object]] = []

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        condition = self._lazy_condition
        if condition is None:
            with _settling:
                condition = self._lazy_condition
                if condition is None:
                    condition = self._lazy_condition = threading.Condition()
            # Whoever asks is about to wait without driving.
            self._engine.attend()
        return condition

    # The engine's side.

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take the worker's answer."""
        value, error = call_outcome(kind, body)
        self._finish(FINISHED, value, error)

    def failed(self, task: Task, error: BaseException) -> None:
        """Take the news that there will be no answer."""
        self._finish(FINISHED, None, error)

    def _finish(self, state: str, value: Any, error: BaseException | None) -> bool:
        with _settling:
            if self._state in _FINAL:
                return False
            condition = self._lazy_condition
            if condition is None:
                self._result = value
                self._exception = error
                self._state = state
        if condition is not None and not self._finish_watched(condition, state, value, error):
            return False
        self._task = None
        # add_done_callback looks at the state and appends under `_settling`. The state is final by now: what
        # is to be called is there to be seen, or will be called by whoever adds it.
        if self._done_callbacks:
            callbacks.defer(self._run_callbacks)
        return True

    def _finish_watched(
        self, condition: threading.Condition, state: str, value: Any, error: BaseException | None
    ) -> bool:
        """Settle a future whose condition somebody has asked for."""
        with condition:
            if self._state in _FINAL:
                return False
            self._result = value
            self._exception = error
            self._state = state
            self._tell_waiters(error)
            condition.notify_all()
        with _settling:
            # After this nobody appends who looked at the state before it was final.
            return True

    def _tell_waiters(self, error: BaseException | None) -> None:
        for waiter in self._waiters:
            if self._state != FINISHED:
                waiter.add_cancelled(self)
            elif error is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)

    def _run_callbacks(self) -> None:
        done, self._done_callbacks = self._done_callbacks, []
        for callback in done:
            self._call(callback)

    def _call(self, callback: Callable[[Future[Any]], object]) -> None:
        try:
            callback(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    # `Waitable`: what the engine asks of something that is waited for.

    @property
    def is_settled(self) -> bool:
        """Whether the state is final, looked at without a lock."""
        return self._state in _FINAL

    # The user's side: the documented methods of `concurrent.futures.Future`.

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the call unless a worker has taken it; return whether it is cancelled.

        Args:
            running: Cancel it even if it runs: `corral.TaskCancelled` is raised inside it, and if it still
            runs a grace later its worker is killed and replaced. Does not wait for that.
        """
        if self._state in _FINAL:
            return self._state != FINISHED
        task = self._task
        if task is not None and not (self._engine.stop(task) if running else self._engine.cancel(task)):
            return False
        # The task is out of the book: nobody else will settle this future.
        return self._finish(CANCELLED_AND_NOTIFIED, None, None) or self._state != FINISHED

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._state in _FINAL and self._state != FINISHED

    def running(self) -> bool:
        """Return whether a worker has taken the call and not yet answered."""
        task = self._task
        return self._state == RUNNING or (
            task is not None and self._state == PENDING and self._engine.running(task)
        )

    def done(self) -> bool:
        """Return whether the call has finished or was cancelled."""
        if self._state in _FINAL:
            return True
        self._engine.poll()
        return self._state in _FINAL

    def result(self, timeout: float | None = None) -> Any:
        """Return the call's value, waiting at most `timeout` seconds for it.

        Raises:
            CancelledError: the call was cancelled.
            TimeoutError: it did not finish in time; it goes on.
            Exception: what the call raised, with the worker's traceback as its cause.
        """
        self._await(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                # The traceback would hold this frame, and so the future, and so the exception.
                self = None  # type: ignore[assignment]  # noqa: PLW0642
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, None if nothing; waits, and raises, as `result` does."""
        self._await(timeout)
        return self._exception

    def _await(self, timeout: float | None) -> None:
        if self._state not in _FINAL:
            self._engine.wait_for(_Goal(self), timeout)
        if self._state != FINISHED:
            if self._state in _FINAL:
                raise CancelledError
            raise TimeoutError

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have `fn(self)` called when the call is done.

        In a helper thread, or at once if it is done already.
        """
        with _settling:
            pending = self._state not in _FINAL
            if pending:
                self._done_callbacks.append(fn)
        if pending:
            self._engine.attend()
        else:
            self._call(fn)

    def set_result(self, result: Any) -> None:
        """Settle by hand, as tests and adapters do."""
        if not self._finish(FINISHED, result, None):
            raise InvalidStateError(f"{self._state}: {self!r}")

    def set_exception(self, exception: BaseException | None) -> None:
        """Settle by hand, as tests and adapters do."""
        if not self._finish(FINISHED, None, exception):
            raise InvalidStateError(f"{self._state}: {self!r}")


class _Goal:
    """A future as the engine's `Waitable` (its own `done` is the user's method)."""

    __slots__ = ("future",)

    def __init__(self, future: TaskFuture) -> None:
        self.future = future

    @property
    def done(self) -> bool:
        return self.future.is_settled

    def park(self, timeout_s: float | None) -> None:
        future = self.future
        condition = future._condition  # noqa: SLF001 - the two are one
        with condition:
            condition.wait_for(lambda: future.is_settled, timeout_s)

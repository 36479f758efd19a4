"""What `Pool`'s asynchronous methods return: the standard library's result objects, on our calls and maps.

Role in the flow: made by the face, waited for by its callers. To the user they live in `corral.pool`.
"""

from __future__ import annotations

import weakref

from corral._engine import callbacks
from corral._engine.calls import Call
from corral._engine.maps import MapCall
from corral._engine.stream import END, ItemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from corral._engine.engine import Engine
    from corral._engine.stream import Stream
    from corral._engine.terms import Terms


def _timeout_error() -> BaseException:
    from corral.errors import TaskTimeout

    return TaskTimeout("the result was not ready in time; the task goes on")


class _Result:
    """What the results of `Pool`'s asynchronous methods share."""

    __slots__ = ()

    _engine: Engine
    done: bool
    value: Any
    error: BaseException | None

    def get(self, timeout: float | None = None) -> Any:
        """Return the value, waiting at most `timeout` seconds for it.

        Raises:
            multiprocessing.TimeoutError: it was not ready in time; the task goes on.
            Exception: what the task raised, with the worker's traceback as its cause.
            KeyboardInterrupt: while it waits; of a map, its `results` has the values so far, by index.
        """
        try:
            if not self.done and not self._engine.wait_for(self, timeout):  # type: ignore[arg-type]
                raise _timeout_error()
        except KeyboardInterrupt as interrupt:
            self._interrupted(interrupt)
            raise
        if self.error is not None:
            raise self.error
        return self.value

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Tell who catches the interrupt what there is so far."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is ready, at most `timeout` seconds."""
        self._engine.wait_for(self, timeout)  # type: ignore[arg-type]

    def ready(self) -> bool:
        """Return whether the task is done."""
        if not self.done:
            self._engine.poll()
        return self.done

    def successful(self) -> bool:
        """Return whether the task ended without an exception.

        Raises:
            ValueError: it is not done.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self.error is None


class AsyncResult(_Result, Call):
    """The result of `Pool.apply_async`."""

    __module__ = "corral.pool"
    __slots__ = ("__weakref__", "_callback", "_error_callback", "pool")

    def __init__(
        self,
        engine: Engine,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        # Not by way of the bases: this is made for every task.
        self.done = False
        self._event = None
        self._engine = engine
        self.value = self.error = self.task = None
        self.pool: object = None  # kept until done: `Pool().apply_async(f).get()` has no other holder
        self._callback = callback
        self._error_callback = error_callback

    def open(self) -> None:
        """Have the callback called, and then be done."""
        if self._callback is not None or self._error_callback is not None:
            _notify(self, super().open)
            return
        self.done = True
        if self._event is not None:
            self._event.set()
        self.pool = self.task = None

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the call unless a worker has taken it; return whether it is cancelled.

        Then `get` raises `concurrent.futures.CancelledError`.

        Args:
            running: Cancel it even if it runs: `corral.TaskCancelled` is raised inside it, and if it still
            runs a grace later its worker is killed and replaced. Does not wait for that.
        """
        task = self.task
        if self.done or task is None:
            return False
        if not (self._engine.stop(task) if running else self._engine.cancel(task)):
            return False
        self.failed(task, _cancelled())
        return True


def _cancelled() -> BaseException:
    from concurrent.futures import CancelledError

    return CancelledError()


ApplyResult = AsyncResult


class MapResult(_Result, MapCall):
    """The result of `Pool.map_async` and `Pool.starmap_async`: a list, in order."""

    __module__ = "corral.pool"
    __slots__ = ("__weakref__", "_callback", "_error_callback", "pool")

    def __init__(
        self,
        engine: Engine,
        function: Callable[..., Any],
        items: Sequence[Any],
        *,
        star: bool,
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        terms: Terms | None = None,
        collect: bool = False,
    ) -> None:
        self.pool: object = None  # as in `AsyncResult`
        self._callback = callback
        self._error_callback = error_callback
        super().__init__(
            engine, function, items, star=star, chunksize=chunksize, terms=terms, collect=collect
        )

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        interrupt.results = self.so_far()  # type: ignore[attr-defined]

    def open(self) -> None:
        """Have the callback called, and then be done."""
        _notify(self, super().open)

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the map; return False if it was done. What no worker has taken is not run any more.

        Then `get` raises `concurrent.futures.CancelledError`.

        Args:
            running: Stop what runs, too, as `AsyncResult.cancel` does; else it runs to its end, for nothing.
        """
        return self.stop(running=running)


def _notify(result: AsyncResult | MapResult, done: Callable[[], None]) -> None:
    callback: Any
    if result.error is None:
        callback, value = result._callback, result.value  # noqa: SLF001 - of this module
    else:
        callback, value = result._error_callback, result.error  # noqa: SLF001
    if callback is None:
        done()
        result.pool = None
    else:
        callbacks.defer(_call_back, callback, value, result, done)


def _call_back(callback: Any, value: Any, result: AsyncResult | MapResult, done: Callable[[], None]) -> None:
    # As the standard library's: who has waited for the result finds that the callback has run.
    try:
        callback(value)
    finally:
        done()
        result.pool = None
        result._engine.announce()  # noqa: SLF001


class IMapIterator:
    """The iterator that `Pool.imap` and `Pool.imap_unordered` return."""

    __module__ = "corral.pool"

    def __init__(self, stream: Stream, pool: object) -> None:
        self._stream = stream
        self._pool = pool  # `Pool().imap(f, items)` has no other holder
        # When nobody can ask for more, nothing more is pulled.
        self._finalizer = weakref.finalize(self, stream.drop_soon)
        self._finalizer.atexit = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, waiting at most `timeout` seconds for it.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it was not ready in time; ask again.
            Exception: what the item's call raised; the next call returns the next item's result.
        """
        try:
            return self._stream.next(timeout)
        except TimeoutError as error:
            if timeout is None or error.args:
                raise
            raise _timeout_error() from None

    def __next__(self) -> Any:
        stream = self._stream
        value = next(stream.values, END)
        if value is END:
            value = stream.advance()
        if type(value) is ItemFailure:
            raise value.error
        return value


IMapUnorderedIterator = IMapIterator

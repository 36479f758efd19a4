"""`multiprocessing.pool` on corral's engine: `Pool`, `AsyncResult` and the iterators of `imap`.

Thin: the standard library's names, defaults and exceptions; everything else is the engine's.
"""

from __future__ import annotations

import itertools
import os
import warnings
import weakref

from corral._backends.local import LocalBackend, share_of_threads
from corral._engine import callbacks
from corral._engine.calls import Call, MapCall, call_task
from corral._engine.engine import Engine
from corral._engine.obituary import again
from corral._engine.stream import END, ItemFailure, Stream
from corral.errors import EncodeError, PoolClosed, RemoteTraceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Self

    from corral._engine.ports import Child
    from corral._threadpool import ThreadPool as ThreadPool

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "RemoteTraceback",
    "ThreadPool",
]

MaybeEncodingError = EncodeError

_SIZED = (list, tuple, range)


def __getattr__(name: str) -> object:
    """Load `ThreadPool` when it is named: few programs do."""
    if name != "ThreadPool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from corral._threadpool import ThreadPool

    return ThreadPool


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
        """
        if not self.done and not self._engine.wait_for(self, timeout):  # type: ignore[arg-type]
            raise _timeout_error()
        if self.error is not None:
            raise self.error
        return self.value

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
        self.pool: Pool | None = None  # kept until done: `Pool().apply_async(f).get()` has no other holder
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
        self.pool = None


ApplyResult = AsyncResult


class MapResult(_Result, MapCall):
    """The result of `Pool.map_async` and `Pool.starmap_async`: a list, in order."""

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
    ) -> None:
        self.pool: Pool | None = None  # as in `AsyncResult`
        self._callback = callback
        self._error_callback = error_callback
        super().__init__(engine, function, items, star=star, chunksize=chunksize)

    def open(self) -> None:
        """Have the callback called, and then be done."""
        _notify(self, super().open)


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

    def __init__(self, stream: Stream, pool: Pool) -> None:
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


class Pool:
    """A pool of worker processes (`multiprocessing.pool.Pool`).

    Args:
        processes: Number of workers; None for the CPUs really available (affinity, cgroup,
        `PYTHON_CPU_COUNT`).
        initializer: Called as `initializer(*initargs)` in each worker when it starts.
        maxtasksperchild: A worker is replaced after this many tasks (chunks count as one).
        context: A context (`corral.get_context`) or the name of a start method; None for the default.
        forward: Which of "logging", "warnings" and "prints" of the workers come home, to go through this
        process's own loggers, `warnings.showwarning` and streams; True for all, False for none; the first two
        by default.
        blas_threads: How many threads OpenMP, OpenBLAS, MKL and the like may use in each worker; None for the
        processors divided by the workers, 0 to leave them alone. What the environment says goes before.

    Leaving a `with` block terminates the pool. Thread-safe. Workers that die are replaced; only the
    task that such a worker was running fails, with `corral.WorkerLost`.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        forward: bool | str | Iterable[str] | None = None,
        blas_threads: int | None = None,
    ) -> None:
        from corral._engine.messages import choose
        from corral.context import cpu_count

        if processes is None:
            processes = cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        limit: object = maxtasksperchild  # whatever it is
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        method = start_method(context)
        self._processes = processes
        self._owner = os.getpid()
        backend = LocalBackend(
            method,
            cpus=cpu_count(),
            name=_names(f"{method.title()}PoolWorker"),
            initializer=initializer,
            initargs=tuple(initargs),
            forward=choose(forward),
            blas_threads=share_of_threads(blas_threads, cpu_count(), processes),
        )
        self._engine = Engine(backend, processes, tasks_per_worker=maxtasksperchild)
        self._finalizer = weakref.finalize(self, self._engine.leash.drop)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "CLOSE" if self._engine.closing else "RUN"
        if self._engine.gone.done or self._engine.broken is not None:
            state = "TERMINATE"
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} state={state} pool_size={self._processes}>"
        )

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and not engine.closing and self._owner == os.getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    @property
    def _pool(self) -> list[Child]:
        """The workers of this moment: a private name of the standard library's that programs use."""
        return self._engine.workers_now()

    def _check_running(self) -> None:
        engine = self._engine
        if engine.broken is not None and not isinstance(engine.broken, PoolClosed):
            raise again(engine.broken)
        if engine.closing:
            raise PoolClosed("Pool not running")

    # One call.

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        """Call `func(*args, **kwds)` in a worker and return its value; blocks until it is there."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Have `func(*args, **kwds)` called in a worker; return at once.

        Callbacks run in a helper thread. What cannot be pickled is the result's error.
        """
        engine = self._engine
        if engine.closing:
            self._check_running()
        result = AsyncResult(engine, callback, error_callback)
        result.pool = self
        try:
            engine.submit(call_task(engine.snapshot, func, tuple(args), kwds, result))
        except Exception as error:
            result.failed(None, error)
        return result

    # Maps that collect a list.

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Return `[func(x) for x in iterable]`, computed in the workers; blocks until it is there.

        Args:
            chunksize: Items sent at a time; None tunes it to their duration.

        Raises:
            Exception: the first failure to arrive, once every item has been run.
        """
        result: list[Any] = self.map_async(func, iterable, chunksize).get()
        return result

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with each item unpacked as arguments: `func(*item)`."""
        result: list[Any] = self.starmap_async(func, iterable, chunksize).get()
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """As `map`, returning at once."""
        return self._map(func, iterable, False, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """As `starmap`, returning at once."""
        return self._map(func, iterable, True, chunksize, callback, error_callback)

    def _map(
        self, func: Any, iterable: Any, star: bool, chunksize: int | None, callback: Any, error_callback: Any
    ) -> MapResult:
        self._check_running()
        _check_chunksize(chunksize)
        items = iterable if isinstance(iterable, _SIZED) else list(iterable)
        result = MapResult(
            self._engine,
            func,
            items,
            star=star,
            chunksize=chunksize,
            callback=callback,
            error_callback=error_callback,
        )
        result.pool = self
        result.start()
        return result

    # Maps whose results are taken one by one.

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator:
        """Return an iterator over `func(x) for x in iterable`, in order.

        The input is pulled as results are taken: at most `buffersize` items ahead (default: 32 per
        worker, more for very short tasks, and no fewer than three chunks per worker of a size you chose).
        """
        return self._imap(func, iterable, True, chunksize, buffersize)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator:
        """As `imap`, each result as soon as it is there."""
        return self._imap(func, iterable, False, chunksize, buffersize)

    def _imap(
        self, func: Any, iterable: Any, ordered: bool, chunksize: int | None, buffersize: int | None
    ) -> IMapIterator:
        self._check_running()
        _check_chunksize(chunksize)
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be at least 1, or None")
        stream = Stream(
            self._engine,
            func,
            iterable,
            ordered=ordered,
            star=False,
            chunksize=chunksize,
            window=buffersize,
        )
        iterator = IMapIterator(stream, self)
        stream.start()
        return iterator

    # Ending.

    def close(self) -> None:
        """Take no more work; the workers leave once what was given is done."""
        self._engine.close()

    def terminate(self) -> None:
        """Stop the workers at once; what was not done fails with `corral.PoolClosed`."""
        self._engine.terminate(PoolClosed("the pool was terminated before the task was done"))

    def join(self) -> None:
        """Wait for the workers to leave.

        Raises:
            ValueError: the pool was neither closed nor terminated.
        """
        if not self._engine.closing:
            raise ValueError("Pool is still running")
        self._engine.join()


def _check_chunksize(chunksize: int | None) -> None:
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")


def _names(prefix: str) -> Callable[[], str]:
    count = itertools.count(1)
    return lambda: f"{prefix}-{next(count)}"


def start_method(context: Any) -> str:
    """Return the name of the start method that a `context=` argument asks for."""
    if isinstance(context, str):
        return context
    if context is None:
        from corral.context import get_start_method

        return str(get_start_method())
    return str(context.get_start_method())

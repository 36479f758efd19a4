"""`concurrent.futures` on corral's engine: `ProcessPoolExecutor`, and the names that go with it.

Thin: the standard library's names, defaults and exceptions; everything else is the engine's.
"""

from __future__ import annotations

import itertools
import os
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from time import monotonic

from corral._backends.local import LocalBackend, kind_of, share_of_threads
from corral._engine.calls import call_task
from corral._engine.engine import Engine
from corral._engine.future import TaskFuture
from corral._engine.obituary import again, pool_broken
from corral._engine.retrying import under_terms
from corral._engine.sizing import check_limits, check_range
from corral._engine.stream import END, ItemFailure, Stream
from corral._engine.terms import agree
from corral.errors import RemoteTraceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures.process import BrokenProcessPool as BrokenProcessPool
    from typing import Any, Self, Unpack

    from corral._engine.ports import Child
    from corral._engine.terms import Terms, Wishes

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "TimeoutError",
    "as_completed",
    "cancel",
    "wait",
]

_RemoteTraceback = RemoteTraceback  # a private name of the standard library's that programs use
TimeoutError = TimeoutError  # noqa: A001, PLW0127 - the name belongs to the module's interface


def __getattr__(name: str) -> object:
    """Load `BrokenProcessPool` when it is named: its module is slow to import."""
    if name != "BrokenProcessPool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from concurrent.futures.process import BrokenProcessPool

    return BrokenProcessPool


def cancel(future: Any) -> bool:
    """Cancel a call even if it runs; return False if it was done.

    `corral.TaskCancelled` is raised inside it, and if it still runs a grace later (1 second, or what its
    terms say), its worker is killed and replaced. Does not wait for that; who waits for the call hears at
    once.

    Args:
        future: A future of corral's executor, or a result of `Pool.apply_async`, `map_async` or
        `starmap_async`. A future of another kind is cancelled as far as it can be.
    """
    try:
        cancelled: bool = future.cancel(running=True)
    except TypeError:
        cancelled = future.cancel()
    return cancelled


class ProcessPoolExecutor(Executor):
    """An executor whose workers are processes (`concurrent.futures.ProcessPoolExecutor`).

    Args:
        max_workers: Number of workers; None for the CPUs really available. They are started as work comes.
        mp_context: A context (`corral.get_context`) or the name of a start method; None for the default.
        initializer: Called as `initializer(*initargs)` in each worker when it starts; if it raises, the
        executor is broken with that exception as the cause.
        max_tasks_per_child: A worker is replaced after this many tasks.
        forward: As for `corral.Pool`: which of "logging", "warnings" and "prints" of the workers come home.
        blas_threads: How many threads OpenMP, OpenBLAS, MKL and the like may use in each worker; None for the
        processors divided by the workers, 0 to leave them alone. What the environment says goes before.
        memory_limit, idle_timeout: As for `corral.Pool`. A pair as `max_workers` is the least and the most.

    Leaving a `with` block waits for all futures. Thread-safe. A worker that dies is replaced; only the
    task that it was running fails, with `corral.WorkerLost` (a `BrokenProcessPool`).
    """

    def __init__(
        self,
        max_workers: int | tuple[int, int] | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        forward: bool | str | Iterable[str] | None = None,
        blas_threads: int | None = None,
        memory_limit: int | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        from corral._engine.messages import choose
        from corral.context import cpu_count

        if max_workers is None:
            max_workers = cpu_count()
        elif isinstance(max_workers, int) and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        least, most = check_range(max_workers)
        check_limits(memory_limit, idle_timeout)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        context = _context(mp_context, replaces=max_tasks_per_child is not None)
        method = context.get_start_method()
        self._mp_context = context
        self._max_workers = most
        self._owner = os.getpid()
        count = itertools.count(1)
        backend = LocalBackend(
            method,
            cpus=cpu_count(),
            name=lambda: f"{kind_of(method)}Process-{next(count)}",
            initializer=initializer,
            initargs=initargs,
            exit_is_result=True,
            forward=choose(forward),
            blas_threads=share_of_threads(blas_threads, cpu_count(), most),
            memory_bytes=memory_limit,
        )
        self._engine = Engine(
            backend,
            most,
            tasks_per_worker=max_tasks_per_child,
            on_demand=True,
            drain_at_exit=True,
            least=least if isinstance(max_workers, tuple) else None,
            idle_s=idle_timeout,
        )
        self._finalizer = weakref.finalize(self, self._engine.leash.drop)
        self._finalizer.atexit = False
        self._terms: Terms | None = None

    def options(self, **wishes: Unpack[Wishes]) -> Self:
        """Return a view of this executor whose calls run under the given terms; the workers are the same.

        See `corral.Pool.options` for the terms. What is submitted by the view's `submit` and `map` is
        subject to them; the `timeout` of `map` keeps its meaning, which is how long to wait for results.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, _terms=agree(self._terms, wishes), _viewed=self)
        return view

    @property
    def _processes(self) -> dict[int, Child]:
        """The workers of this moment by pid: a private name of the standard library's that programs use."""
        return {child.pid: child for child in self._engine.workers_now()}

    @property
    def _broken(self) -> str | bool:
        """Why the executor is broken, or False: another such name."""
        return str(self._engine.broken) if self._engine.broken is not None else False

    def _check_running(self) -> None:
        engine = self._engine
        if engine.broken is not None:
            raise again(engine.broken)
        if engine.closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `fn(*args, **kwargs)` called in a worker; return its future at once.

        What cannot be pickled is the future's exception: `corral.EncodeError`, a `pickle.PicklingError`.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenProcessPool: the executor is broken.
        """
        engine = self._engine
        if engine.closing:
            self._check_running()
        future = TaskFuture(engine)
        try:
            task = call_task(engine.snapshot, fn, args, kwargs, future)
        except Exception as error:
            future.set_exception(error)
            return future
        if self._terms is not None:
            task = under_terms(engine, task, self._terms)
        future._task = task  # noqa: SLF001 - the engine's own future
        engine.submit(task)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Return an iterator over `map(fn, *iterables)`, computed in the workers, in order.

        Args:
            timeout: Seconds from this call until every result must have been taken.
            chunksize: Items sent at a time; None tunes it to their duration.
            buffersize: Pull the input lazily, at most this many items ahead of the results taken; None
            pulls it whole, at once, as the standard library does.

        Raises:
            TimeoutError: by the iterator, when the time is up.
            Exception: by the iterator, what a call raised; what was not yet sent is then cancelled.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        self._check_running()
        star = len(iterables) != 1
        items: Iterable[Any] = zip(*iterables, strict=False) if star else iterables[0]
        if buffersize is None and not isinstance(items, (tuple, range)):
            items = list(items)
        deadline = None if timeout is None else monotonic() + timeout
        stream = Stream(
            self._engine,
            fn,
            items,
            ordered=True,
            star=star,
            chunksize=chunksize,
            window=buffersize,
            eager=buffersize is None,
            terms=self._terms,
        )
        stream.start()
        return _results(stream, deadline)

    def resize(self, max_workers: int) -> None:
        """Have that many workers at most from now on; those who are too many end what they run, and leave.

        Raises:
            ValueError: fewer than one.
            RuntimeError: the executor was shut down.
        """
        _, most = check_range(max_workers)
        self._check_running()
        self._engine.resize(most)
        self._max_workers = most

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; the workers leave once what was given is done.

        Args:
            wait: Block until they have.
            cancel_futures: Cancel what no worker has taken yet.
        """
        engine = self._engine
        engine.close(cancel=cancel_futures)
        if wait:
            engine.join()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Wait for all futures; after a Ctrl-C stop what runs instead."""
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._engine.terminate(pool_broken("the program was interrupted", error))
            self.shutdown(wait=True)
        except KeyboardInterrupt as again:
            # Once more, or while waiting for what runs.
            self._engine.terminate(pool_broken("the program was interrupted", again), kill=True)
            raise

    def terminate_workers(self) -> None:
        """Stop the workers at once (SIGTERM); futures not done fail with `BrokenProcessPool`."""
        self._engine.terminate(pool_broken("the executor's workers were terminated", None))

    def kill_workers(self) -> None:
        """Stop the workers at once (SIGKILL); futures not done fail with `BrokenProcessPool`."""
        self._engine.terminate(pool_broken("the executor's workers were killed", None), kill=True)


def _context(asked: Any, *, replaces: bool) -> Any:
    """Return the context that an executor starts its workers by; `replaces`: also later on.

    Raises:
        ValueError: it would fork this process again and again, which by then may run threads.
    """
    from corral.context import get_context

    context = get_context(asked) if asked is None or isinstance(asked, str) else asked
    if replaces and context.get_start_method() == "fork":
        if asked is not None:
            raise ValueError("max_tasks_per_child is incompatible with the start method 'fork'; use another")
        return get_context("spawn")
    return context


def _results(stream: Stream, deadline: float | None) -> Iterator[Any]:
    # A generator, as the standard library's: the first exception ends it, and closing it cancels the rest.
    try:
        while True:
            try:
                stream.fetch(None if deadline is None else max(0.0, deadline - monotonic()))
            except StopIteration:
                return
            while stream.flawed and (value := next(stream.values, END)) is not END:
                if type(value) is ItemFailure:
                    raise value.error
                yield value
            # No value has a name here while the caller has it, who may be the only one to need it.
            yield from stream.values
    finally:
        stream.drop()

"""`multiprocessing.pool` on corral's engine: `Pool`, `AsyncResult` and the iterators of `imap`.

Thin: the standard library's names, defaults and exceptions; everything else is the engine's.
"""

from __future__ import annotations

import itertools
import os
import warnings
import weakref

from corral._backends.local import LocalBackend, kind_of, share_of_threads
from corral._engine.calls import call_task
from corral._engine.engine import Engine
from corral._engine.obituary import again
from corral._engine.results import ApplyResult, AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult
from corral._engine.retrying import under_terms
from corral._engine.sizing import check_limits, check_range
from corral._engine.stream import Stream
from corral._engine.terms import agree, agree_on_map
from corral.errors import EncodeError, PoolClosed, RemoteTraceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Self, Unpack

    from corral._engine.ports import Child
    from corral._engine.terms import MapWishes, Terms, Wishes
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


class Pool:
    """A pool of worker processes (`multiprocessing.pool.Pool`).

    Args:
        processes: Number of workers; None for the CPUs really available (affinity, cgroup,
        `PYTHON_CPU_COUNT`). A pair is the least and the most: workers come as there is work for them, and
        leave when they had none for `idle_timeout`.
        initializer: Called as `initializer(*initargs)` in each worker when it starts.
        maxtasksperchild: A worker is replaced after this many tasks (chunks count as one).
        context: A context (`corral.get_context`) or the name of a start method; None for the default.
        forward: Which of "logging", "warnings" and "prints" of the workers come home, to go through this
        process's own loggers, `warnings.showwarning` and streams; True for all, False for none; the first two
        by default.
        blas_threads: How many threads OpenMP, OpenBLAS, MKL and the like may use in each worker; None for the
        processors divided by the workers, 0 to leave them alone. What the environment says goes before.
        memory_limit: Bytes of memory of its own that a worker may use. Near it (nine tenths), it is replaced
        between two tasks; above it, it is killed during one, which then fails with `corral.WorkerLost`.
        idle_timeout: Seconds after which a worker leaves that had nothing to do for so long; a new one comes
        when there is. By default none leaves; of a pair's range, after 60 seconds.

    Leaving a `with` block terminates the pool. Thread-safe. Workers that die are replaced; only the
    task that such a worker was running fails, with `corral.WorkerLost`.
    """

    def __init__(
        self,
        processes: int | tuple[int, int] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        forward: bool | str | Iterable[str] | None = None,
        blas_threads: int | None = None,
        memory_limit: int | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        from corral._engine.messages import choose
        from corral.context import cpu_count

        least, most = check_range(cpu_count() if processes is None else processes)
        limit: object = maxtasksperchild  # whatever it is
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        method = start_method(context)
        check_limits(memory_limit, idle_timeout)
        self._processes = most
        self._owner = os.getpid()
        backend = LocalBackend(
            method,
            cpus=cpu_count(),
            name=_names(f"{kind_of(method)}PoolWorker"),
            initializer=initializer,
            initargs=tuple(initargs),
            forward=choose(forward),
            blas_threads=share_of_threads(blas_threads, cpu_count(), most),
            memory_bytes=memory_limit,
        )
        self._engine = Engine(
            backend,
            most,
            tasks_per_worker=maxtasksperchild,
            least=least if isinstance(processes, tuple) else None,
            idle_s=idle_timeout,
        )
        self._finalizer = weakref.finalize(self, self._engine.leash.drop)
        self._finalizer.atexit = False
        self._terms: Terms | None = None
        self._viewed: Pool | None = None

    def options(self, **wishes: Unpack[Wishes]) -> Self:
        """Return a view of this pool whose calls run under the given terms; the workers are the same.

        Args:
            timeout: Seconds that a call (of a map: each item) may run. Then `corral.TaskTimeout` is raised
            inside it; if it still runs `grace` seconds later, its worker is killed and replaced. Its result
            is the `TaskTimeout`, unless it catches that one and returns in time. Waiting for a worker does
            not count.
            grace: See `timeout`; 1 second by default.
            retries: How often a call that failed is tried again. The death of its worker is a failure too;
            but a call that was running at the death of three workers fails with `corral.PoisonTask`.
            retry_on: The exceptions after which it is; `Exception` by default.
            backoff: Seconds to wait before the first retry; twice as long before each further one, and up to
            half of it less, by chance.

        Raises:
            TypeError, ValueError: these cannot be terms.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, _terms=agree(self._terms, wishes), _viewed=self)
        return view

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
        if engine is None or engine.closing or self._owner != os.getpid():
            return
        if self._viewed is None:
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

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        **wishes: Unpack[Wishes],
    ) -> Any:
        """Call `func(*args, **kwds)` in a worker and return its value; blocks until it is there.

        Args:
            wishes: Terms of this call, as `options` takes them.
        """
        return self.apply_async(func, args, kwds, **wishes).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **wishes: Unpack[Wishes],
    ) -> AsyncResult:
        """Have `func(*args, **kwds)` called in a worker; return at once.

        Callbacks run in a helper thread. What cannot be pickled is the result's error.

        Args:
            wishes: Terms of this call, as `options` takes them.
        """
        engine = self._engine
        if engine.closing:
            self._check_running()
        terms = agree(self._terms, wishes) if wishes else self._terms
        result = AsyncResult(engine, callback, error_callback)
        result.pool = self
        try:
            task = call_task(engine.snapshot, func, tuple(args), kwds, result)
            if terms is not None:
                task = under_terms(engine, task, terms)
            result.task = task
            engine.submit(task)
        except Exception as error:
            result.failed(None, error)
        return result

    # Maps that collect a list.

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        **wishes: Unpack[MapWishes],
    ) -> list[Any]:
        """Return `[func(x) for x in iterable]`, computed in the workers; blocks until it is there.

        Args:
            chunksize: Items sent at a time; None tunes it to their duration.
            wishes: Terms of this call, as `options` takes them (each item is a call); and `errors`:
            "raise", the default, or "collect".

        Raises:
            Exception: the first failure to arrive, once every chunk has been run.
            corral.MapErrors: with `errors="collect"`, all failures, and the results that succeeded.
        """
        result: list[Any] = self.map_async(func, iterable, chunksize, **wishes).get()
        return result

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **wishes: Unpack[MapWishes],
    ) -> list[Any]:
        """As `map`, with each item unpacked as arguments: `func(*item)`."""
        result: list[Any] = self.starmap_async(func, iterable, chunksize, **wishes).get()
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **wishes: Unpack[MapWishes],
    ) -> MapResult:
        """As `map`, returning at once."""
        return self._map(func, iterable, False, chunksize, callback, error_callback, wishes)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **wishes: Unpack[MapWishes],
    ) -> MapResult:
        """As `starmap`, returning at once."""
        return self._map(func, iterable, True, chunksize, callback, error_callback, wishes)

    def _map(
        self,
        func: Any,
        iterable: Any,
        star: bool,
        chunksize: int | None,
        callback: Any,
        error_callback: Any,
        wishes: MapWishes,
    ) -> MapResult:
        self._check_running()
        _check_chunksize(chunksize)
        terms, collect = agree_on_map(self._terms, wishes) if wishes else (self._terms, False)
        items = iterable if isinstance(iterable, _SIZED) else list(iterable)
        result = MapResult(
            self._engine,
            func,
            items,
            star=star,
            chunksize=chunksize,
            callback=callback,
            error_callback=error_callback,
            terms=terms,
            collect=collect,
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
        **wishes: Unpack[Wishes],
    ) -> IMapIterator:
        """Return an iterator over `func(x) for x in iterable`, in order.

        The input is pulled as results are taken: at most `buffersize` items ahead (default: 32 per
        worker, more for very short tasks, and no fewer than three chunks per worker of a size you chose).
        What an item, or the input, raises comes in its place, and the iterator goes on with the next.

        Args:
            wishes: Terms of this call, as `options` takes them; each item is a call.
        """
        return self._imap(func, iterable, True, chunksize, buffersize, wishes)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        **wishes: Unpack[Wishes],
    ) -> IMapIterator:
        """As `imap`, each result as soon as it is there."""
        return self._imap(func, iterable, False, chunksize, buffersize, wishes)

    def stream(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        *,
        ordered: bool = False,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **wishes: Unpack[Wishes],
    ) -> IMapIterator:
        """Return an iterator over results as they become ready, of an input that may never end.

        `imap_unordered` by another name, or `imap` if `ordered`.
        """
        return self._imap(func, iterable, ordered, chunksize, buffersize, wishes)

    def _imap(
        self,
        func: Any,
        iterable: Any,
        ordered: bool,
        chunksize: int | None,
        buffersize: int | None,
        wishes: Wishes,
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
            terms=agree(self._terms, wishes) if wishes else self._terms,
        )
        iterator = IMapIterator(stream, self)
        stream.start()
        return iterator

    def resize(self, processes: int) -> None:
        """Have that many workers from now on; those who are too many end what they run, and leave.

        Raises:
            ValueError: fewer than one, or the pool is closed.
            OSError: not all that are missing could be started.
        """
        _, most = check_range(processes)
        self._check_running()
        self._engine.resize(most)
        self._processes = most

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

"""The subjects: corral, the standard library, and peers where they are installed, behind one small face.

Every subject is used as its documentation says, with its defaults; what is given is the number of workers.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import as_completed
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self


class Contestant:
    """Something that can be measured."""

    name: ClassVar[str]
    side: ClassVar[str] = "peer"
    """``ours``, ``stdlib`` or ``peer``."""
    needs: ClassVar[str | None] = None
    """The module that must be installed for it."""
    slowness: ClassVar[int] = 1
    """How many times fewer small tasks it is given, so that its cell takes seconds; figures are per task."""


class Subject(Contestant):
    """A way of running tasks in other processes. Entered, it has its workers; left, it has none."""

    script: ClassVar[str]
    """A whole program, as a user writes it, that maps 100 items."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool: Any = self.start()

    def start(self) -> Any:
        """Start the workers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.pool.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.pool.__exit__(*exc_info)

    def submit(self, function: Callable[..., Any], argument: Any) -> Callable[[], Any]:
        """Start one task; what is returned waits for its result."""
        raise NotImplementedError

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Iterable[Any]:
        """Map in order; without `chunksize`, as the subject sees fit."""
        options = {} if chunksize is None else {"chunksize": chunksize}
        return self.pool.map(function, items, **options)  # type: ignore[no-any-return]

    def unordered(
        self, function: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Map, results as they are ready; without `chunksize`, as the subject sees fit."""
        raise NotImplementedError

    def lazy(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Map an input that may be endless, one result after the other."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Drop what is under way."""


class PoolSubject(Subject):
    """Has the face of `multiprocessing.Pool`."""

    def lazy(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.pool.imap(function, items)  # type: ignore[no-any-return]

    def submit(self, function: Callable[..., Any], argument: Any) -> Callable[[], Any]:
        return self.pool.apply_async(function, (argument,)).get  # type: ignore[no-any-return]

    def unordered(
        self, function: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        options = {} if chunksize is None else {"chunksize": chunksize}
        return self.pool.imap_unordered(function, items, **options)  # type: ignore[no-any-return]


class ExecutorSubject(Subject):
    """Has the face of `concurrent.futures.Executor`."""

    def submit(self, function: Callable[..., Any], argument: Any) -> Callable[[], Any]:
        return self.pool.submit(function, argument).result  # type: ignore[no-any-return]

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Iterable[Any]:
        return list(super().map(function, items, chunksize))

    def lazy(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.pool.map(function, items)  # type: ignore[no-any-return]

    def abandon(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def unordered(
        self, function: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        del chunksize  # futures are single tasks
        for future in as_completed([self.pool.submit(function, item) for item in items]):
            yield future.result()


class CorralPool(PoolSubject):
    """Ours."""

    name = "corral.Pool"
    side = "ours"
    script = (
        "import corral\ndef f(x): return x * x\nwith corral.Pool(2) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        import corral

        return corral.Pool(self.workers)


class CorralExecutor(ExecutorSubject):
    """Ours."""

    name = "corral executor"
    side = "ours"
    script = (
        "import corral\ndef f(x): return x * x\n"
        "with corral.ProcessPoolExecutor(2) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        import corral

        return corral.ProcessPoolExecutor(self.workers)


class StdlibPool(PoolSubject):
    """`multiprocessing.Pool`, with the start method that this interpreter chooses."""

    name = "stdlib Pool"
    side = "stdlib"
    slowness = 1
    script = (
        "import multiprocessing as mp\ndef f(x): return x * x\n"
        "with mp.get_context('fork').Pool(2) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        import multiprocessing

        return multiprocessing.Pool(self.workers)


class StdlibExecutor(ExecutorSubject):
    """`concurrent.futures.ProcessPoolExecutor`."""

    name = "stdlib executor"
    side = "stdlib"
    slowness = 5
    script = (
        "import multiprocessing as mp\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def f(x): return x * x\n"
        "with ProcessPoolExecutor(2, mp.get_context('fork')) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(self.workers)


class Loky(ExecutorSubject):
    """loky's executor."""

    name = "loky"
    needs = "loky"
    slowness = 5
    script = (
        "import loky\ndef f(x): return x * x\n"
        "with loky.ProcessPoolExecutor(2) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        import loky  # type: ignore[import-not-found]

        return loky.ProcessPoolExecutor(self.workers)


class Pebble(ExecutorSubject):
    """pebble's pool; its map answers with a future of an iterator."""

    name = "pebble"
    needs = "pebble"
    slowness = 5
    script = (
        "import multiprocessing as mp, pebble\ndef f(x): return x * x\n"
        "with pebble.ProcessPool(2, context=mp.get_context('fork')) as p: "
        "print(sum(p.map(f, range(100)).result()))"
    )

    def start(self) -> Any:
        import pebble  # type: ignore[import-not-found]

        return pebble.ProcessPool(self.workers)

    def submit(self, function: Callable[..., Any], argument: Any) -> Callable[[], Any]:
        return self.pool.schedule(function, (argument,)).result  # type: ignore[no-any-return]

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Iterable[Any]:
        return list(self.pool.map(function, items, chunksize=chunksize or 1).result())

    def unordered(
        self, function: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        del chunksize  # futures are single tasks
        for future in as_completed([self.pool.schedule(function, (item,)) for item in items]):
            yield future.result()


class Mpire(PoolSubject):
    """mpire's WorkerPool."""

    name = "mpire"
    needs = "mpire"
    slowness = 5
    script = (
        "import mpire\ndef f(x): return x * x\n"
        "with mpire.WorkerPool(2) as p: print(sum(p.map(f, range(100))))"
    )

    def start(self) -> Any:
        import mpire  # type: ignore[import-not-found]

        return mpire.WorkerPool(self.workers)

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Iterable[Any]:
        return self.pool.map(function, items, chunk_size=chunksize)  # type: ignore[no-any-return]

    def unordered(
        self, function: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        return self.pool.imap_unordered(function, items, chunk_size=chunksize)  # type: ignore[no-any-return]


OURS = (CorralPool, CorralExecutor)
STDLIB = (StdlibPool, StdlibExecutor)
PEERS = (Loky, Pebble, Mpire)
TASK_RUNNERS: tuple[type[Contestant], ...] = (*OURS, *STDLIB, *PEERS)


def installed(subject: type[Contestant]) -> bool:
    """Tell whether a subject can be measured here."""
    return subject.needs is None or importlib.util.find_spec(subject.needs) is not None

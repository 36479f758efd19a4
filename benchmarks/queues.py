"""The workloads of queues: small items one by one and in batches, large ones, round trips."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import Contestant
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEATS = 3
_BATCH = 100
_MEGABYTE = 1_000_000


class Queues(Contestant):
    """Something that has queues."""

    @staticmethod
    def queue() -> Any:
        """Make a queue."""
        raise NotImplementedError

    @staticmethod
    def put_many(queue: Any, items: list[int]) -> None:
        """Put items, all at once."""
        queue.put_many(items)

    @staticmethod
    def get_many(queue: Any) -> list[int]:
        """Get what is there, waiting for the first."""
        items: list[int] = queue.get_many(_BATCH)
        return items


class CorralQueues(Queues):
    """Ours."""

    name = "corral queue"
    side = "ours"

    @staticmethod
    def queue() -> Any:
        import corral

        return corral.Queue()


class StandardQueues(Queues):
    """The standard library's."""

    name = "multiprocessing queue"
    side = "stdlib"
    slowness = 4

    @staticmethod
    def queue() -> Any:
        import multiprocessing

        return multiprocessing.Queue()


class FasterFifoQueues(Queues):
    """faster-fifo's: a ring of fixed size in shared memory."""

    name = "faster-fifo"
    needs = "faster_fifo"
    slowness = 4

    @staticmethod
    def queue() -> Any:
        import faster_fifo  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return faster_fifo.Queue(max_size_bytes=100_000_000)

    @staticmethod
    def put_many(queue: Any, items: list[int]) -> None:
        queue.put_many(items, timeout=100)

    @staticmethod
    def get_many(queue: Any) -> list[int]:
        items: list[int] = queue.get_many(timeout=100, max_messages_to_get=_BATCH)
        return items


def put(subject: type[Queues], queue: Any, count: int) -> None:
    """Put so many numbers, one by one."""
    del subject
    for number in range(count):
        queue.put(number, timeout=100)


def get(subject: type[Queues], queue: Any, count: int) -> None:
    """Get so many numbers, one by one."""
    del subject
    for _ in range(count):
        queue.get(timeout=100)


def put_batches(subject: type[Queues], queue: Any, count: int) -> None:
    """Put so many numbers, in batches."""
    items = list(range(_BATCH))
    for _ in range(count // _BATCH):
        subject.put_many(queue, items)


def get_batches(subject: type[Queues], queue: Any, count: int) -> None:
    """Get so many numbers, as many at once as there are."""
    left = count // _BATCH * _BATCH
    while left > 0:
        left -= len(subject.get_many(queue))


def put_megabytes(subject: type[Queues], queue: Any, count: int) -> None:
    """Put bytes, a megabyte each."""
    del subject
    content = bytes(range(250)) * (_MEGABYTE // 250)
    for _ in range(count):
        queue.put(content, timeout=100)


def _work(subject: type[Queues], deed: Any, queue: Any, count: int, begin: Any, done: Any) -> None:
    """Begin when told, and tell when done: in a process of its own."""
    done.put(0)
    begin.get(timeout=100)
    deed(subject, queue, count)
    done.put(1)


def _seconds(subject: type[Queues], producer: Any, consumer: Any, count: int, pairs: int = 1) -> float:
    """Return what `pairs` producers and consumers, each a process, take for `count` items together."""
    import corral

    queue, begin, done = subject.queue(), corral.Queue(), corral.Queue()
    make = corral.get_context("fork").Process
    deeds = [consumer, producer] * pairs
    arguments = (queue, count // pairs, begin, done)
    processes = [make(target=_work, args=(subject, deed, *arguments)) for deed in deeds]
    for process in processes:
        process.start()
    for _ in processes:
        done.get()
    start = time.perf_counter()
    begin.put_many([1] * len(processes))
    for _ in processes:
        done.get()
    elapsed = time.perf_counter() - start
    for process in processes:
        process.join()
    return elapsed


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(_REPEATS))


def one_by_one(subject: type[Queues], size: int) -> dict[str, float]:
    """Send numbers from one process to another."""
    return {"item": _median(lambda: _seconds(subject, put, get, size)) / size * 1e6}


def two_by_two(subject: type[Queues], size: int) -> dict[str, float]:
    """Send numbers from two processes to two others."""
    return {"item": _median(lambda: _seconds(subject, put, get, size, pairs=2)) / size * 1e6}


def in_batches(subject: type[Queues], size: int) -> dict[str, float]:
    """Send numbers a hundred at a time."""
    return {"item": _median(lambda: _seconds(subject, put_batches, get_batches, size)) / size * 1e6}


def megabytes(subject: type[Queues], size: int) -> dict[str, float]:
    """Send bytes, a megabyte each."""
    elapsed = _median(lambda: _seconds(subject, put_megabytes, get, size))
    return {"throughput": size * _MEGABYTE / elapsed / 1e9}


def round_trips(subject: type[Queues], size: int) -> dict[str, float]:
    """Send a number and wait for it to come back through another queue."""
    import corral

    def echo(there: Any, back: Any) -> None:
        for _ in range(size):
            back.put(there.get(timeout=100), timeout=100)

    def trips() -> float:
        there, back = subject.queue(), subject.queue()
        process = corral.get_context("fork").Process(target=echo, args=(there, back))
        process.start()
        start = time.perf_counter()
        for number in range(size):
            there.put(number, timeout=100)
            back.get(timeout=100)
        elapsed = time.perf_counter() - start
        process.join()
        return elapsed

    return {"round trip": _median(trips) / size * 1e6}


_ALL = (CorralQueues, StandardQueues, FasterFifoQueues)
OF_QUEUES = (
    Workload("queues", "ints, 1 to 1", "us", one_by_one, 200_000, {"item": 0.5}, True, among=_ALL),
    Workload("queues", "ints, 2 to 2", "us", two_by_two, 200_000, {"item": 0.5}, True, among=_ALL),
    Workload(
        "queues",
        "ints in batches of 100",
        "us",
        in_batches,
        1_000_000,
        {"item": 0.1},
        scaled=True,
        among=(CorralQueues, FasterFifoQueues),
    ),
    Workload(
        "queues",
        "bytes of 1 MB",
        "GB/s",
        megabytes,
        1000,
        {"throughput": 10},
        scaled=True,
        more_is_better=True,
        among=_ALL,
    ),
    Workload(
        "queues", "an int there and back", "us", round_trips, 20_000, {"round trip": 5}, True, among=_ALL
    ),
)

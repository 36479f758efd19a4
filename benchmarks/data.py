"""The workloads of large data and of streams: arguments, results, constants, and what is pulled ahead."""

from __future__ import annotations

import functools
import resource
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.workload import WORKERS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.subjects import Subject

_MEGABYTE = 1_000_000


def _array(megabytes: int) -> Any:
    """Make an array whose pages exist."""
    import numpy as np

    return np.full(megabytes * _MEGABYTE // 8, 1.5)


def send_array(subject: type[Subject], size: int) -> dict[str, float]:
    """Send an array to a task that answers with one number: the first time, and once memory is warm."""
    array = _array(size)
    times = []
    with subject(WORKERS) as pool:
        for _ in range(200):
            pool.submit(tasks.noop, 1)()
        for _ in range(7 if size < 500 else 4):
            start = time.perf_counter()
            answer = pool.submit(tasks.last_of, array)()
            times.append(time.perf_counter() - start)
            _check(answer == 1.5)
    return {"first": times[0] * 1e3, "warm": statistics.median(times[2:]) * 1e3}


def there_and_back(subject: type[Subject], size: int) -> dict[str, float]:
    """Send an array and get it back."""
    array = _array(size)
    times = []
    with subject(WORKERS) as pool:
        for _ in range(4):
            start = time.perf_counter()
            answer = pool.submit(tasks.noop, array)()
            times.append(time.perf_counter() - start)
            _check(answer[-1] == 1.5 and answer is not array)
            del answer
    return {"first": times[0] * 1e3, "warm": statistics.median(times[1:]) * 1e3}


def large_results(subject: type[Subject], size: int) -> dict[str, float]:
    """Collect results of 10 MB each, all of them kept."""
    with subject(WORKERS) as pool:
        list(pool.map(tasks.noop, range(100), 1))
        start = time.perf_counter()
        results = list(pool.map(tasks.ten_megabytes, range(size), 1))
        took_s = time.perf_counter() - start
        _check([result[0] for result in results] == list(range(size)))
    return {"wall": took_s * 1e3}


def constant(subject: type[Subject], size: int) -> dict[str, float]:
    """Map a function that was bound to a large array over 100 numbers."""
    bound = functools.partial(tasks.pick, _array(size))
    with subject(WORKERS) as pool:
        list(pool.map(tasks.noop, range(100), 1))
        start = time.perf_counter()
        results = list(pool.map(bound, range(100), 1))
        took_s = time.perf_counter() - start
        _check(results == [1.5] * 100)
    return {"wall": took_s * 1e3}


def pulled_ahead(subject: type[Subject], _size: int) -> dict[str, float]:
    """Take ten results of an endless input's map, pause for a second, and count what was pulled."""
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        while pulled < 1_000_000:
            pulled += 1
            yield pulled

    with subject(WORKERS) as pool:
        list(pool.map(tasks.noop, range(100), 1))
        before_kb = _resident_kb()
        results = pool.lazy(tasks.noop, numbers())
        for _ in range(10):
            next(results)
        time.sleep(1)
        figures = {"inputs": pulled, "growth of the parent, MB": (_resident_kb() - before_kb) / 1000}
        pool.abandon()
    return figures


def _resident_kb() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1000


def _check(correct: bool) -> None:
    if not correct:
        raise RuntimeError("the results are wrong")


OF_DATA = (
    Workload("large data", "100 MB array to a task", "ms", send_array, 100, {"first": 70, "warm": 20}),
    Workload("large data", "1 GB array to a task", "ms", send_array, 1000, {"warm": 180}, rounds=1),
    Workload("large data", "1 GB array there and back", "ms", there_and_back, 1000, {"warm": 350}, rounds=1),
    Workload("large data", "100 results of 10 MB", "ms", large_results, 100, {"wall": 400}),
    Workload("large data", "a 500 MB constant for 100 tasks", "ms", constant, 500, {"wall": 400}, rounds=1),
    Workload(
        "streams",
        "pulled ahead of ten results",
        "",
        pulled_ahead,
        1,
        {"inputs": 64, "growth of the parent, MB": 1},
        divisible=False,
    ),
)

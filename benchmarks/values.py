"""The workloads of shared values: counting under a value's lock, items and slices of arrays."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import Contestant
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

_ITEMS = 1000
_MILLION = 1_000_000
_REPEATS = 5


class Values(Contestant):
    """A module that has Value and Array."""

    @staticmethod
    def module() -> Any:
        """Return the module."""
        raise NotImplementedError


class CorralValues(Values):
    """Ours."""

    name = "corral values"
    side = "ours"

    @staticmethod
    def module() -> Any:
        import corral

        return corral


class StandardValues(Values):
    """The standard library's."""

    name = "multiprocessing values"
    side = "stdlib"

    @staticmethod
    def module() -> Any:
        import multiprocessing

        return multiprocessing


def count(number: Any, times: int) -> None:
    """Count as every tutorial does."""
    for _ in range(times):
        with number.get_lock():
            number.value += 1


def _count_when_all_are_there(number: Any, barrier: Any, times: int) -> None:
    barrier.acquire()
    count(number, times)


def counting(subject: type[Values], size: int) -> dict[str, float]:
    """Count, alone and two processes together."""
    module = subject.module()
    number = module.Value("q", 0)
    alone = _timed(lambda: count(number, size), size)
    together = []
    for _ in range(_REPEATS):
        number.value = 0
        gates = [module.Lock() for _ in range(2)]
        for gate in gates:
            gate.acquire()
        context = module.get_context("fork")
        children = [
            context.Process(target=_count_when_all_are_there, args=(number, gate, size)) for gate in gates
        ]
        for child in children:
            child.start()
        # Both wait by now, or very nearly.
        time.sleep(0.02)
        start = time.perf_counter()
        for gate in gates:
            gate.release()
        for child in children:
            child.join()
        together.append((time.perf_counter() - start) / (2 * size) * 1e6)
        _check(number.value == 2 * size)
    return {"1 process": alone, "2 processes": statistics.median(together)}


def items(subject: type[Values], size: int) -> dict[str, float]:
    """Read, write and list the items of an array with a lock."""
    array = subject.module().Array("d", _ITEMS)
    positions = range(_ITEMS)

    def read() -> None:
        for _ in range(size // _ITEMS):
            for position in positions:
                array[position]

    def write() -> None:
        for _ in range(size // _ITEMS):
            for position in positions:
                array[position] = 1.5

    def listed() -> None:
        for _ in range(size // _ITEMS):
            list(array)

    return {"read": _timed(read, size), "write": _timed(write, size), "list()": _timed(listed, size)}


def slices(subject: type[Values], size: int) -> dict[str, float]:
    """Read and write an array as one slice."""
    array = subject.module().Array("i", size)
    numbers = list(range(size))

    def write() -> None:
        array[:] = numbers

    figures = {"write": _timed(write, 1000), "read": _timed(lambda: array[:], 1000)}
    _check(array[:] == numbers)
    return figures


def _timed(call: Callable[[], object], times: int) -> float:
    """Return how long one of `times` takes, in microseconds: the median of some."""
    call()
    took = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return statistics.median(took) / times * 1e6


def _check(correct: bool) -> None:
    if not correct:
        raise RuntimeError("the results are wrong")


_AMONG = (CorralValues, StandardValues)

OF_VALUES = (
    Workload(
        "shared values",
        "with v.get_lock(): v.value += 1",
        "us",
        counting,
        100_000,
        {"1 process": 0.25, "2 processes": 0.35},
        among=_AMONG,
    ),
    Workload(
        "shared values",
        "item of an array with a lock",
        "us",
        items,
        200_000,
        {"read": 0.08, "write": 0.08, "list()": 0.06},
        among=_AMONG,
    ),
    Workload(
        "shared values",
        "slice of a million items",
        "ms",
        slices,
        _MILLION,
        {"read": 13, "write": 30},
        divisible=False,
        among=_AMONG,
    ),
)

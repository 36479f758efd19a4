"""The workloads of pipes: round trips, small messages one way, bytes, large objects."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import Contestant
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEATS = 3
_KILOBYTE = 1024
_MEGABYTE = 1_000_000


class Pipes(Contestant):
    """A module that has Pipe."""

    @staticmethod
    def module() -> Any:
        """Return the module."""
        raise NotImplementedError


class CorralPipes(Pipes):
    """Ours."""

    name = "corral pipe"
    side = "ours"

    @staticmethod
    def module() -> Any:
        import corral

        return corral


class StandardPipes(Pipes):
    """The standard library's."""

    name = "multiprocessing pipe"
    side = "stdlib"
    slowness = 4

    @staticmethod
    def module() -> Any:
        import multiprocessing

        return multiprocessing


class BilliardPipes(Pipes):
    """Billiard's, which writes to the same sockets from C."""

    name = "billiard pipe"
    needs = "billiard"
    slowness = 4

    @staticmethod
    def module() -> Any:
        import billiard  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return billiard


def echo(connection: Any, count: int) -> None:
    """Send so many messages back."""
    for _ in range(count):
        connection.send(connection.recv())


def drain(connection: Any, count: int) -> None:
    """Receive so many objects, then say so."""
    for _ in range(count):
        connection.recv()
    connection.send(None)


def drain_bytes(connection: Any, count: int) -> None:
    """Receive so many messages of bytes, then say so."""
    for _ in range(count):
        connection.recv_bytes()
    connection.send(None)


def round_trips(subject: type[Pipes], size: int) -> dict[str, float]:
    """Send a number and wait for it to come back."""

    def trips(connection: Any) -> None:
        for number in range(size):
            connection.send(number)
            _check(connection.recv() == number)

    return {"round trip": _seconds(subject, echo, size, trips) / size * 1e6}


def numbers(subject: type[Pipes], size: int) -> dict[str, float]:
    """Send numbers one way."""

    def send(connection: Any) -> None:
        for number in range(size):
            connection.send(number)
        connection.recv()

    return {"message": _seconds(subject, drain, size, send) / size * 1e6}


def kilobytes(subject: type[Pipes], size: int) -> dict[str, float]:
    """Send bytes, a kilobyte each."""
    content = bytes(_KILOBYTE)

    def send(connection: Any) -> None:
        for _ in range(size):
            connection.send_bytes(content)
        connection.recv()

    return {"message": _seconds(subject, drain_bytes, size, send) / size * 1e6}


def megabytes(subject: type[Pipes], size: int) -> dict[str, float]:
    """Send bytes as objects, a megabyte each."""
    content = bytes(range(250)) * (_MEGABYTE // 250)

    def send(connection: Any) -> None:
        for _ in range(size):
            connection.send(content)
        connection.recv()

    return {"throughput": size * _MEGABYTE / _seconds(subject, drain, size, send) / 1e9}


def _seconds(
    subject: type[Pipes], peer: Callable[[Any, int], None], count: int, deed: Callable[[Any], None]
) -> float:
    """Return what `deed` takes with `peer` at the other end, in a process of its own: the median."""
    module = subject.module()
    times = []
    for _ in range(_REPEATS):
        here, there = module.Pipe()
        process = module.get_context("fork").Process(target=peer, args=(there, count))
        process.start()
        there.close()
        start = time.perf_counter()
        deed(here)
        times.append(time.perf_counter() - start)
        process.join()
        here.close()
    return statistics.median(times)


def _check(correct: bool) -> None:
    if not correct:
        raise RuntimeError("another message came back")


_ALL = (CorralPipes, StandardPipes, BilliardPipes)
OF_PIPES = (
    Workload(
        "pipes", "an int there and back", "us", round_trips, 20_000, {"round trip": 5}, True, among=_ALL
    ),
    Workload("pipes", "ints one way", "us", numbers, 200_000, {"message": 0.5}, True, among=_ALL),
    Workload("pipes", "send_bytes of 1 KB", "us", kilobytes, 200_000, {"message": 0.4}, True, among=_ALL),
    Workload(
        "pipes",
        "send of 1 MB",
        "GB/s",
        megabytes,
        1000,
        {"throughput": 8},
        scaled=True,
        more_is_better=True,
        among=_ALL,
    ),
)

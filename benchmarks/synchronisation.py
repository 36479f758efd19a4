"""The workloads of synchronisation: a lock alone and contended, and round trips between two processes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import Contestant
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEATS = 5
_WARMING = 100


class Primitives(Contestant):
    """A module that has Lock, Semaphore, Event, Condition and Barrier."""

    @staticmethod
    def module() -> Any:
        """Return the module."""
        raise NotImplementedError


class CorralPrimitives(Primitives):
    """Ours."""

    name = "corral primitives"
    side = "ours"

    @staticmethod
    def module() -> Any:
        import corral

        return corral


class StandardPrimitives(Primitives):
    """The standard library's."""

    name = "multiprocessing primitives"
    side = "stdlib"
    slowness = 4

    @staticmethod
    def module() -> Any:
        import multiprocessing

        return multiprocessing


def enter_often(lock: Any, times: int) -> None:
    """Take a lock and let go of it."""
    for _ in range(times):
        with lock:
            pass


def _enter_when_told(lock: Any, gate: Any, times: int) -> None:
    gate.acquire()
    enter_often(lock, times)


def locks(subject: type[Primitives], size: int) -> dict[str, float]:
    """Enter a lock, alone and two processes at once."""
    context = subject.module().get_context("fork")
    figures = {}
    for kind in ("Lock", "RLock"):
        lock = getattr(context, kind)()
        alone, together = [], []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            enter_often(lock, size)
            alone.append((time.perf_counter() - start) / size * 1e6)
        for _ in range(_REPEATS):
            gate = context.Semaphore(0)
            children = [context.Process(target=_enter_when_told, args=(lock, gate, size)) for _ in range(2)]
            for child in children:
                child.start()
            # Both wait by now, or very nearly.
            time.sleep(0.02)
            start = time.perf_counter()
            gate.release()
            gate.release()
            for child in children:
                child.join()
            together.append((time.perf_counter() - start) / (2 * size) * 1e6)
        figures[f"{kind} alone"] = statistics.median(alone)
        figures[f"{kind}, 2 processes"] = statistics.median(together)
    return figures


def echo_units(here: Any, there: Any, times: int) -> None:
    """Answer each unit with one."""
    for _ in range(times):
        here.acquire()
        there.release()


def echo_events(here: Any, there: Any, times: int) -> None:
    """Answer each event with one."""
    for _ in range(times):
        here.wait()
        here.clear()
        there.set()


def answer_calls(condition: Any, times: int) -> None:
    """Answer each call with one."""
    with condition:
        for _ in range(times):
            condition.notify()
            condition.wait()
        condition.notify()


def pass_often(barrier: Any, times: int) -> None:
    """Come to a barrier again and again."""
    for _ in range(times):
        barrier.wait()


def round_trips(subject: type[Primitives], size: int) -> dict[str, float]:
    """Wake another process and be woken by it, by each means."""
    context = subject.module().get_context("fork")
    one, other = context.Semaphore(0), context.Semaphore(0)
    this, that = context.Event(), context.Event()
    condition, barrier = context.Condition(), context.Barrier(2)

    def units() -> None:
        one.release()
        other.acquire()

    def events() -> None:
        this.set()
        that.wait()
        that.clear()

    def calls() -> None:
        condition.notify()
        condition.wait()

    def start_calls(child: Any) -> None:
        condition.acquire()
        child.start()
        condition.wait()

    return {
        "Semaphore": _trips(context, echo_units, (one, other), units, size),
        "Event": _trips(context, echo_events, (this, that), events, size),
        "Condition": _trips(context, answer_calls, (condition,), calls, size, start_calls),
        "Barrier": _trips(context, pass_often, (barrier,), barrier.wait, size),
    }


def _trips(
    context: Any,
    peer: Callable[..., None],
    shared: tuple[Any, ...],
    trip: Callable[[], object],
    times: int,
    start: Callable[[Any], object] | None = None,
) -> float:
    """Return how long a round trip takes in the middle case: each of some batches has its mean."""
    batch = max(1, times // 20)
    child = context.Process(target=peer, args=(*shared, _WARMING + 20 * batch), daemon=True)
    (start or (lambda process: process.start()))(child)
    for _ in range(_WARMING):
        trip()
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(batch):
            trip()
        took.append((time.perf_counter() - begun) / batch * 1e6)
    if start is not None:
        # The last call is answered by who waits for it no more.
        shared[0].release()
    child.join()
    return statistics.median(took)


_AMONG = (CorralPrimitives, StandardPrimitives)

OF_PRIMITIVES = (
    Workload(
        "synchronisation",
        "with lock: pass",
        "us",
        locks,
        200_000,
        {"Lock alone": 0.15, "Lock, 2 processes": 0.25},
        among=_AMONG,
    ),
    Workload(
        "synchronisation",
        "round trip between two processes",
        "us",
        round_trips,
        20_000,
        {"Semaphore": 2, "Event": 4, "Condition": 4, "Barrier": 4},
        scaled=True,
        among=_AMONG,
    ),
)
